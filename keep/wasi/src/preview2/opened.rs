// SPDX-License-Identifier: Apache-2.0

//! The resources of `wasi:filesystem`: of 0.2, and the first of both versions.

use std::sync::Arc;

use crate::fs::{self, Descriptor};

/// An open file or directory of a component.
pub struct Opened(pub(super) Arc<Descriptor>);

/// The rest of a directory: its entries when reading began, and how many of them were returned.
pub struct Listing {
    pub(super) listing: fs::Listing,
    pub(super) next_entry: usize,
}
