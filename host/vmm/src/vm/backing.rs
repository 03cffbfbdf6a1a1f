// SPDX-License-Identifier: Apache-2.0

//! Memory of this process that becomes a guest's.

#![expect(
    unsafe_code,
    reason = "whoever implements the trait promises what the compiler cannot check"
)]

use std::ptr::NonNull;

/// Memory of this process that backs the shared side of a slot.
///
/// # Safety
/// `base` and `size` never change and are multiples of the page size; the bytes stay mapped, readable and writable,
/// until the value is dropped. They change or become zero at any time: the owner accesses them by
/// raw copies and atomics only, never by references to plain data.
pub unsafe trait Backing: Send + Sync {
    /// The first byte.
    fn base(&self) -> NonNull<u8>;
    /// Bytes.
    fn size(&self) -> usize;
}
