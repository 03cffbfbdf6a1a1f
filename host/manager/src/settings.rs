// SPDX-License-Identifier: Apache-2.0

//! The decisions of the host's owner about a manager. The owner is trusted by the manager, and by no tenant.

use crate::Cgroups;
use enarx_contract::canonical::Name;
use enarx_contract::{Doors, Image, Platform, Resources};
use enarx_manager_api::{Collateral, Limits, PlatformOffer};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Settings of a manager.
pub struct Settings {
    /// The address to listen on; port 0: one that the system chooses.
    pub listen: SocketAddr,
    /// The state folder, with mode 0700; it is made if it is not there.
    pub state: PathBuf,
    /// The host's name in its offer and in contracts: 1 to 64 of `a`–`z`, `0`–`9`, `.`, `-`, `_`, `+`.
    pub name: String,
    /// The kinds of Keep that [`KeepCommand`] can run.
    pub platforms: Vec<PlatformOffer>,
    /// The most that one token may have.
    pub limits: Limits,
    /// The most that all tokens together may have.
    pub capacity: Capacity,
    /// How often, and how many at a time.
    pub rates: Rates,
    /// The ways of applications to reach outside of their Keeps. A contract whose doors are not all among these is refused.
    pub doors: Doors,
    /// The sizes of Keep that are kept ready; at most [`enarx_manager_api::limit::CLASSES`], each within `limits` and
    /// `capacity`.
    pub classes: Vec<Class>,
    /// After this time, in whole seconds, a Keep that nobody has claimed is replaced: it has not seen updates of its host
    /// since then.
    pub fresh: Duration,
    /// The program that serves one Keep.
    pub keep: KeepCommand,
    /// The cgroup below which each Keep gets one of its own; `None`: Keeps have none.
    pub cgroups: Option<Cgroups>,
    /// Certificate chain and private key, PEM; `None`: the state folder's own.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where the vendor's certificates are found.
    pub collateral: Arc<dyn Collaterals>,
    /// Time that Keeps may continue when the manager has to end.
    pub grace: Duration,
}

/// A size of Keep, and how many started Keeps of this size wait to be claimed. Their contracts are open and have no
/// doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name, which the contracts repeat.
    pub name: Name,
    /// The platform of the contracts: one of the settings' platforms.
    pub platform: Platform,
    /// The image that is measured, `None` exactly where nothing is.
    pub image: Option<Image>,
    /// The resources.
    pub resources: Resources,
    /// The contracts' `detached_seconds_max`.
    pub detached_seconds_max: u32,
    /// The contracts' `runtime_seconds_max`.
    pub runtime_seconds_max: u32,
    /// Number of waiting Keeps. They count towards the host's capacity, and end when another Keep needs the space.
    pub warm: u32,
}

/// The most that all Keeps of a host together may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Keeps.
    pub keeps: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
}

/// Limits of one token over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Launches in a minute, at least 1; a minute's worth of them may come at once.
    pub launches_per_minute: u32,
    /// Requests at a time, sessions and waiting requests among them.
    pub requests: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            launches_per_minute: 30,
            requests: 64,
        }
    }
}

/// The program that serves one Keep, and speaks [`crate::keep_process`] on its standard input. It inherits
/// the manager's working directory, a few variables (where its user's folders are), and no descriptors but its standard streams
/// and those that the manager itself was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepCommand {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The host's store of the vendor's statements about its chips.
pub trait Collaterals: Send + Sync {
    /// The collateral of a chip at a TCB version, `None` when there is none. It is called in a thread that may block.
    fn get(&self, chip: &[u8; 64], tcb: &[u8; 8]) -> Option<Collateral>;
}
