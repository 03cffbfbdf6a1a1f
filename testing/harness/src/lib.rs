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

mod case;
pub mod needs;
mod run;

pub use case::{Test, ignore};
pub use enarx_harness_macros::test;
#[doc(hidden)]
pub use inventory;
pub use run::main;
