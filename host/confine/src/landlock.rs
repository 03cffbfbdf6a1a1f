// SPDX-License-Identifier: Apache-2.0

//! Rules for files and networks (Landlock): the granted directories stay open, and nothing else. The kernel enforces them
//! on this process's own threads, which are not trusted once a guest has run.

use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Erratum, LandlockStatus,
    NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus,
    Scope,
};

use super::ConfineError;

/// The newest interface whose rights are used; what an older kernel lacks is left out. It has the right to
/// connect to a socket by its path (Linux, include/uapi/linux/landlock.h, `LANDLOCK_ACCESS_FS_RESOLVE_UNIX`).
const NEWEST: ABI = ABI::V9;
/// The oldest interface that counts as full confinement (Linux 6.2): from it on a read-only file cannot be
/// truncated, which open(2) does with `O_RDONLY | O_TRUNC`. The seccomp filters also forbid what newer
/// interfaces add (TCP, ioctl(2), signals, Unix sockets).
pub const FLOOR: ABI = ABI::V3;
/// The oldest interface with rules for ports of TCP (Linux 6.7).
pub const PORTS: ABI = ABI::V4;

/// Landlock's enforcement for a thread now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// All rules that nothing else replaces are in force.
    Full,
    /// The kernel is older than [`FLOOR`]: only some of those rules are enforced.
    Partial,
    /// The kernel has no Landlock.
    None,
}

impl Enforcement {
    /// The enforcement by a kernel with this interface.
    const fn of(abi: ABI) -> Self {
        match abi {
            ABI::Unsupported => Self::None,
            older if (older as i32) < FLOOR as i32 => Self::Partial,
            _ => Self::Full,
        }
    }

    /// True if it counts as confinement.
    #[must_use]
    pub const fn confines(self) -> bool {
        matches!(self, Self::Full)
    }

    /// Names what is enforced, or what is missing.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full | Self::None => "Landlock",
            Self::Partial => "Landlock as of Linux 6.2",
        }
    }
}

/// The part of TCP that stays allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// Everything.
    All,
    /// These ports, if the kernel supports rules for them (Linux 6.7): a second barrier behind the executor, which also
    /// checks addresses.
    Ports {
        /// Ports to connect to; `None` is all.
        connect: Option<Vec<u16>>,
        /// Ports to bind to, 0 for those of the kernel's choice; `None` is all.
        bind: Option<Vec<u16>>,
    },
    /// Connections to one port, and to the sockets beneath the directories: what looking up names needs.
    Resolver(u16),
    /// Nothing.
    None,
}

impl Tcp {
    /// The rights that are taken away, except for the ports of [`Self::rules`].
    fn handled(&self) -> BitFlags<AccessNet> {
        let handled = |ports: &Option<Vec<u16>>, right: AccessNet| match ports {
            Some(_) => right.into(),
            None => BitFlags::empty(),
        };
        match self {
            Self::All => BitFlags::empty(),
            Self::Ports { connect, bind } => {
                handled(connect, AccessNet::ConnectTcp) | handled(bind, AccessNet::BindTcp)
            }
            Self::Resolver(_) | Self::None => AccessNet::from_all(NEWEST),
        }
    }

    /// The ports that stay allowed.
    fn rules(&self) -> Vec<NetPort> {
        let rules = |ports: &Option<Vec<u16>>, right: AccessNet| -> Vec<NetPort> {
            let ports = ports.iter().flatten();
            ports.map(|port| NetPort::new(*port, right)).collect()
        };
        match self {
            Self::Ports { connect, bind } => {
                let mut all = rules(connect, AccessNet::ConnectTcp);
                all.extend(rules(bind, AccessNet::BindTcp));
                all
            }
            Self::Resolver(port) => vec![NetPort::new(*port, AccessNet::ConnectTcp)],
            Self::All | Self::None => Vec::new(),
        }
    }
}

/// Leaves the calling thread only the given directories, each with true if it is read-only, and
/// what `tcp` says of TCP. Descriptors that are open stay usable.
///
/// # Errors
/// [`ConfineError::Landlock`] when the kernel has Landlock but refuses the rules.
pub fn restrict<'a>(
    directories: impl IntoIterator<Item = (BorrowedFd<'a>, bool)>,
    tcp: &Tcp,
) -> Result<Enforcement, ConfineError> {
    let mut rules = handled(tcp)?.create()?;
    for port in tcp.rules() {
        rules = rules.add_rule(port)?;
    }
    for (directory, read_only) in directories {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let access = match (tcp, read_only) {
            (Tcp::Resolver(_), _) => read | AccessFs::ResolveUnix,
            (_, true) => read,
            // Nothing in it is ever executed or connected to, and no device made. A socket or FIFO that is there
            // may get another name, which is the same right as to make one; what makes one (mknodat(2), and
            // bind(2) of a Unix socket) is not among the system calls.
            (_, false) => {
                AccessFs::from_all(NEWEST)
                    & !(AccessFs::Execute
                        | AccessFs::MakeChar
                        | AccessFs::MakeBlock
                        | AccessFs::IoctlDev
                        | AccessFs::ResolveUnix)
            }
        };
        rules = rules.add_rule(PathBeneath::new(directory, access))?;
    }
    let status = rules.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Enforcement::None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Enforcement::of(effective_abi),
        _ => Enforcement::None,
    })
}

/// Rules that allow nothing, for a process that sets them itself; `None` when the kernel has no Landlock.
///
/// # Errors
/// [`ConfineError::Landlock`] when the kernel has Landlock but refuses the rules.
pub fn deny_all() -> Result<Option<OwnedFd>, ConfineError> {
    // A dedicated process signals nobody, even if an old kernel cannot enforce this.
    let rules: RulesetCreated = handled(&Tcp::None)?.scope(Scope::Signal)?.create()?;
    Ok(rules.into())
}

/// A ruleset that forbids all access to files, abstract sockets and what `tcp` takes away, until rules allow some.
fn handled(tcp: &Tcp) -> Result<Ruleset, ConfineError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket)?;
    // The threads of a Keep signal each other. Before a correction the kernel took those for strangers.
    if Erratum::current().contains(Erratum::ScopedSignalHandling) {
        rules = rules.scope(Scope::Signal)?;
    }
    let network = tcp.handled();
    if !network.is_empty() {
        rules = rules.handle_access(network)?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_limited_to_ports_if_landlock_knows_them() {
        for abi in [ABI::V3, PORTS] {
            assert_eq!(AccessNet::from_all(abi).is_empty(), abi != PORTS, "{abi:?}");
        }
        let some = |connect: Option<&[u16]>, bind: Option<&[u16]>| Tcp::Ports {
            connect: connect.map(<[u16]>::to_vec),
            bind: bind.map(<[u16]>::to_vec),
        };
        let nothing = BitFlags::<AccessNet>::empty();
        for (tcp, handled, rules) in [
            (Tcp::All, nothing, 0),
            (some(None, None), nothing, 0),
            (some(Some(&[1, 2]), None), AccessNet::ConnectTcp.into(), 2),
            (some(None, Some(&[0])), AccessNet::BindTcp.into(), 1),
            (some(Some(&[]), Some(&[])), AccessNet::from_all(PORTS), 0),
            (Tcp::None, AccessNet::from_all(NEWEST), 0),
            (Tcp::Resolver(53), AccessNet::from_all(NEWEST), 1),
        ] {
            assert_eq!(
                (tcp.handled(), tcp.rules().len()),
                (handled, rules),
                "{tcp:?}"
            );
        }
    }

    #[test]
    fn an_interface_without_truncation_is_partial_enforcement() {
        let cuts = |abi| !AccessFs::from_all(abi).contains(AccessFs::Truncate);
        for abi in [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6, NEWEST] {
            let found = Enforcement::of(abi);
            let expected = if cuts(abi) {
                Enforcement::Partial
            } else {
                Enforcement::Full
            };
            assert_eq!((found, found.confines()), (expected, !cuts(abi)), "{abi:?}");
        }
        let none = Enforcement::of(ABI::Unsupported);
        assert_eq!((none, none.confines()), (Enforcement::None, false));
        // The remedy differs: another kernel, or a parameter of this one.
        assert_ne!(none.name(), Enforcement::Partial.name());
    }
}
