// SPDX-License-Identifier: Apache-2.0

//! The work of the loader, by a few system calls and copies.

use sha2::{Digest, Sha256};

use enarx_boot::image_info::{ImageInfo, MAGIC, SEGMENTS, Segment};

/// Size of the pieces in which bytes that belong to no segment are copied.
const PIECE: usize = 512;
/// Bytes that are copied and then hashed at a time, so that they stay in the CPU's cache.
const CHUNK: u64 = 64 << 10;

/// Why the image is not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// The information page makes no sense.
    Information,
    /// There is no memory for the image.
    Memory,
    /// The image is not the one that was measured.
    Digest,
}

impl LoadError {
    /// One sentence for the Keep's log.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Information => "enarx-loader: the information page is malformed\n",
            Self::Memory => {
                "enarx-loader: the runtime does not fit in the Keep: give it more memory\n"
            }
            Self::Digest => "enarx-loader: the host gave a runtime other than the measured one\n",
        }
    }
}

/// The system calls and copies that the loader is made of.
pub trait LoaderSystem {
    /// Memory that this loader has mapped. Only mapping creates the type, so nothing else is written.
    type Mapped;
    /// Maps zeroed private memory, readable and writable; `None` without memory.
    fn map(&mut self, start: u64, size: u64) -> Option<Self::Mapped>;
    /// Removes write access, and permits execution if requested; false if that is refused.
    fn protect(&mut self, memory: Self::Mapped, execute: bool) -> bool;
    /// Copies from the shared image to the address `to` in `memory`, and shows the copy to `seen`; false if that is out of
    /// range.
    fn copy(
        &mut self,
        shared: u64,
        memory: &mut Self::Mapped,
        to: u64,
        length: u64,
        seen: &mut dyn FnMut(&[u8]),
    ) -> bool;
    /// Copies from the shared image.
    fn fetch(&mut self, shared: u64, to: &mut [u8]);
}

/// Copies the image into place and checks it; returns the address to enter.
///
/// # Errors
/// [`LoadError`]; nothing of the image has been executed then.
pub fn load(system: &mut impl LoaderSystem, info: &ImageInfo) -> Result<u64, LoadError> {
    let segments = usize::try_from(info.count)
        .ok()
        .and_then(|count| info.segments.get(..count))
        .filter(|_| info.magic == MAGIC && info.shared.checked_add(info.length).is_some())
        .ok_or(LoadError::Information)?;
    let mut hash = Sha256::new();
    let mut memories = [const { None }; SEGMENTS];
    let mut at = 0;
    for (segment, kept) in segments.iter().zip(&mut memories) {
        let end = checked(segment, at, info.length).ok_or(LoadError::Information)?;
        skip(system, &mut hash, info.shared, at, segment.offset);
        let memory = kept.insert(
            system
                .map(segment.start, segment.size)
                .ok_or(LoadError::Memory)?,
        );
        let mut done = 0;
        while done < segment.length {
            let now = CHUNK.min(segment.length - done);
            let from = info.shared + segment.offset + done;
            let to = segment.address + done;
            if !system.copy(from, memory, to, now, &mut |copy| hash.update(copy)) {
                return Err(LoadError::Information);
            }
            done += now;
        }
        at = end;
    }
    skip(system, &mut hash, info.shared, at, info.length);
    let digest: [u8; 32] = hash.finalize().into();
    if digest != info.digest {
        return Err(LoadError::Digest);
    }
    for (segment, memory) in segments.iter().zip(memories) {
        let memory = memory.ok_or(LoadError::Information)?;
        let (write, execute) = (
            segment.rights & enarx_boot::image_info::WRITE != 0,
            segment.rights & enarx_boot::image_info::EXECUTE != 0,
        );
        if !write && !system.protect(memory, execute) {
            return Err(LoadError::Memory);
        }
    }
    Ok(info.entry)
}

/// The end of the segment's contents in the image; `None` if it is out of range.
fn checked(segment: &Segment, at: u64, length: u64) -> Option<u64> {
    let end = segment.offset.checked_add(segment.length)?;
    let top = segment.address.checked_add(segment.length)?;
    let mapped = segment.start.checked_add(segment.size)?;
    (segment.offset >= at && end <= length && segment.address >= segment.start && top <= mapped)
        .then_some(end)
}

/// Hashes the part of the image between two segments, through a private copy.
fn skip(system: &mut impl LoaderSystem, hash: &mut Sha256, shared: u64, from: u64, to: u64) {
    let mut piece = [0; PIECE];
    let mut at = from;
    while at < to {
        let now = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let part = piece.get_mut(..now).unwrap_or(&mut []);
        system.fetch(shared + at, part);
        hash.update(&*part);
        at += now as u64;
    }
}
