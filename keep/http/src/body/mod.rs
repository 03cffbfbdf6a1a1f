// SPDX-License-Identifier: Apache-2.0

//! Bodies: a peer's data becomes a stream of the component, and the component's output is sent. In both directions
//! only data that the slower side has not taken yet is buffered.

pub mod incoming;
pub mod outgoing;
