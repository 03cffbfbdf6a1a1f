// SPDX-License-Identifier: Apache-2.0

//! Names of the manager's refusals and of the ends of Keeps: stable, for [`crate::Problem::code`] and
//! [`crate::KeepInfo::reason`]. Faults of a contract itself have the names of `enarx_contract::ContractError`.

/// No token, or one that the manager does not know (401).
pub const TOKEN: &str = "token";
/// Metrics cover all tenants and are for the host's owner: this token may not read them.
pub const FIGURES: &str = "token.figures";
/// The request cannot be read (400).
pub const REQUEST: &str = "request";
/// There is nothing at this path (404).
pub const PATH: &str = "path";
/// The path does not support this method (405).
pub const METHOD: &str = "method";
/// The request did not arrive in time (408).
pub const SLOW: &str = "request.slow";
/// The body is too large (413).
pub const LARGE: &str = "request.large";
/// The body is not JSON by its media type (415).
pub const MEDIA_TYPE: &str = "request.media-type";
/// A session was requested without the right `Upgrade` (426).
pub const UPGRADE: &str = "session.upgrade";
/// The Keep of this session is not ready yet, or has ended (409).
pub const NOT_READY: &str = "session.not-ready";
/// The Keep has as many connections as it may have (429).
pub const CONNECTIONS: &str = "session.connections";
/// There is no such Keep for this token (404).
pub const KEEP: &str = "keep";
/// Another token, or another key, has requested the Keep of this contract (409).
pub const TAKEN: &str = "keep.taken";
/// The Keep of this open contract ended, or is ending, before anybody claimed it (409).
pub const GONE: &str = "keep.gone";
/// There is no collateral for this chip and TCB version (404).
pub const COLLATERAL: &str = "collateral";
/// The contract names another host's key or name (422).
pub const HOST: &str = "contract.host";
/// The contract names no tenant, and this host has no Keep ready under it (422).
pub const OPEN: &str = "contract.open";
/// The host has no such platform (422).
pub const PLATFORM: &str = "contract.platform";
/// The contract requests more than one token may ever have (422).
pub const RESOURCES: &str = "contract.resources";
/// The token has as many Keeps as it may have (429).
pub const LIMIT_KEEPS: &str = "limit.keeps";
/// The token's Keeps have as many virtual CPUs as they may have (429).
pub const LIMIT_VCPUS: &str = "limit.vcpus";
/// The token's Keeps have as much memory as they may have (429).
pub const LIMIT_MEMORY: &str = "limit.memory";
/// The token has launched as often as it may for now (429).
pub const LIMIT_LAUNCHES: &str = "limit.launches";
/// The token has as many connections as it may have (429).
pub const LIMIT_CONNECTIONS: &str = "limit.connections";
/// The host is full (503).
pub const CAPACITY: &str = "capacity";
/// The manager is ending (503).
pub const DRAINING: &str = "draining";
/// The manager cannot write its state, so it starts nothing (503).
pub const STORE: &str = "store";
/// The same, because the disk with its state is full (507).
pub const STORE_FULL: &str = "store.full";
/// The manager has failed (500).
pub const MANAGER: &str = "manager";

/// Reasons for a Keep's end that the manager gives. A Keep process may report others.
pub mod end {
    /// The process could not be started.
    pub const START: &str = "keep.start";
    /// The process did not report in time that its Keep runs.
    pub const LAUNCH_TIMEOUT: &str = "keep.launch-timeout";
    /// The process broke the protocol of its control socket.
    pub const PROTOCOL: &str = "keep.protocol";
    /// The process ended without a message.
    pub const DIED: &str = "keep.died";
    /// The Keep reached the maximum time of its contract, and did not end by itself.
    pub const OVERDUE: &str = "keep.overdue";
    /// Its tenant asked the manager to end it.
    pub const DELETED: &str = "deleted";
    /// The manager ended, and its Keeps with it.
    pub const SHUTDOWN: &str = "manager-shutdown";
    /// Nobody claimed it within its lifetime, so another one replaces it.
    pub const REPLACED: &str = "pool.replaced";
    /// Nobody had claimed it, and another Keep needed its place.
    pub const GAVE_WAY: &str = "pool.gave-way";
    /// A tenant claimed it, and opened no session in time.
    pub const UNUSED: &str = "pool.unused";
    /// Its claim could not be recorded, so nobody gets it.
    pub const CLAIM_LOST: &str = "pool.claim-lost";
    /// The manager was killed, and its Keeps with it.
    pub const MANAGER_LOST: &str = "manager-lost";

    /// The meaning of a reason for people, without a period at its end; `None` for a reason of a Keep process.
    #[must_use]
    pub fn meaning(reason: &str) -> Option<&'static str> {
        Some(match reason {
            START => {
                "the host could not start a process for it; its owner finds the cause in the manager's log"
            }
            LAUNCH_TIMEOUT => {
                "its host did not start it in time; its owner finds more in the manager's log"
            }
            PROTOCOL => "the process that serves it violates the manager's protocol",
            DIED => {
                "the process that serves it ended without a message; its owner finds more in the manager's log"
            }
            OVERDUE => "it ran for as long as its contract allows",
            DELETED => "its tenant ended it",
            SHUTDOWN => "the host's manager was stopped",
            REPLACED => "nobody claimed it in time, and another one took its place",
            GAVE_WAY => "nobody had claimed it, and another Keep needed its place",
            UNUSED => "the tenant that claimed it opened no session in time",
            CLAIM_LOST => "its claim could not be recorded",
            MANAGER_LOST => "the host's manager was killed",
            _ => return None,
        })
    }
}
