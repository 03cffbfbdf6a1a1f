// SPDX-License-Identifier: Apache-2.0

//! Files of the host are read ahead, and no program can notice it: whatever changes them, through
//! this Keep or not, a read returns the contents at its beginning.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Instant;

use enarx_sallyport::Handle;
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::clock::Clocks;
use enarx_wasi::fs::host::HostFileSystem;
use enarx_wasi::fs::{FileSystem, Node, OpenOptions};
use enarx_wasi::port::Port;
use proptest::collection::vec;
use proptest::prelude::*;

/// A Keep with one directory, and its files.
struct Keep {
    port: Port,
    host: InProcess,
    files: HostFileSystem,
}

impl Keep {
    fn start() -> Self {
        let (port, host) = InProcess::start(World {
            directories: 1,
            ..World::default()
        });
        let files = HostFileSystem::new(port.clone());
        Self { port, host, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.host.folder(0).join(name)
    }

    fn open(&mut self, name: &str) -> Node {
        open(&mut self.files, name)
    }

    fn read(&mut self, node: Node, offset: u64, length: usize) -> Vec<u8> {
        read(&mut self.files, node, offset, length)
    }
}

fn open(files: &mut HostFileSystem, name: &str) -> Node {
    let options = OpenOptions {
        read: true,
        write: true,
        ..OpenOptions::default()
    };
    let (node, _) = files
        .open(Handle::FIRST_ROOT.0.into(), name, options)
        .unwrap();
    node
}

fn read(files: &mut HostFileSystem, node: Node, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let count = files.read_at(node, offset, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

/// Bytes in which no two pieces are the same.
fn contents(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at % 251).to_le_bytes()[0] ^ (at / 4099).to_le_bytes()[0])
        .collect()
}

#[test]
fn sequential_reads_cost_few_requests() {
    let bytes = contents(4 << 20);
    // Pieces of a C library's buffer, of a program that copies, and one for all: 128 KiB each is the least, and twice a window may
    // be past the end.
    for (piece, most) in [(1024, 64), (4096, 64), (64 << 10, 48), (5 << 20, 49)] {
        let mut keep = Keep::start();
        fs::write(keep.path("file"), &bytes).unwrap();
        let node = keep.open("file");
        let before = keep.host.calls();
        let mut got = Vec::new();
        loop {
            let part = keep.read(node, got.len() as u64, piece);
            if part.is_empty() {
                break;
            }
            got.extend(part);
        }
        assert_eq!(got, bytes, "{piece}");
        let calls = keep.host.calls() - before;
        assert!(calls <= most, "{calls} for pieces of {piece}");
    }
}

#[test]
fn scattered_reads_cost_one_request_each() {
    let bytes = contents(4 << 20);
    let mut keep = Keep::start();
    fs::write(keep.path("file"), &bytes).unwrap();
    let node = keep.open("file");
    let before = keep.host.calls();
    for turn in 0..100 {
        let offset = turn * 7919 % (bytes.len() - 100);
        let got = keep.read(node, offset as u64, 100);
        assert_eq!(got, bytes[offset..offset + 100]);
    }
    assert_eq!(keep.host.calls() - before, 100);
    // A header of two reads: only a few more pages are requested.
    let before = keep.host.calls();
    for offset in [0, 100] {
        keep.read(node, offset, 100);
    }
    assert!(keep.host.calls() - before <= 2 + 4);
}

#[test]
fn files_that_are_read_ahead_leave_room_for_other_calls() {
    let keep = Keep::start();
    let bytes = contents(1 << 20);
    fs::write(keep.path("file"), &bytes).unwrap();
    let mut all: Vec<_> = (0..100)
        .map(|_| {
            let mut files = HostFileSystem::new(keep.port.clone());
            let node = open(&mut files, "file");
            (files, node)
        })
        .collect();
    // In turns, so that many are in the middle of their files at once.
    for (files, node) in &mut all {
        for at in [0, 1000, 2000, 3000] {
            let got = read(files, *node, at as u64, 1000);
            assert_eq!(got, bytes[at..][..1000]);
        }
        files.stat(*node).unwrap();
    }
    for (files, node) in &mut all {
        assert_eq!(read(files, *node, 4000, 2000), bytes[4000..6000]);
        files.close(*node);
    }
}

#[test]
fn a_closed_file_is_not_read_ahead_for_another() {
    let mut keep = Keep::start();
    for (name, byte) in [("a", 1), ("b", 2)] {
        fs::write(keep.path(name), vec![byte; 1 << 20]).unwrap();
    }
    let first = keep.open("a");
    for at in 0..3 {
        keep.read(first, at * 1000, 1000);
    }
    keep.files.close(first);
    // The host may assign the same handle again.
    let second = keep.open("b");
    assert_eq!(keep.read(second, 3000, 1000), vec![2; 1000]);
}

/// The ways in which a Keep can learn that something has happened outside.
#[derive(Clone, Copy, Debug)]
enum News {
    Monotonic,
    Wall,
    Timer,
    Call,
}

#[derive(Clone, Debug)]
enum Step {
    /// Continues to read, through one of two descriptors.
    Read(usize, usize),
    Seek(usize, u64),
    Write(usize, u64, Vec<u8>),
    SetSize(usize, u64),
    /// Another program writes, and the Keep may know of it.
    Outside(u64, Vec<u8>, News),
    /// Another program shortens or extends the file.
    OutsideSize(u64, News),
    Reopen(usize),
}

const SIZE: u64 = 1 << 20;

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        Just(News::Monotonic),
        Just(News::Wall),
        Just(News::Timer),
        Just(News::Call)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..2_usize;
    let length = prop_oneof![1..5000_usize, Just(64 << 10), 1..400_000_usize];
    prop_oneof![
        12 => (which(), length).prop_map(|(which, length)| Step::Read(which, length)),
        2 => (which(), 0..SIZE).prop_map(|(which, at)| Step::Seek(which, at)),
        1 => (which(), 0..SIZE, vec(any::<u8>(), 1..3000)).prop_map(|(w, at, b)| Step::Write(w, at, b)),
        1 => (which(), 0..2 * SIZE).prop_map(|(which, size)| Step::SetSize(which, size)),
        2 => (0..SIZE, vec(any::<u8>(), 1..3000), news()).prop_map(|(at, b, n)| Step::Outside(at, b, n)),
        1 => (0..2 * SIZE, news()).prop_map(|(size, news)| Step::OutsideSize(size, news)),
        1 => which().prop_map(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_read_returns_the_current_content(steps in vec(step(), 1..120)) {
        let mut keep = Keep::start();
        let clocks = Clocks::new(keep.port.clone());
        fs::write(keep.path("file"), contents(usize::try_from(SIZE).unwrap())).unwrap();
        let outside = File::options().read(true).write(true).open(keep.path("file")).unwrap();
        let mut nodes = [keep.open("file"), keep.open("file")];
        let mut positions = [0_u64; 2];
        for step in steps {
            let mut told = None;
            match step {
                Step::Read(which, length) => {
                    let got = keep.read(nodes[which], positions[which], length);
                    let mut expected = vec![0; length];
                    let mut count = 0;
                    while let Ok(more @ 1..) = outside.read_at(&mut expected[count..], positions[which] + count as u64) {
                        count += more;
                    }
                    expected.truncate(count);
                    prop_assert!(got == expected, "{} bytes at {}", length, positions[which]);
                    positions[which] += got.len() as u64;
                }
                Step::Seek(which, at) => positions[which] = at,
                Step::Write(which, at, bytes) => {
                    prop_assert_eq!(keep.files.write_at(nodes[which], at, &bytes), Ok(bytes.len()));
                }
                Step::SetSize(which, size) => keep.files.set_size(nodes[which], size).unwrap(),
                Step::Outside(at, bytes, news) => {
                    outside.write_all_at(&bytes, at).unwrap();
                    told = Some(news);
                }
                Step::OutsideSize(size, news) => {
                    outside.set_len(size).unwrap();
                    told = Some(news);
                }
                Step::Reopen(which) => {
                    keep.files.close(nodes[which]);
                    nodes[which] = keep.open("file");
                }
            }
            match told {
                None => {}
                Some(News::Monotonic) => _ = clocks.monotonic(),
                Some(News::Wall) => _ = clocks.wall().unwrap(),
                Some(News::Timer) => keep.port.block_on(keep.port.sleep_until(Instant::now())),
                Some(News::Call) => _ = keep.files.stat(nodes[0]).unwrap(),
            }
        }
    }
}
