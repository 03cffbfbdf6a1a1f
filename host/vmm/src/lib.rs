//! The virtual machine monitor: launches a Keep and serves its exits.
//!
//! The tenant does not trust it. It protects the host from the Keep: it performs what the
//! [`grant::Grant`] names and nothing else.

pub mod backend;
pub mod confine;
pub mod doctor;
pub mod executor;
pub mod grant;
mod interrupt;
pub mod kvm;
pub mod launch;
pub mod process;
pub mod snp;

pub use backend::{Backend, run};
/// The simulated machine and its settings.
pub use enarx_simulator as simulator;
