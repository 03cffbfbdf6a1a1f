// SPDX-License-Identifier: Apache-2.0

//! The system that a port needs below it: the doorbell, and ways to end the Keep. Trusted.

use enarx_sallyport::Doorbell;
use enarx_sallyport::keep::Violation;

/// The platform, as far as the port needs it.
pub trait Platform: Doorbell + Send + Sync {
    /// Ends the Keep because the host broke the protocol.
    fn violation(&self, violation: &Violation) -> !;
    /// Ends the Keep with this exit code.
    fn exit(&self, code: i32) -> !;
}
