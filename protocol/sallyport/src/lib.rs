// SPDX-License-Identifier: Apache-2.0

//! The sallyport: how a Keep talks to its host.
//!
//! One region of memory is shared by the Keep and the host. The Keep posts typed requests
//! ([`call::Call`]) to a submission ring and collects their completions from a completion ring;
//! bytes travel in one fixed buffer per request. `SPEC.md` is the normative description.
//!
//! Trust: neither end trusts the other. Both ends copy a record once before they parse it, check
//! every index, id, length and status that the other side wrote, and address memory only with
//! constants. A breach is a typed, final violation; nothing here panics on values of the other
//! side.
//!
//! * [`layout`]: the geometry of the region, and checked places in it.
//! * [`memory`]: access to the region; the only module with `unsafe`.
//! * [`call`], [`request`], [`status`], [`types`], [`directory`], [`poll`]: the messages.
//! * [`keep`], [`host`]: the two ends. [`doorbell`]: how they sleep and wake each other.

#![no_std]
// The other side controls the input of this code: it refuses bad input and never panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(not(target_endian = "little"))]
compile_error!("the sallyport's records are little-endian and are stored as native words");

#[macro_use]
mod wire;

pub mod call;
pub mod completion;
pub mod directory;
pub mod doorbell;
mod facts;
pub mod host;
mod index;
pub mod keep;
pub mod layout;
pub mod memory;
pub mod poll;
pub mod request;
pub mod status;
pub mod types;

pub use call::{Call, Malformed};
pub use doorbell::{Doorbell, Until};
pub use facts::Facts;
pub use host::{HostEnd, Submission};
pub use keep::{KeepEnd, Reply, SubmitError, Ticket};
pub use layout::{BUFFER_SIZE, OutOfRange, REGION_SIZE, Slot};
pub use memory::{Region, SharedMemory};
pub use request::Request;
pub use status::Status;
pub use types::{FileType, Handle, SocketAddress, Stat};
