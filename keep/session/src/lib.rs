// SPDX-License-Identifier: Apache-2.0

//! The Keep's end of the attested session: the door through which its tenant connects, the tenant's deliveries, and
//! the application's standard streams.
//!
//! Trusted and measured. The host carries the bytes and nobody trusts it; a peer is not trusted until it is the
//! contract's tenant. `enarx_session` defines the messages of both ends, `enarx_tls` their encryption; here
//! they are connected to the sallyport.
//!
//! The thread that waits for something of the session drives it: a waiting call, of the application or of the thread in
//! [`Session::serve`], checks every connection first. So no specific thread has to be woken. A separate thread requests
//! reports, because hosts throttle them, while the application's output and its tenant's requests continue.
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
pub use panics::report_panic_locations_only;
pub use report::{Attester, ReportError};
pub use session::{Session, SessionError};
