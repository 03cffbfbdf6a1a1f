// SPDX-License-Identifier: Apache-2.0

//! The agent against hosts and Keeps on the loopback: real TLS, real reports, the real verifier.

mod accepted;
mod attach;
mod certificates;
mod evidence;
mod relay;
mod support;
mod warm;
