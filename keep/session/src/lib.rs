// SPDX-License-Identifier: Apache-2.0

//! The Keep's end of the attested session: the door through which its tenant comes, what the tenant delivers, and the
//! application's standard streams to it.
//!
//! Trusted and measured. The host carries the bytes and is trusted by nobody; a peer is nobody before it is the
//! contract's tenant. `enarx_session` decides what both ends may say to each other, `enarx_tls` in what form;
//! here they meet the sallyport.
//!
//! Whichever thread waits for something of the session drives it: a call that waits, of the application or of the thread
//! in [`Session::serve`], looks at every connection first. So nobody has to be woken by name. Reports are asked for by a thread
//! of their own: hosts throttle them, and the application's output and its tenant's wishes go on meanwhile.
#![forbid(unsafe_code)]
// Hosts and peers decide over the input of this code: it refuses, and does not panic.
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

mod delivery;
mod link;
mod panics;
mod report;
mod session;

pub use delivery::Delivered;
pub use panics::say_places_only;
pub use report::{Attester, ReportError};
pub use session::{Session, SessionError};
