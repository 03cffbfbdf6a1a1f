// SPDX-License-Identifier: Apache-2.0

//! The private file system against the real one: random operations must have the same outcome, and
//! leave the same tree.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::error::Errno;
use enarx_wasi::fs::memory::MemoryFileSystem;
use enarx_wasi::fs::{FileSystem, Kind, Listing, OpenOptions};
use proptest::collection::vec;
use proptest::prelude::*;

/// One step of the test; names are indices of [`NAMES`].
#[derive(Clone, Debug)]
enum Step {
    Write(usize, u16, Vec<u8>),
    SetSize(usize, u32),
    CreateNew(usize),
    Truncate(usize),
    MakeDirectory(usize),
    RemoveDirectory(usize),
    Unlink(usize),
    Rename(usize, usize),
    Link(usize, usize),
    Symlink(usize, usize),
    Read(usize),
}

/// Few names, so that operations collide; none leads out.
const NAMES: &[&str] = &[
    "a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "a/x", "d/../a", "d/e/../b", "l", "l/a", ".",
    "a/", "a/.", "d/", "d/.", "d/..", "d//a", "d/e/", "d/e/..", "l/", "l/.",
];

/// Targets of symbolic links, relative to the link's directory.
const TARGETS: &[&str] = &["a", "d", "d/e", "l", "missing", "./b"];

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        (name(), any::<u16>(), vec(any::<u8>(), 0..9)).prop_map(|(n, o, b)| Step::Write(n, o, b)),
        (name(), 0..200_000_u32).prop_map(|(n, size)| Step::SetSize(n, size)),
        name().prop_map(Step::CreateNew),
        name().prop_map(Step::Truncate),
        name().prop_map(Step::MakeDirectory),
        name().prop_map(Step::RemoveDirectory),
        name().prop_map(Step::Unlink),
        (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        (name(), name()).prop_map(|(from, to)| Step::Link(from, to)),
        (0..TARGETS.len(), name()).prop_map(|(target, n)| Step::Symlink(target, n)),
        name().prop_map(Step::Read),
    ]
}

/// The number of an error of the real file system, in WASI's terms.
fn errno(error: &io::Error) -> Errno {
    match error.raw_os_error() {
        Some(1) => Errno::NotPermitted,
        Some(2) => Errno::NoEntry,
        Some(16) => Errno::Busy,
        Some(17) => Errno::Exists,
        Some(20) => Errno::NotDirectory,
        Some(21) => Errno::IsDirectory,
        Some(22) => Errno::Invalid,
        Some(39) => Errno::NotEmpty,
        Some(40) => Errno::Loop,
        other => panic!("an unexpected error: {other:?} {error}"),
    }
}

struct Private {
    files: MemoryFileSystem,
    root: u64,
}

impl Private {
    fn new() -> Self {
        static CLOCKS: LazyLock<Clocks> =
            LazyLock::new(|| Clocks::new(InProcess::start(World::default()).0));
        let files = MemoryFileSystem::new(CLOCKS.clone(), Budget::new(1 << 30));
        let root = files.root();
        Self { files, root }
    }

    fn with<R>(
        &mut self,
        path: &str,
        options: OpenOptions,
        act: impl FnOnce(&mut MemoryFileSystem, u64) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let (node, _) = self.files.open(self.root, path, options)?;
        let outcome = act(&mut self.files, node);
        self.files.close(node);
        outcome
    }

    fn apply(&mut self, step: &Step) -> Result<Vec<u8>, Errno> {
        let (files, root) = (&mut self.files, self.root);
        let writing = OpenOptions {
            write: true,
            follow: true,
            ..OpenOptions::default()
        };
        let creating = OpenOptions {
            create: true,
            ..writing
        };
        match step {
            Step::Write(name, offset, bytes) => self.with(NAMES[*name], creating, |files, node| {
                files.write_at(node, u64::from(*offset) * 3, bytes)?;
                Ok(Vec::new())
            }),
            Step::SetSize(name, size) => self.with(NAMES[*name], writing, |files, node| {
                files.set_size(node, u64::from(*size))?;
                Ok(Vec::new())
            }),
            Step::CreateNew(name) => {
                let exclusive = OpenOptions {
                    exclusive: true,
                    ..creating
                };
                self.with(NAMES[*name], exclusive, |_, _| Ok(Vec::new()))
            }
            Step::Truncate(name) => {
                let truncating = OpenOptions {
                    truncate: true,
                    ..writing
                };
                self.with(NAMES[*name], truncating, |_, _| Ok(Vec::new()))
            }
            Step::MakeDirectory(name) => {
                files.create_directory(root, NAMES[*name])?;
                Ok(Vec::new())
            }
            Step::RemoveDirectory(name) => {
                files.remove_directory(root, NAMES[*name])?;
                Ok(Vec::new())
            }
            Step::Unlink(name) => {
                files.unlink(root, NAMES[*name])?;
                Ok(Vec::new())
            }
            Step::Rename(from, to) => {
                files.rename(root, NAMES[*from], root, NAMES[*to])?;
                Ok(Vec::new())
            }
            Step::Link(from, to) => {
                files.link(root, NAMES[*from], root, NAMES[*to])?;
                Ok(Vec::new())
            }
            Step::Symlink(target, name) => {
                files.symlink(TARGETS[*target], root, NAMES[*name])?;
                Ok(Vec::new())
            }
            Step::Read(name) => {
                let reading = OpenOptions {
                    read: true,
                    follow: true,
                    ..OpenOptions::default()
                };
                self.with(NAMES[*name], reading, |files, node| {
                    if files.stat(node)?.kind == Kind::Directory {
                        return Err(Errno::IsDirectory);
                    }
                    let mut bytes = vec![0; 1 << 20];
                    let count = files.read_at(node, 0, &mut bytes)?;
                    bytes.truncate(count);
                    Ok(bytes)
                })
            }
        }
    }

    /// Every name with its type, its size and its number of links.
    fn tree(&mut self, directory: u64, path: &str, tree: &mut Vec<(String, Kind, u64, u64)>) {
        let mut listing = Listing::new(Budget::new(1 << 20));
        self.files.read_directory(directory, &mut listing).unwrap();
        for entry in listing.entries() {
            let name = entry.name.clone();
            let stat = self.files.stat_at(directory, &name, false).unwrap();
            let path = format!("{path}/{name}");
            let is_directory = stat.kind == Kind::Directory;
            // Sizes of directories have no meaning.
            let size = if is_directory { 0 } else { stat.size };
            tree.push((path.clone(), stat.kind, size, stat.links));
            if is_directory {
                let reading = OpenOptions {
                    read: true,
                    ..OpenOptions::default()
                };
                let (node, _) = self.files.open(directory, &name, reading).unwrap();
                self.tree(node, &path, tree);
                self.files.close(node);
            }
        }
    }
}

/// A directory of the real file system; removed at the end.
struct Real(PathBuf);

impl Drop for Real {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Real {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memory-model-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: usize) -> PathBuf {
        self.0.join(NAMES[name])
    }

    fn apply(&self, step: &Step) -> io::Result<Vec<u8>> {
        match step {
            Step::Write(name, offset, bytes) => {
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(self.path(*name))?;
                if !bytes.is_empty() {
                    file.write_all_at(bytes, u64::from(*offset) * 3)?;
                }
            }
            Step::SetSize(name, size) => {
                let file = File::options().write(true).open(self.path(*name))?;
                file.set_len(u64::from(*size))?;
            }
            Step::CreateNew(name) => {
                File::create_new(self.path(*name))?;
            }
            Step::Truncate(name) => {
                let path = self.path(*name);
                File::options().write(true).truncate(true).open(path)?;
            }
            Step::MakeDirectory(name) => fs::create_dir(self.path(*name))?,
            Step::RemoveDirectory(name) => fs::remove_dir(self.path(*name))?,
            Step::Unlink(name) => fs::remove_file(self.path(*name))?,
            Step::Rename(from, to) => fs::rename(self.path(*from), self.path(*to))?,
            Step::Link(from, to) => fs::hard_link(self.path(*from), self.path(*to))?,
            Step::Symlink(target, name) => symlink(TARGETS[*target], self.path(*name))?,
            Step::Read(name) => return fs::read(self.path(*name)),
        }
        Ok(Vec::new())
    }

    fn tree(directory: &Path, path: &str, tree: &mut Vec<(String, Kind, u64, u64)>) {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        for name in names {
            let inner = directory.join(&name);
            let meta = fs::symlink_metadata(&inner).unwrap();
            let kind = if meta.is_dir() {
                Kind::Directory
            } else if meta.is_symlink() {
                Kind::SymbolicLink
            } else {
                Kind::File
            };
            let path = format!("{path}/{name}");
            let size = if meta.is_dir() { 0 } else { meta.len() };
            tree.push((path.clone(), kind, size, meta.nlink()));
            if meta.is_dir() {
                Self::tree(&inner, &path, tree);
            }
        }
    }
}

/// The link count of a directory differs between real file systems.
fn without_directory_links(
    tree: Vec<(String, Kind, u64, u64)>,
) -> Vec<(String, Kind, u64, Option<u64>)> {
    tree.into_iter()
        .map(|(path, kind, size, links)| {
            let links = (kind != Kind::Directory).then_some(links);
            (path, kind, size, links)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_file_systems_agree(steps in vec(step(), 1..40)) {
        let mut private = Private::new();
        let real = Real::new();
        for step in &steps {
            let expected = real.apply(step).map_err(|error| errno(&error));
            let actual = private.apply(step);
            prop_assert_eq!(actual, expected, "{:?}", step);
        }
        let (mut expected, mut actual) = (Vec::new(), Vec::new());
        Real::tree(&real.0, "", &mut expected);
        let root = private.root;
        private.tree(root, "", &mut actual);
        prop_assert_eq!(without_directory_links(actual), without_directory_links(expected));
    }
}
