// SPDX-License-Identifier: Apache-2.0

//! The loader against fake memory: it loads any measured image, reads every byte of the
//! shared one exactly once, and enters no other.

use enarx_boot::image_info::{EXECUTE, ImageInfo, MAGIC, SEGMENTS, Segment, WRITE};
use enarx_loader::load::{LoadError, LoaderSystem, load};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SHARED: u64 = 0x7000_0000;
const BASE: u64 = 0x40_0000;
/// Available private memory, in bytes.
const ROOM: u64 = 0x20_0000;
const PAGE: u64 = 4096;

fn at(address: u64) -> usize {
    usize::try_from(address).unwrap()
}

/// A shared image, and private memory from BASE on.
struct World {
    image: Vec<u8>,
    memory: Vec<u8>,
    /// The number of reads of each byte of the image.
    reads: Vec<u8>,
    mapped: Vec<(u64, u64)>,
    protected: Vec<(u64, u64, bool)>,
    /// Calls of `map` and `protect` that succeed.
    calls: usize,
    /// Changes a byte of the image after this many copies, as a host can.
    change: Option<(usize, usize)>,
}

impl World {
    fn new(image: Vec<u8>) -> Self {
        Self {
            reads: vec![0; image.len()],
            image,
            memory: vec![0; at(ROOM)],
            mapped: Vec::new(),
            protected: Vec::new(),
            calls: usize::MAX,
            change: None,
        }
    }

    fn call(&mut self) -> bool {
        let more = self.calls > 0;
        self.calls = self.calls.saturating_sub(1);
        more
    }

    fn read(&mut self, shared: u64, length: usize) -> Vec<u8> {
        let from = at(shared.checked_sub(SHARED).unwrap());
        for count in &mut self.reads[from..from + length] {
            *count += 1;
        }
        let bytes = self.image[from..from + length].to_vec();
        if let Some((left, which)) = &mut self.change {
            if *left == 0 {
                self.image[*which] ^= 0x10;
                self.change = None;
            } else {
                *left -= 1;
            }
        }
        bytes
    }
}

impl LoaderSystem for World {
    type Mapped = (u64, u64);

    fn map(&mut self, start: u64, size: u64) -> Option<(u64, u64)> {
        let end = start.checked_add(size);
        let fits = start >= BASE && end.is_some_and(|end| end <= BASE + ROOM);
        if fits && self.call() {
            self.mapped.push((start, size));
            return Some((start, size));
        }
        None
    }

    fn protect(&mut self, (start, size): (u64, u64), execute: bool) -> bool {
        assert!(self.mapped.contains(&(start, size)));
        self.protected.push((start, size, execute));
        self.call()
    }

    fn copy(
        &mut self,
        shared: u64,
        &mut (start, size): &mut (u64, u64),
        to: u64,
        length: u64,
        seen: &mut dyn FnMut(&[u8]),
    ) -> bool {
        assert!(self.mapped.contains(&(start, size)));
        assert!(
            to >= start && to + length <= start + size,
            "a copy to memory that is not mapped"
        );
        let bytes = self.read(shared, at(length));
        let to = at(to - BASE);
        self.memory[to..to + bytes.len()].copy_from_slice(&bytes);
        seen(&self.memory[to..to + bytes.len()]);
        true
    }

    fn fetch(&mut self, shared: u64, to: &mut [u8]) {
        let bytes = self.read(shared, to.len());
        to.copy_from_slice(&bytes);
    }
}

/// An image and its measured description.
#[derive(Clone, Debug)]
struct Case {
    image: Vec<u8>,
    info: ImageInfo,
}

impl Case {
    fn segments(&self) -> &[Segment] {
        &self.info.segments[..at(self.info.count)]
    }
}

/// Per segment: bytes before it in the file, contents, offset in its first page, pages after its
/// contents, pages to the next, rights.
type Part = (u64, u64, u64, u64, u64, u64);

fn case(parts: &[Part], tail: u64, seed: u64) -> Case {
    let mut segments = [Segment::default(); SEGMENTS];
    let (mut offset, mut start) = (0, BASE);
    for (segment, &(gap, length, shift, more, apart, rights)) in segments.iter_mut().zip(parts) {
        offset += gap;
        let size = (shift + length).next_multiple_of(PAGE) + more * PAGE;
        *segment = Segment {
            address: start + shift,
            start,
            size,
            offset,
            length,
            rights,
        };
        offset += length;
        start += size + apart * PAGE;
    }
    let length = offset + tail;
    let image: Vec<u8> = (0..length)
        .map(|index| (index.wrapping_mul(seed | 1) >> 7).to_le_bytes()[0])
        .collect();
    let info = ImageInfo {
        magic: MAGIC,
        digest: Sha256::digest(&image).into(),
        length,
        entry: BASE + 20,
        shared: SHARED,
        count: parts.len() as u64,
        segments,
    };
    Case { image, info }
}

fn any_case() -> impl Strategy<Value = Case> {
    let part = (
        prop_oneof![Just(0), 0u64..3000],
        prop_oneof![4 => 0u64..9000, 1 => 60_000u64..140_000],
        0..PAGE,
        0u64..3,
        0u64..3,
        prop_oneof![Just(0), Just(WRITE), Just(EXECUTE)],
    );
    let parts = proptest::collection::vec(part, 0..=SEGMENTS);
    (parts, prop_oneof![Just(0), 0u64..3000], any::<u64>())
        .prop_map(|(parts, tail, seed)| case(&parts, tail, seed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_measured_image_is_put_in_place(case in any_case()) {
        let mut world = World::new(case.image.clone());
        prop_assert_eq!(load(&mut world, &case.info), Ok(case.info.entry));
        let mut expected = vec![0; world.memory.len()];
        for segment in case.segments() {
            let (from, to, length) =
                (at(segment.offset), at(segment.address - BASE), at(segment.length));
            expected[to..to + length].copy_from_slice(&case.image[from..from + length]);
        }
        prop_assert!(world.memory == expected, "memory is not as measured");
        prop_assert!(world.reads.iter().all(|&count| count == 1), "a byte was read twice or never");
        let mapped: Vec<_> = case.segments().iter().map(|s| (s.start, s.size)).collect();
        prop_assert_eq!(&world.mapped, &mapped);
        let protected: Vec<_> = case
            .segments()
            .iter()
            .filter(|segment| segment.rights & WRITE == 0)
            .map(|s| (s.start, s.size, s.rights & EXECUTE != 0))
            .collect();
        prop_assert_eq!(&world.protected, &protected);
    }

    /// A different byte anywhere.
    #[test]
    fn any_other_image_is_refused(
        case in any_case(),
        which in any::<proptest::sample::Index>(),
        bits in 1..=255u8,
    ) {
        prop_assume!(!case.image.is_empty());
        let mut world = World::new(case.image.clone());
        world.image[which.index(case.image.len())] ^= bits;
        prop_assert_eq!(load(&mut world, &case.info), Err(LoadError::Digest));
        prop_assert_eq!(world.protected, vec![]);
    }

    /// A host that changes the image while it is copied gains nothing: the copied bytes are the
    /// hashed ones.
    #[test]
    fn an_image_that_changes_is_as_measured_or_refused(
        case in any_case(),
        after in 0usize..40,
        which in any::<proptest::sample::Index>(),
    ) {
        prop_assume!(!case.image.is_empty());
        let mut world = World::new(case.image.clone());
        world.change = Some((after, which.index(case.image.len())));
        if load(&mut world, &case.info).is_ok() {
            for segment in case.segments() {
                let (from, to, length) =
                    (at(segment.offset), at(segment.address - BASE), at(segment.length));
                prop_assert!(world.memory[to..to + length] == case.image[from..from + length]);
            }
        } else {
            prop_assert_eq!(world.protected, vec![]);
        }
    }

    /// Without memory, at any point, nothing is entered.
    #[test]
    fn missing_memory_is_detected(case in any_case(), calls in 0usize..16) {
        let read_only = case.segments().iter().filter(|s| s.rights & WRITE == 0).count();
        let mut world = World::new(case.image.clone());
        world.calls = calls;
        let enough = calls >= case.segments().len() + read_only;
        let expected = if enough { Ok(case.info.entry) } else { Err(LoadError::Memory) };
        prop_assert_eq!(load(&mut world, &case.info), expected);
    }

    /// An information page of any contents gives an answer; memory is written only where it was
    /// mapped.
    #[test]
    fn any_information_gives_an_answer(
        mut case in any_case(),
        which in 0..SEGMENTS,
        field in 0usize..9,
        value in prop_oneof![any::<u64>(), 0u64..20_000, Just(BASE), Just(u64::MAX)],
    ) {
        let info = &mut case.info;
        let segment = &mut info.segments[which];
        match field {
            0 => segment.address = value,
            1 => segment.start = value,
            2 => segment.size = value,
            3 => segment.offset = value,
            4 => segment.length = value,
            5 => info.magic = value,
            6 => info.count = value,
            7 => info.shared = u64::MAX - value % info.length.max(1),
            _ => info.digest[which] ^= 1,
        }
        let unused = field < 5 && which >= at(info.count);
        let mut world = World::new(case.image.clone());
        let result = load(&mut world, &case.info);
        match field {
            8 => prop_assert_eq!(result, Err(LoadError::Digest)),
            7 if !case.image.is_empty() => prop_assert_eq!(result, Err(LoadError::Information)),
            5 => prop_assert!(value == MAGIC || result == Err(LoadError::Information)),
            _ => prop_assert!(!unused || result.is_ok()),
        }
        if result.is_err_and(|error| error != LoadError::Memory) {
            prop_assert_eq!(world.protected, vec![]);
        }
    }
}

fn example() -> Case {
    case(
        &[(100, 5000, 16, 0, 1, EXECUTE), (900, 2000, 0, 2, 0, WRITE)],
        1000,
        7,
    )
}

#[test]
fn malformed_information_is_refused() {
    let change: [fn(&mut ImageInfo); 10] = [
        |info| info.magic = 0,
        |info| info.count = 9,
        |info| info.count = u64::MAX,
        |info| info.shared = u64::MAX - 100,
        |info| info.segments[0].length = u64::MAX,
        |info| info.segments[0].offset = info.length - 1,
        |info| info.segments[1].offset = 0,
        |info| info.segments[0].address = BASE - 1,
        |info| info.segments[0].size = 16,
        |info| info.segments[1].start = u64::MAX,
    ];
    for (number, change) in change.into_iter().enumerate() {
        let Case { image, mut info } = example();
        change(&mut info);
        let mut world = World::new(image);
        assert_eq!(
            load(&mut world, &info),
            Err(LoadError::Information),
            "change {number}"
        );
        assert_eq!(world.protected, []);
    }
}

#[test]
fn every_reason_has_a_sentence() {
    for error in [LoadError::Information, LoadError::Memory, LoadError::Digest] {
        let sentence = error.sentence();
        assert!(sentence.starts_with("enarx-loader: ") && sentence.ends_with('\n'));
    }
}
