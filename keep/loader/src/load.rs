//! What the loader does, on the ground of a few system calls and copies.

use sha2::{Digest, Sha256};

use crate::info::{ImageInfo, MAGIC, Segment};

/// Bytes of the image that belong to no segment are copied in pieces of this size.
const PIECE: usize = 512;
/// Bytes that are copied and then hashed at a time: they stay in the CPU's cache.
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
            Self::Digest => "enarx-loader: the host gave another runtime than was measured\n",
        }
    }
}

/// Memory as the loader reaches it.
pub trait Ground {
    /// Maps zeroed private memory, readable and writable; false without memory.
    fn map(&mut self, start: u64, size: u64) -> bool;
    /// Takes the write access away, and gives execution if asked for.
    fn protect(&mut self, start: u64, size: u64, execute: bool) -> bool;
    /// Copies from the shared image to mapped private memory, and shows the copy to `seen`.
    fn copy(&mut self, shared: u64, to: u64, length: u64, seen: &mut dyn FnMut(&[u8]));
    /// Copies from the shared image.
    fn fetch(&mut self, shared: u64, to: &mut [u8]);
}

/// Copies the image into place and checks it; the address to enter.
///
/// # Errors
/// [`LoadError`]; nothing of the image has been executed then.
pub fn load(ground: &mut impl Ground, info: &ImageInfo) -> Result<u64, LoadError> {
    let segments = usize::try_from(info.count)
        .ok()
        .and_then(|count| info.segments.get(..count))
        .filter(|_| info.magic == MAGIC)
        .ok_or(LoadError::Information)?;
    let mut hash = Sha256::new();
    let mut at = 0;
    for segment in segments {
        let end = checked(segment, at, info.length).ok_or(LoadError::Information)?;
        skip(ground, &mut hash, info.shared, at, segment.offset);
        if !ground.map(segment.start, segment.size) {
            return Err(LoadError::Memory);
        }
        let mut done = 0;
        while done < segment.length {
            let now = CHUNK.min(segment.length - done);
            let from = info.shared + segment.offset + done;
            ground.copy(from, segment.address + done, now, &mut |copy| {
                hash.update(copy);
            });
            done += now;
        }
        at = end;
    }
    skip(ground, &mut hash, info.shared, at, info.length);
    let digest: [u8; 32] = hash.finalize().into();
    if digest != info.digest {
        return Err(LoadError::Digest);
    }
    for segment in segments {
        let (write, execute) = (
            segment.rights & crate::info::WRITE != 0,
            segment.rights & crate::info::EXECUTE != 0,
        );
        if !write && !ground.protect(segment.start, segment.size, execute) {
            return Err(LoadError::Memory);
        }
    }
    Ok(info.entry)
}

/// The end of the segment's contents in the image; none if it is not where it may be.
fn checked(segment: &Segment, at: u64, length: u64) -> Option<u64> {
    let end = segment.offset.checked_add(segment.length)?;
    let top = segment.address.checked_add(segment.length)?;
    let mapped = segment.start.checked_add(segment.size)?;
    (segment.offset >= at && end <= length && segment.address >= segment.start && top <= mapped)
        .then_some(end)
}

/// Hashes the part of the image between two segments, by way of a private copy.
fn skip(ground: &mut impl Ground, hash: &mut Sha256, shared: u64, from: u64, to: u64) {
    let mut piece = [0; PIECE];
    let mut at = from;
    while at < to {
        let now = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let part = piece.get_mut(..now).unwrap_or(&mut []);
        ground.fetch(shared + at, part);
        hash.update(&*part);
        at += now as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::{EXECUTE, SEGMENTS, WRITE};

    const SHARED: u64 = 0x7000_0000;
    const BASE: u64 = 0x40_0000;

    /// A small world: an image, and private memory of 16 pages at BASE.
    struct World {
        image: [u8; 9000],
        memory: [u8; 0x1_0000],
        mapped: [(u64, u64); 4],
        maps: usize,
        read_only: usize,
        executable: usize,
    }

    impl Ground for World {
        fn map(&mut self, start: u64, size: u64) -> bool {
            assert!(start >= BASE && start + size <= BASE + 0x1_0000);
            self.mapped[self.maps] = (start, size);
            self.maps += 1;
            true
        }

        fn protect(&mut self, start: u64, size: u64, execute: bool) -> bool {
            assert!(self.mapped.contains(&(start, size)));
            self.read_only += 1;
            self.executable += usize::from(execute);
            true
        }

        fn copy(&mut self, shared: u64, to: u64, length: u64, seen: &mut dyn FnMut(&[u8])) {
            let from = usize::try_from(shared - SHARED).unwrap();
            let to = usize::try_from(to - BASE).unwrap();
            let length = usize::try_from(length).unwrap();
            self.memory[to..to + length].copy_from_slice(&self.image[from..from + length]);
            seen(&self.memory[to..to + length]);
        }

        fn fetch(&mut self, shared: u64, to: &mut [u8]) {
            let from = usize::try_from(shared - SHARED).unwrap();
            to.copy_from_slice(&self.image[from..from + to.len()]);
        }
    }

    fn world() -> (World, ImageInfo) {
        let mut image = [0; 9000];
        for (index, byte) in image.iter_mut().enumerate() {
            *byte = u8::try_from(index * 7 % 251).unwrap();
        }
        let mut segments = [Segment::default(); SEGMENTS];
        segments[0] = Segment {
            address: BASE + 16,
            start: BASE,
            size: 0x2000,
            offset: 100,
            length: 5000,
            rights: EXECUTE,
        };
        segments[1] = Segment {
            address: BASE + 0x3000,
            start: BASE + 0x3000,
            size: 0x3000,
            offset: 6000,
            length: 2000,
            rights: WRITE,
        };
        let info = ImageInfo {
            magic: MAGIC,
            digest: Sha256::digest(image).into(),
            length: 9000,
            entry: BASE + 20,
            shared: SHARED,
            count: 2,
            segments,
        };
        let world = World {
            image,
            memory: [0; 0x1_0000],
            mapped: [(0, 0); 4],
            maps: 0,
            read_only: 0,
            executable: 0,
        };
        (world, info)
    }

    #[test]
    fn the_measured_image_is_put_in_place() {
        let (mut world, info) = world();
        assert_eq!(load(&mut world, &info), Ok(BASE + 20));
        assert_eq!(world.memory[16..5016], world.image[100..5100]);
        assert_eq!(world.memory[0x3000..0x3000 + 2000], world.image[6000..8000]);
        assert_eq!((world.maps, world.read_only, world.executable), (2, 1, 1));
    }

    #[test]
    fn any_other_image_is_refused() {
        // In a segment, between two, before the first, after the last.
        for at in [200, 5500, 0, 8999] {
            let (mut world, info) = world();
            world.image[at] ^= 1;
            assert_eq!(load(&mut world, &info), Err(LoadError::Digest));
            assert_eq!(world.executable, 0);
        }
    }

    #[test]
    fn malformed_information_is_refused() {
        let change: [fn(&mut ImageInfo); 7] = [
            |info| info.magic = 0,
            |info| info.count = 9,
            |info| info.segments[0].length = u64::MAX,
            |info| info.segments[0].offset = 8999,
            |info| info.segments[1].offset = 0,
            |info| info.segments[0].address = BASE - 1,
            |info| info.segments[0].size = 16,
        ];
        for change in change {
            let (mut world, mut info) = world();
            change(&mut info);
            assert_eq!(load(&mut world, &info), Err(LoadError::Information));
        }
    }
}
