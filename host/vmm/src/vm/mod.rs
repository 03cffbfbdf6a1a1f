// SPDX-License-Identifier: Apache-2.0

//! Every virtual machine of a Keep, whatever its [`Platform`](crate::platform::Platform): its memory,
//! its vCPUs, and the exits that it is served.

pub mod backing;
pub mod confinement;
pub(crate) mod cpuid;
pub mod entry;
pub(crate) mod exits;
pub(crate) mod file_part;
pub(crate) mod image;
pub(crate) mod limits;
pub(crate) mod memory;
pub mod registers;
pub(crate) mod stats;
pub mod vcpu;
pub(crate) mod vcpu_ops;
