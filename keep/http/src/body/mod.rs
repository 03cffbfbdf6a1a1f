// SPDX-License-Identifier: Apache-2.0

//! Bodies: what a peer sends becomes a stream of the component, and what the component writes is sent. Both ways only
//! as much is kept as the slower side has not taken yet.

pub mod incoming;
pub mod outgoing;
