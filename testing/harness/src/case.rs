// SPDX-License-Identifier: Apache-2.0

//! A test of a program, and how it says that it cannot run here.

/// A test, as the attribute [`test`](macro@crate::test) registers it.
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
pub struct Ignored(pub String);

/// Ends the running test, which is reported as ignored for this reason.
///
/// Only the thread of the test itself may call it: elsewhere it is a panic without a message, which
/// fails the test that joins the thread.
pub fn ignore(reason: impl Into<String>) -> ! {
    // Not `panic_any`, which would have the panic hook print a message.
    std::panic::resume_unwind(Box::new(Ignored(reason.into())))
}
