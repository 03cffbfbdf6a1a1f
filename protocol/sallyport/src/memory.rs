// SPDX-License-Identifier: Apache-2.0

//! Access to the shared region: the only module of this crate with `unsafe`.
//!
//! Trusts nobody about the region's contents, which may change at any moment. There is never a
//! reference or a slice over bytes of the region: words are accessed by atomics, bytes are copied
//! between a buffer and private memory. All places are checked ([`crate::layout`]).

#![expect(unsafe_code, reason = "shared memory has no safe interface")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::layout::{self, OutOfRange, REGION_ALIGN, REGION_SIZE, Slot, Word32, Word64};

/// The operations on the shared region that both ends need. A test can put a model in its place.
pub trait SharedMemory {
    /// Loads a control word; `ordering` is `Relaxed` or `Acquire`.
    fn load_u32(&self, at: Word32, ordering: Ordering) -> u32;
    /// Stores a control word; `ordering` is `Relaxed` or `Release`.
    fn store_u32(&self, at: Word32, value: u32, ordering: Ordering);
    /// Loads a word of a record, relaxed.
    fn load_u64(&self, at: Word64) -> u64;
    /// Stores a word of a record, relaxed.
    fn store_u64(&self, at: Word64, value: u64);
    /// A sequentially consistent fence, between a store by this side and a load of the other side's word.
    fn fence(&self);
    /// Copies bytes of a slot's buffer, from `offset` on, to private memory.
    ///
    /// # Errors
    /// [`OutOfRange`], with nothing copied, when they do not all lie in the buffer.
    fn read(&self, slot: Slot, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange>;
    /// Copies private bytes into a slot's buffer, from `offset` on.
    ///
    /// # Errors
    /// [`OutOfRange`], with nothing copied, when they do not all fit in the buffer.
    fn write(&self, slot: Slot, offset: u32, bytes: &[u8]) -> Result<(), OutOfRange>;
}

/// The shared region, mapped in this address space.
///
/// A copy names the same memory; it lets threads work on different buffers.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    base: NonNull<u8>,
}

// SAFETY: a `Region` gives access by atomics and by racy copies only, and `from_raw` asks for memory
// that is valid from every thread.
unsafe impl Send for Region {}
// SAFETY: as above; no method needs exclusive access.
unsafe impl Sync for Region {}

impl Region {
    /// The region at `base`.
    ///
    /// # Safety
    /// `base` is aligned to [`REGION_ALIGN`] bytes, and [`REGION_SIZE`] bytes from it stay mapped, readable and
    /// writable as long as the result or a copy of it is in use. Nobody in this address space holds a
    /// reference over these bytes (other than to atomics).
    pub const unsafe fn from_raw(base: NonNull<u8>) -> Self {
        Self { base }
    }

    /// A region over memory of this process: for tests, and for a Keep and a host in one program.
    ///
    /// `None` when `memory` is not [`REGION_SIZE`] bytes long.
    pub fn from_static(memory: &'static [AtomicU64]) -> Option<Self> {
        // Eight bytes of alignment suffice for every access below; page alignment is for mappings.
        (size_of_val(memory) == REGION_SIZE).then(|| Self {
            base: NonNull::from(memory).cast(),
        })
    }

    /// The first byte of a slot's buffer of [`BUFFER_SIZE`](crate::BUFFER_SIZE) bytes, for the host to hand to system
    /// calls. Its contents may change at any moment: do not make a reference to it.
    pub fn buffer_ptr(self, slot: Slot) -> *mut u8 {
        self.at(layout::buffer(slot)).as_ptr()
    }

    /// The byte at `offset`, which is at most [`REGION_SIZE`].
    fn at(self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset <= REGION_SIZE);
        // SAFETY: places are checked by `layout`: the offset lies in the region or is its end, and the
        // region is one mapping of `REGION_SIZE` bytes (contract of `from_raw`).
        unsafe { self.base.add(offset) }
    }

    fn word32(&self, at: Word32) -> &AtomicU32 {
        // SAFETY: a `Word32` lies in the region and is aligned, as is the base; the memory is valid and
        // only accessed by atomics and racy copies (contract of `from_raw`), which an atomic permits.
        unsafe { self.at(at.offset()).cast::<AtomicU32>().as_ref() }
    }

    fn word64(&self, at: Word64) -> &AtomicU64 {
        // SAFETY: as for `word32`.
        unsafe { self.at(at.offset()).cast::<AtomicU64>().as_ref() }
    }
}

// The alignment that `from_raw` promises suffices for the widest access.
const _: () = assert!(REGION_ALIGN.is_multiple_of(align_of::<AtomicU64>()));

impl SharedMemory for Region {
    fn load_u32(&self, at: Word32, ordering: Ordering) -> u32 {
        self.word32(at).load(ordering)
    }

    fn store_u32(&self, at: Word32, value: u32, ordering: Ordering) {
        self.word32(at).store(value, ordering);
    }

    fn load_u64(&self, at: Word64) -> u64 {
        self.word64(at).load(Ordering::Relaxed)
    }

    fn store_u64(&self, at: Word64, value: u64) {
        self.word64(at).store(value, Ordering::Relaxed);
    }

    fn fence(&self) {
        core::sync::atomic::fence(Ordering::SeqCst);
    }

    fn read(&self, slot: Slot, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.at(layout::buffer_offset(slot, offset, out.len())?);
        // SAFETY: `from` and the bytes after it lie in the region (checked), `out` is exclusively ours
        // and private, so the two do not overlap.
        unsafe { copy_out(from.as_ptr(), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&self, slot: Slot, offset: u32, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = self.at(layout::buffer_offset(slot, offset, bytes.len())?);
        // SAFETY: `to` and the bytes after it lie in the region (checked), `bytes` is private memory that
        // nobody changes, so the two do not overlap.
        unsafe { copy_in(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }
}

/// Copies `length` bytes that others may change meanwhile. The compiler sees an opaque instruction, so it can neither
/// repeat a read nor assume that bytes stay the same.
///
/// # Safety
/// Both ranges are valid, and they do not overlap.
#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing))))]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller vouches for both ranges. The direction flag is clear by the rules of inline
    // assembly; the instruction changes no flag and does not use the stack.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") length => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, fuzzing))))]
use {copy as copy_in, copy as copy_out};

/// The same by byte-wise atomics: where there is no such instruction, and where Miri or the sanitizer of a fuzz target
/// must see each access.
#[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing)))))]
mod portable {
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Copies `length` bytes out of shared memory.
    ///
    /// # Safety
    /// Both ranges are valid, and they do not overlap; `to` is private.
    pub(super) unsafe fn copy_out(from: *mut u8, to: *mut u8, length: usize) {
        for i in 0..length {
            // SAFETY: in range by the caller's word; shared bytes are only accessed by atomics.
            unsafe { *to.add(i) = AtomicU8::from_ptr(from.add(i)).load(Ordering::Relaxed) }
        }
    }

    /// Copies `length` bytes into shared memory.
    ///
    /// # Safety
    /// Both ranges are valid, and they do not overlap; `from` is private.
    pub(super) unsafe fn copy_in(from: *const u8, to: *mut u8, length: usize) {
        for i in 0..length {
            // SAFETY: as above.
            unsafe { AtomicU8::from_ptr(to.add(i)).store(*from.add(i), Ordering::Relaxed) }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(any(miri, fuzzing)))))]
use portable::{copy_in, copy_out};
