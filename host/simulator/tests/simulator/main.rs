// SPDX-License-Identifier: Apache-2.0

//! The simulated secure processor and host, used as a VMM and a guest use them.

mod fake;
mod hypervisor;
mod launch;
mod machine;
mod messages;
