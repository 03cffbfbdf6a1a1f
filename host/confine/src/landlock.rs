//! Rules for files and networks (Landlock): the granted directories stay open, and nothing else.

use std::os::fd::{BorrowedFd, OwnedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::ConfineError;

/// The newest interface whose rights are used; what an older kernel lacks is left out (Linux 6.15).
const NEWEST: ABI = ABI::V7;
/// The oldest interface that counts as confinement (Linux 5.13).
pub const FLOOR: ABI = ABI::V1;

/// What Landlock does for a thread now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// All rules of this version hold.
    Full,
    /// The kernel is too old for some of the rules; the others hold.
    Partial,
    /// The kernel has no Landlock.
    None,
}

/// What of TCP stays allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tcp {
    /// Everything.
    All,
    /// Connections to one port.
    Port(u16),
    /// Nothing.
    None,
}

impl Tcp {
    /// Everything where it is granted, nothing otherwise.
    #[must_use]
    pub const fn granted(granted: bool) -> Self {
        if granted { Self::All } else { Self::None }
    }
}

/// Leaves the calling thread only the given directories (with the word whether they are read-only), and
/// what `tcp` says of TCP. Descriptors that are open stay usable.
///
/// # Errors
/// [`ConfineError::Landlock`] when the kernel has Landlock but refuses the rules.
pub fn restrict<'a>(
    directories: impl IntoIterator<Item = (BorrowedFd<'a>, bool)>,
    tcp: Tcp,
) -> Result<Enforcement, ConfineError> {
    let mut rules = handled(tcp != Tcp::All)?.create()?;
    if let Tcp::Port(port) = tcp {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    for (directory, read_only) in directories {
        let access = if read_only {
            AccessFs::ReadFile | AccessFs::ReadDir
        } else {
            // Nothing in it is ever executed, and no device or FIFO made.
            AccessFs::from_all(NEWEST)
                & !(AccessFs::Execute
                    | AccessFs::MakeChar
                    | AccessFs::MakeBlock
                    | AccessFs::MakeFifo
                    | AccessFs::MakeSock
                    | AccessFs::IoctlDev)
        };
        rules = rules.add_rule(PathBeneath::new(directory, access))?;
    }
    let status = rules.restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full,
        RulesetStatus::PartiallyEnforced => Enforcement::Partial,
        RulesetStatus::NotEnforced => Enforcement::None,
    })
}

/// Rules that allow nothing, for a process that sets them itself; none when the kernel has no Landlock.
///
/// # Errors
/// [`ConfineError::Landlock`] when the kernel has Landlock but refuses the rules.
pub fn deny_all() -> Result<Option<OwnedFd>, ConfineError> {
    // A thread keeps its signals to the other threads of the program; a process of its own needs none.
    let rules: RulesetCreated = handled(true)?.scope(Scope::Signal)?.create()?;
    Ok(rules.into())
}

fn handled(tcp: bool) -> Result<Ruleset, ConfineError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::AbstractUnixSocket)?;
    if tcp {
        rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
    }
    Ok(rules)
}
