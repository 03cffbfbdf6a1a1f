// SPDX-License-Identifier: Apache-2.0

//! Tests of the session's TLS from outside, all in memory: both ends of ours, an independent peer over AWS-LC, hostile
//! peers, and the host between them.

mod certificates;
mod end;
mod faults;
mod interop;
mod keys;
mod loopback;
mod pair;
mod peers;
mod properties;
mod refusals;
mod session;
#[cfg(feature = "web")]
mod web;
mod wycheproof;
