// SPDX-License-Identifier: Apache-2.0

//! The SNP code of the microkernel against a fake CPU, firmware and host, any of which a test may
//! make lie as the real host can.

mod boot;
mod cpuid;
mod ledger;
mod machine;
mod messages;
mod refused;
mod vcpus;
