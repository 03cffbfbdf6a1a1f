// SPDX-License-Identifier: Apache-2.0

//! The simulated secure processor and host, used like a VMM and a guest use them.

mod fake;
mod hypervisor;
mod launch;
mod machine;
mod messages;
