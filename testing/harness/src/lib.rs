// SPDX-License-Identifier: Apache-2.0

//! Runs tests as libtest does, and lets a test say that it cannot run here: it is then reported as
//! ignored, with the reason, and not as passed.
//!
//! A program of tests uses it with `harness = false` in its manifest, and these lines in its root:
//!
//! ```ignore
//! #[macro_use]
//! extern crate enarx_harness;
//!
//! fn main() -> std::process::ExitCode {
//!     enarx_harness::main()
//! }
//! ```
//!
//! Every `#[test]` of the program is then [`macro@test`], the attribute of this crate. A test that needs
//! something asks for it, itself or in a helper: [`needs::kvm`], [`needs::vectors`], [`needs::lacking`].
//! Unlike libtest, this harness does not capture what tests print.

pub mod needs;
mod run;

pub use enarx_harness_macros::test;
#[doc(hidden)]
pub use inventory;
pub use run::main;

/// A test, as the attribute [`macro@test`] registers it.
#[derive(Clone, Copy)]
pub struct Test {
    /// Path of its module, with the crate.
    pub module: &'static str,
    /// Name of its function.
    pub name: &'static str,
    /// The function.
    pub run: fn(),
    /// The reason of `#[ignore]`.
    pub ignored: Option<&'static str>,
    /// Under `#[should_panic]`: the part of the message that is expected, possibly empty.
    pub panics: Option<&'static str>,
}

inventory::collect!(Test);

/// Why a test ended without having tested: the payload by which [`ignore`] unwinds.
struct Ignored(String);

/// Ends the running test, which is reported as ignored for this reason.
///
/// Only the thread of the test itself may call it: elsewhere it is a panic without a message, which
/// fails the test that joins the thread.
pub fn ignore(reason: impl Into<String>) -> ! {
    // Not `panic_any`, which would have the panic hook print a message.
    std::panic::resume_unwind(Box::new(Ignored(reason.into())))
}
