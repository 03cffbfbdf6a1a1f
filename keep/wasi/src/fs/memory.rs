// SPDX-License-Identifier: Apache-2.0

//! The private file system: files and directories in the memory of the Keep, invisible to others,
//! which end with it.
//!
//! Files that were delivered with the program stay as they are, as do the names that lead to them; around them everything can
//! be changed.
//!
//! Files are sparse: only chunks that were written take memory. Paths never lead above the
//! directory they start from.

use std::collections::BTreeMap;

use super::pieces::{LARGEST as CHUNK, Piece, Pieces};
use super::{Entry, FileSystem, Kind, Listing, Node, OpenOptions, Stat, Time, TimeChange};
use crate::budget::Budget;
use crate::clock::Clocks;
use crate::error::{Errno, Result};

/// Longest name of one component, as in Linux (NAME_MAX).
const NAME_MAX: usize = 255;
/// Longest path, as in a directory of the host.
const PATH_MAX: usize = enarx_sallyport::call::PATH_MAX as usize;
/// Symbolic links that one path may pass through, as in Linux (MAXSYMLINKS).
const LINKS_MAX: u32 = 40;
/// Memory that an object takes besides its content; an estimate that bounds their number.
const OBJECT_COST: u64 = 512;
/// Memory that a name takes besides its bytes: its place in a directory, and that of the allocation.
const NAME_COST: u64 = 96;
/// Memory that a chunk takes besides its content: its place in the file.
const CHUNK_COST: u64 = 64;
/// Device number of the private file system.
const DEVICE: u64 = 1;
/// Number of the root directory.
const ROOT: u64 = 1;

enum Body {
    File {
        size: u64,
        chunks: Chunks,
    },
    Directory {
        entries: BTreeMap<String, u64>,
        parent: u64,
    },
    SymbolicLink(String),
}

/// The content of a file in chunks of [`CHUNK`] bytes, by index. A missing chunk, and the missing end of one, are zeros.
#[derive(Default)]
struct Chunks {
    /// Most files have no other. It takes as much memory as it has to.
    first: Option<Piece>,
    others: BTreeMap<u64, Piece>,
}

impl Chunks {
    fn get(&self, index: u64) -> Option<&Piece> {
        match index {
            0 => self.first.as_ref(),
            _ => self.others.get(&index),
        }
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut Piece> {
        match index {
            0 => self.first.as_mut(),
            _ => self.others.get_mut(&index),
        }
    }

    /// Puts a chunk in the place of another, which is returned.
    fn put(&mut self, index: u64, piece: Piece) -> Option<Piece> {
        match index {
            0 => self.first.replace(piece),
            _ => self.others.insert(index, piece),
        }
    }

    /// Takes the chunks from this index on out.
    fn split_off(&mut self, index: u64) -> Self {
        Self {
            first: self.first.take_if(|_| index == 0),
            others: self.others.split_off(&index),
        }
    }

    /// Returns their memory, all of it at once.
    fn free(self, pieces: &mut Pieces, budget: &Budget) {
        let cost = self.others.len() as u64 * CHUNK_COST;
        for piece in self.first.into_iter().chain(self.others.into_values()) {
            pieces.free(piece);
        }
        budget.give_heap(cost);
    }
}

/// The cost of a name in a directory.
fn name_cost(name: &str) -> u64 {
    NAME_COST.saturating_add(name.len() as u64)
}

/// The cost of an object besides its names and its chunks.
fn object_cost(body: &Body) -> u64 {
    match body {
        Body::SymbolicLink(target) => OBJECT_COST.saturating_add(target.len() as u64),
        _ => OBJECT_COST,
    }
}

struct Inode {
    body: Body,
    /// Names that lead here.
    links: u64,
    /// Descriptors that hold it.
    opens: u64,
    /// It was delivered, or is a directory on the path to a delivered file: its name cannot change,
    /// nor the content of a file. Attempts to change it get the same answer as in a directory that
    /// Wasmtime opens read-only.
    delivered: bool,
    accessed: Time,
    modified: Time,
    changed: Time,
}

/// The private file system.
pub struct MemoryFileSystem {
    /// Boxed: a tree has room for more objects than it holds.
    inodes: BTreeMap<u64, Box<Inode>>,
    next: u64,
    /// The root has no times yet: they are determined when a program reads them, which most never do.
    timeless_root: bool,
    clocks: Clocks,
    pieces: Pieces,
    budget: Budget,
}

/// Where a path leads.
struct Place {
    /// The directory that holds the last component, and its name there; `None` when the path ends in
    /// `.`, `..` or the start itself.
    name: Option<(u64, String)>,
    /// The object there, if any.
    found: Option<u64>,
    /// The path ends in a slash.
    directory_wanted: bool,
}

impl Place {
    fn existing(&self) -> Result<u64> {
        self.found.ok_or(Errno::NoEntry)
    }
}

/// The last component of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last<'a> {
    Name(&'a str),
    Dot,
    DotDot,
}

/// The directory that contains the last component of a path, for creating, removing or moving a name.
/// As in Linux, errors in the directories before it precede those of the last component.
struct Parent<'a> {
    directory: u64,
    last: Last<'a>,
    /// The path ends in a slash.
    slash: bool,
}

impl MemoryFileSystem {
    /// An empty file system that takes its memory from `budget`.
    pub fn new(clocks: Clocks, budget: Budget) -> Self {
        let mut this = Self {
            inodes: BTreeMap::new(),
            next: ROOT,
            timeless_root: true,
            clocks,
            pieces: Pieces::new(budget.clone()),
            budget,
        };
        this.inodes.insert(
            ROOT,
            Box::new(Inode {
                body: Body::Directory {
                    entries: BTreeMap::new(),
                    parent: ROOT,
                },
                links: 2,
                opens: 1,
                delivered: false,
                accessed: Time::default(),
                modified: Time::default(),
                changed: Time::default(),
            }),
        );
        this.next = ROOT + 1;
        this
    }

    /// The root directory, held by the caller.
    pub fn root(&self) -> Node {
        ROOT
    }

    /// Puts a file at this path, with its parent directories; none of them can be changed from then
    /// on.
    ///
    /// # Errors
    /// [`Errno::NoSpace`]; those of a path that is not valid, or was delivered before.
    pub fn deliver(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            let directory = path.get(..end).unwrap_or_default();
            match self.create_directory(ROOT, directory) {
                Ok(()) | Err(Errno::Exists) => {}
                Err(error) => return Err(error),
            }
            let number = self.lookup(ROOT, directory, false)?;
            self.inode_mut(number)?.delivered = true;
        }
        let options = OpenOptions {
            write: true,
            create: true,
            exclusive: true,
            ..OpenOptions::default()
        };
        let (node, _) = self.open(ROOT, path, options)?;
        let mut written = 0;
        while let Some(rest) = contents.get(written..).filter(|rest| !rest.is_empty()) {
            written += self.write_at(node, written as u64, rest)?;
        }
        self.inode_mut(node)?.delivered = true;
        self.close(node);
        Ok(())
    }

    /// Refuses to change delivered files.
    fn changeable(&self, number: u64) -> Result<()> {
        if self.inode(number)?.delivered {
            return Err(Errno::NotPermitted);
        }
        Ok(())
    }

    fn now(&self) -> Time {
        self.clocks.wall_time().unwrap_or_default()
    }

    /// Gives the root the times that it should have had from the start.
    fn settle_root(&mut self, number: u64) -> Result<()> {
        if number != ROOT || !self.timeless_root {
            return Ok(());
        }
        self.timeless_root = false;
        let now = self.now();
        let root = self.inode_mut(ROOT)?;
        for time in [&mut root.accessed, &mut root.modified, &mut root.changed] {
            if *time == Time::default() {
                *time = now;
            }
        }
        Ok(())
    }

    fn inode(&self, number: u64) -> Result<&Inode> {
        let inode = self.inodes.get(&number);
        inode.map(Box::as_ref).ok_or(Errno::BadDescriptor)
    }

    fn inode_mut(&mut self, number: u64) -> Result<&mut Inode> {
        let inode = self.inodes.get_mut(&number);
        inode.map(Box::as_mut).ok_or(Errno::BadDescriptor)
    }

    fn entries(&self, directory: u64) -> Result<&BTreeMap<String, u64>> {
        match &self.inode(directory)?.body {
            Body::Directory { entries, .. } => Ok(entries),
            _ => Err(Errno::NotDirectory),
        }
    }

    fn entries_mut(&mut self, directory: u64) -> Result<&mut BTreeMap<String, u64>> {
        match &mut self.inode_mut(directory)?.body {
            Body::Directory { entries, .. } => Ok(entries),
            _ => Err(Errno::NotDirectory),
        }
    }

    fn kind(&self, number: u64) -> Result<Kind> {
        Ok(match self.inode(number)?.body {
            Body::File { .. } => Kind::File,
            Body::Directory { .. } => Kind::Directory,
            Body::SymbolicLink(_) => Kind::SymbolicLink,
        })
    }

    fn is_directory(&self, number: u64) -> Result<bool> {
        Ok(self.kind(number)? == Kind::Directory)
    }

    /// Follows `path` from the directory `start`.
    fn walk(&self, start: u64, path: &str, follow: bool) -> Result<Place> {
        check_path(path)?;
        self.entries(start)?;
        let mut way = vec![start];
        let mut work: Vec<String> = Vec::new();
        push_components(&mut work, path);
        let mut directory_wanted = path.ends_with('/');
        let mut links = 0;
        while let Some(component) = work.pop() {
            let here = *way.last().ok_or(Errno::NotPermitted)?;
            if component == "." {
                continue;
            }
            if component == ".." {
                way.pop();
                if way.is_empty() {
                    return Err(Errno::NotPermitted);
                }
                continue;
            }
            if component.len() > NAME_MAX {
                return Err(Errno::NameTooLong);
            }
            let last = work.is_empty();
            let Some(&number) = self.entries(here)?.get(&component) else {
                if last {
                    return Ok(Place {
                        name: Some((here, component)),
                        found: None,
                        directory_wanted,
                    });
                }
                return Err(Errno::NoEntry);
            };
            match &self.inode(number)?.body {
                Body::SymbolicLink(target) if !last || follow || directory_wanted => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::Loop);
                    }
                    if target.starts_with('/') {
                        return Err(Errno::NotPermitted);
                    }
                    directory_wanted |= last && target.ends_with('/');
                    push_components(&mut work, target);
                }
                Body::Directory { .. } if !last => way.push(number),
                _ if last => {
                    return Ok(Place {
                        name: Some((here, component)),
                        found: Some(number),
                        directory_wanted,
                    });
                }
                _ => return Err(Errno::NotDirectory),
            }
        }
        Ok(Place {
            name: None,
            found: way.last().copied(),
            directory_wanted,
        })
    }

    /// Follows all of `path` but its last component.
    fn parent<'a>(&self, start: u64, path: &'a str) -> Result<Parent<'a>> {
        check_path(path)?;
        let trimmed = path.trim_end_matches('/');
        let slash = trimmed.len() < path.len();
        let (head, last) = match trimmed.rfind('/') {
            // The slash stays, and demands a directory.
            Some(place) => trimmed.split_at(place.saturating_add(1)),
            None => ("", trimmed),
        };
        let directory = if head.is_empty() {
            self.entries(start)?;
            start
        } else {
            self.lookup(start, head, true)?
        };
        let last = match last {
            "." => Last::Dot,
            ".." => {
                // Not above the start.
                self.walk(start, trimmed, true)?;
                Last::DotDot
            }
            name => Last::Name(name),
        };
        Ok(Parent {
            directory,
            last,
            slash,
        })
    }

    /// Finds the object that a directory holds under a name.
    fn child(&self, directory: u64, name: &str) -> Result<Option<u64>> {
        if name.len() > NAME_MAX {
            return Err(Errno::NameTooLong);
        }
        Ok(self.entries(directory)?.get(name).copied())
    }

    /// The name for something new, which is not there yet; only a directory's may end in a slash.
    fn vacant(&self, parent: &Parent<'_>, for_directory: bool) -> Result<String> {
        let Last::Name(name) = parent.last else {
            return Err(Errno::Exists);
        };
        if self.child(parent.directory, name)?.is_some() {
            return Err(Errno::Exists);
        }
        if parent.slash && !for_directory {
            return Err(Errno::NoEntry);
        }
        Ok(name.to_owned())
    }

    /// Finds the object that `path` names; a trailing slash demands a directory.
    fn lookup(&self, start: u64, path: &str, follow: bool) -> Result<u64> {
        let place = self.walk(start, path, follow)?;
        let number = place.existing()?;
        if place.directory_wanted && !self.is_directory(number)? {
            return Err(Errno::NotDirectory);
        }
        Ok(number)
    }

    /// Takes memory of the heap out of the budget.
    fn charge(&self, bytes: u64) -> Result<()> {
        if self.budget.take_heap(bytes) {
            Ok(())
        } else {
            Err(Errno::NoSpace)
        }
    }

    /// Enters a name into a directory.
    fn add_name(&mut self, directory: u64, name: String, number: u64) -> Result<()> {
        self.entries(directory)?;
        self.charge(name_cost(&name))?;
        self.entries_mut(directory)?.insert(name, number);
        Ok(())
    }

    /// Takes a name out of a directory.
    fn remove_name(&mut self, directory: u64, name: &str) -> Result<()> {
        if self.entries_mut(directory)?.remove(name).is_some() {
            self.budget.give_heap(name_cost(name));
        }
        Ok(())
    }

    /// Makes an object and gives it its first name.
    fn create(&mut self, directory: u64, name: String, body: Body) -> Result<u64> {
        if self.inode(directory)?.links == 0 {
            return Err(Errno::NoEntry);
        }
        let number = self.next;
        let next = self.next.checked_add(1).ok_or(Errno::NoSpace)?;
        let cost = object_cost(&body);
        self.charge(cost)?;
        if let Err(error) = self.add_name(directory, name, number) {
            self.budget.give_heap(cost);
            return Err(error);
        }
        self.next = next;
        let now = self.now();
        let is_directory = matches!(body, Body::Directory { .. });
        self.inodes.insert(
            number,
            Box::new(Inode {
                body,
                links: if is_directory { 2 } else { 1 },
                opens: 0,
                delivered: false,
                accessed: now,
                modified: now,
                changed: now,
            }),
        );
        if is_directory {
            self.inode_mut(directory)?.links += 1;
        }
        self.touch(directory, now)?;
        Ok(number)
    }

    /// Records a change of content.
    fn touch(&mut self, number: u64, now: Time) -> Result<()> {
        let inode = self.inode_mut(number)?;
        inode.modified = now;
        inode.changed = now;
        Ok(())
    }

    /// Removes a name from its node.
    fn drop_name(&mut self, number: u64) -> Result<()> {
        let now = self.now();
        let inode = self.inode_mut(number)?;
        inode.links = match inode.body {
            Body::Directory { .. } => 0,
            _ => inode.links.saturating_sub(1),
        };
        inode.changed = now;
        self.free_if_unused(number);
        Ok(())
    }

    /// Frees an object that has neither a name nor a descriptor.
    fn free_if_unused(&mut self, number: u64) {
        let Some(inode) = self.inodes.get(&number) else {
            return;
        };
        if inode.links > 0 || inode.opens > 0 {
            return;
        }
        if let Some(inode) = self.inodes.remove(&number) {
            let cost = object_cost(&inode.body);
            if let Body::File { chunks, .. } = inode.body {
                chunks.free(&mut self.pieces, &self.budget);
            }
            self.budget.give_heap(cost);
        }
    }

    fn change_times(
        &mut self,
        number: u64,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<()> {
        self.changeable(number)?;
        self.settle_root(number)?;
        let now = self.now();
        let inode = self.inode_mut(number)?;
        for (time, change) in [
            (&mut inode.accessed, accessed),
            (&mut inode.modified, modified),
        ] {
            match change {
                TimeChange::Keep => {}
                TimeChange::Now => *time = now,
                TimeChange::At(at) => *time = at,
            }
        }
        inode.changed = now;
        Ok(())
    }

    fn status(&mut self, number: u64) -> Result<Stat> {
        self.settle_root(number)?;
        let inode = self.inode(number)?;
        let size = match &inode.body {
            Body::File { size, .. } => *size,
            Body::Directory { entries, .. } => entries.len() as u64,
            Body::SymbolicLink(target) => target.len() as u64,
        };
        Ok(Stat {
            device: DEVICE,
            inode: number,
            kind: self.kind(number)?,
            links: inode.links,
            size,
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
        })
    }

    /// True if `number` is `ancestor` or lies below it.
    fn is_below(&self, mut number: u64, ancestor: u64) -> Result<bool> {
        loop {
            if number == ancestor {
                return Ok(true);
            }
            match self.inode(number)?.body {
                Body::Directory { parent, .. } if parent != number => number = parent,
                _ => return Ok(false),
            }
        }
    }

    /// Writes within one file; the caller has checked that the end is representable.
    fn write(&mut self, node: Node, offset: u64, bytes: &[u8]) -> Result<usize> {
        self.changeable(node)?;
        let end = offset
            .checked_add(bytes.len() as u64)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(Errno::FileTooLarge)?;
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let (index, within) = locate(offset.saturating_add(written as u64));
            let length = rest.len().min(CHUNK - within);
            let part = rest.get(..length).unwrap_or(rest);
            if let Err(error) = self.write_chunk(node, index, within, part) {
                if written == 0 {
                    return Err(error);
                }
                break;
            }
            written += length;
        }
        let reached = end.min(offset.saturating_add(written as u64));
        let now = self.now();
        if let Body::File { size, .. } = &mut self.inode_mut(node)?.body
            && !bytes.is_empty()
        {
            *size = (*size).max(reached);
        }
        self.touch(node, now)?;
        Ok(written)
    }

    /// Writes within one chunk: `within + bytes.len()` is at most [`CHUNK`].
    fn write_chunk(&mut self, node: Node, index: u64, within: usize, bytes: &[u8]) -> Result<()> {
        let end = within.checked_add(bytes.len()).ok_or(Errno::FileTooLarge)?;
        let Self {
            inodes,
            pieces,
            budget,
            ..
        } = self;
        let inode = inodes.get_mut(&node).ok_or(Errno::BadDescriptor)?;
        let Body::File { chunks, .. } = &mut inode.body else {
            return Err(Errno::BadDescriptor);
        };
        let held = chunks.get(index);
        if held.is_none_or(|held| !held.has_room(end)) {
            let is_new = held.is_none() && index > 0;
            if is_new && !budget.take_heap(CHUNK_COST) {
                return Err(Errno::NoSpace);
            }
            let room = if index == 0 { end } else { CHUNK };
            let made = pieces.make(room, held);
            if made.is_err() && is_new {
                budget.give_heap(CHUNK_COST);
            }
            if let Some(old) = chunks.put(index, made?) {
                pieces.free(old);
            }
        }
        let chunk = chunks.get_mut(index).ok_or(Errno::NoSpace)?;
        pieces.write(chunk, within, bytes)
    }
}

/// Refuses what no path can be, and what starts at a root.
fn check_path(path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    if path.contains('\0') {
        return Err(Errno::Invalid);
    }
    if path.len() > PATH_MAX {
        return Err(Errno::NameTooLong);
    }
    if path.starts_with('/') {
        return Err(Errno::NotPermitted);
    }
    Ok(())
}

/// The chunk of an offset, and the place within it.
fn locate(offset: u64) -> (u64, usize) {
    const SIZE: u64 = CHUNK as u64;
    // The remainder is below CHUNK, hence fits.
    (
        offset / SIZE,
        usize::try_from(offset % SIZE).unwrap_or(CHUNK - 1),
    )
}

/// Puts the components of `path` on a stack, the first on top.
fn push_components(work: &mut Vec<String>, path: &str) {
    work.extend(
        path.split('/')
            .filter(|component| !component.is_empty())
            .rev()
            .map(str::to_owned),
    );
}

impl FileSystem for MemoryFileSystem {
    fn open(&mut self, dir: Node, path: &str, options: OpenOptions) -> Result<(Node, Kind)> {
        // A path that ends in a slash can only name a directory, and none is created this way.
        if options.create
            && let parent = self.parent(dir, path)?
            && parent.slash
            && matches!(parent.last, Last::Name(_))
        {
            return Err(Errno::IsDirectory);
        }
        // An exclusive creation never follows the last link.
        let follow = options.follow && !(options.create && options.exclusive);
        let place = self.walk(dir, path, follow)?;
        let number = if let Some(number) = place.found {
            if options.create && options.exclusive {
                return Err(Errno::Exists);
            }
            number
        } else {
            if !options.create {
                return Err(Errno::NoEntry);
            }
            // Such a slash is the end of a link's target here.
            if place.directory_wanted {
                return Err(Errno::IsDirectory);
            }
            let (directory, name) = place.name.ok_or(Errno::Exists)?;
            let body = Body::File {
                size: 0,
                chunks: Chunks::default(),
            };
            let number = self.create(directory, name, body)?;
            self.inode_mut(number)?.opens += 1;
            return Ok((number, Kind::File));
        };
        let kind = self.kind(number)?;
        match kind {
            Kind::SymbolicLink => return Err(Errno::Loop),
            Kind::Directory if options.write => return Err(Errno::IsDirectory),
            Kind::File if options.directory || place.directory_wanted => {
                return Err(Errno::NotDirectory);
            }
            _ => {}
        }
        if options.write || options.truncate {
            self.changeable(number)?;
        }
        if options.truncate && kind == Kind::File {
            self.set_size(number, 0)?;
        }
        let inode = self.inode_mut(number)?;
        inode.opens = inode.opens.checked_add(1).ok_or(Errno::NoMemory)?;
        Ok((number, kind))
    }

    fn close(&mut self, node: Node) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        self.free_if_unused(node);
    }

    fn read_at(&mut self, node: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if i64::try_from(offset).is_err() {
            return Err(Errno::Invalid);
        }
        let Body::File { size, chunks } = &self.inode(node)?.body else {
            return Err(Errno::IsDirectory);
        };
        let available = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let total = buffer.len().min(available);
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..total).filter(|rest| !rest.is_empty()) {
            let (index, within) = locate(offset.saturating_add(done as u64));
            let length = rest.len().min(CHUNK - within);
            let (rest, _) = rest.split_at_mut(length);
            let held = chunks
                .get(index)
                .and_then(|chunk| self.pieces.content(chunk).get(within..))
                .unwrap_or_default();
            let copied = held.len().min(length);
            let (front, back) = rest.split_at_mut(copied);
            front.copy_from_slice(held.get(..copied).unwrap_or_default());
            back.fill(0);
            done += length;
        }
        Ok(total)
    }

    fn write_at(&mut self, node: Node, offset: u64, bytes: &[u8]) -> Result<usize> {
        if i64::try_from(offset).is_err() {
            return Err(Errno::Invalid);
        }
        self.write(node, offset, bytes)
    }

    fn append(&mut self, node: Node, bytes: &[u8]) -> Result<usize> {
        let Body::File { size, .. } = &self.inode(node)?.body else {
            return Err(Errno::BadDescriptor);
        };
        let offset = *size;
        self.write(node, offset, bytes)
    }

    fn stat(&mut self, node: Node) -> Result<Stat> {
        self.status(node)
    }

    fn stat_at(&mut self, dir: Node, path: &str, follow: bool) -> Result<Stat> {
        let number = self.lookup(dir, path, follow)?;
        self.status(number)
    }

    fn set_size(&mut self, node: Node, size: u64) -> Result<()> {
        if i64::try_from(size).is_err() {
            return Err(Errno::Invalid);
        }
        self.changeable(node)?;
        let now = self.now();
        let Body::File { size: old, chunks } = &mut self.inode_mut(node)?.body else {
            return Err(Errno::Invalid);
        };
        *old = size;
        let (index, within) = locate(size);
        let beyond = if within == 0 {
            index
        } else {
            index.saturating_add(1)
        };
        let freed = chunks.split_off(beyond);
        if let Some(chunk) = chunks.get_mut(index) {
            chunk.truncate(within);
        }
        freed.free(&mut self.pieces, &self.budget);
        self.touch(node, now)
    }

    fn set_times(&mut self, node: Node, accessed: TimeChange, modified: TimeChange) -> Result<()> {
        self.change_times(node, accessed, modified)
    }

    fn set_times_at(
        &mut self,
        dir: Node,
        path: &str,
        follow: bool,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<()> {
        let number = self.lookup(dir, path, follow)?;
        self.change_times(number, accessed, modified)
    }

    fn sync(&mut self, node: Node, _data_only: bool) -> Result<()> {
        self.inode(node).map(|_| ())
    }

    fn read_directory(&mut self, dir: Node, listing: &mut Listing) -> Result<()> {
        for (name, number) in self.entries(dir)? {
            listing.push(Entry {
                name: name.clone(),
                kind: self.kind(*number)?,
                inode: *number,
            })?;
        }
        Ok(())
    }

    fn create_directory(&mut self, dir: Node, path: &str) -> Result<()> {
        let parent = self.parent(dir, path)?;
        let name = self.vacant(&parent, true)?;
        let body = Body::Directory {
            entries: BTreeMap::new(),
            parent: parent.directory,
        };
        self.create(parent.directory, name, body).map(|_| ())
    }

    fn remove_directory(&mut self, dir: Node, path: &str) -> Result<()> {
        let parent = self.parent(dir, path)?;
        let name = match parent.last {
            Last::Name(name) => name,
            Last::Dot => return Err(Errno::Invalid),
            Last::DotDot => return Err(Errno::NotEmpty),
        };
        let number = self.child(parent.directory, name)?.ok_or(Errno::NoEntry)?;
        if !self.entries(number)?.is_empty() {
            return Err(Errno::NotEmpty);
        }
        self.changeable(number)?;
        self.remove_name(parent.directory, name)?;
        let now = self.now();
        let inode = self.inode_mut(parent.directory)?;
        inode.links = inode.links.saturating_sub(1);
        self.touch(parent.directory, now)?;
        self.drop_name(number)
    }

    fn unlink(&mut self, dir: Node, path: &str) -> Result<()> {
        let parent = self.parent(dir, path)?;
        let Last::Name(name) = parent.last else {
            return Err(Errno::IsDirectory);
        };
        let number = self.child(parent.directory, name)?.ok_or(Errno::NoEntry)?;
        if self.is_directory(number)? {
            return Err(Errno::IsDirectory);
        }
        if parent.slash {
            return Err(Errno::NotDirectory);
        }
        self.changeable(number)?;
        self.remove_name(parent.directory, name)?;
        let now = self.now();
        self.touch(parent.directory, now)?;
        self.drop_name(number)
    }

    fn read_link(&mut self, dir: Node, path: &str) -> Result<String> {
        let number = self.lookup(dir, path, false)?;
        match &self.inode(number)?.body {
            Body::SymbolicLink(target) => Ok(target.clone()),
            _ => Err(Errno::Invalid),
        }
    }

    fn rename(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()> {
        let from = self.parent(from_dir, from)?;
        let to = self.parent(to_dir, to)?;
        let (Last::Name(old_name), Last::Name(new_name)) = (from.last, to.last) else {
            return Err(Errno::Busy);
        };
        let (old_parent, new_parent) = (from.directory, to.directory);
        let number = self.child(old_parent, old_name)?.ok_or(Errno::NoEntry)?;
        let found = self.child(new_parent, new_name)?;
        let moved_directory = self.is_directory(number)?;
        if !moved_directory && (from.slash || to.slash) {
            return Err(Errno::NotDirectory);
        }
        if moved_directory && self.is_below(new_parent, number)? {
            return Err(Errno::Invalid);
        }
        if let Some(target) = found
            && self.is_below(old_parent, target)?
        {
            return Err(Errno::NotEmpty);
        }
        if self.inode(new_parent)?.links == 0 {
            return Err(Errno::NoEntry);
        }
        self.changeable(number)?;
        if let Some(target) = found {
            self.changeable(target)?;
            if target == number {
                return Ok(());
            }
            match (moved_directory, self.is_directory(target)?) {
                (true, false) => return Err(Errno::NotDirectory),
                (false, true) => return Err(Errno::IsDirectory),
                (true, true) if !self.entries(target)?.is_empty() => return Err(Errno::NotEmpty),
                _ => {}
            }
        }
        if found.is_none() {
            self.add_name(new_parent, new_name.to_owned(), number)?;
        } else if let Some(named) = self.entries_mut(new_parent)?.get_mut(new_name) {
            *named = number;
        }
        self.remove_name(old_parent, old_name)?;
        if let Some(target) = found {
            if moved_directory {
                let inode = self.inode_mut(new_parent)?;
                inode.links = inode.links.saturating_sub(1);
            }
            self.drop_name(target)?;
        }
        if moved_directory {
            let inode = self.inode_mut(old_parent)?;
            inode.links = inode.links.saturating_sub(1);
            self.inode_mut(new_parent)?.links += 1;
            if let Body::Directory { parent, .. } = &mut self.inode_mut(number)?.body {
                *parent = new_parent;
            }
        }
        let now = self.now();
        self.touch(old_parent, now)?;
        self.touch(new_parent, now)?;
        self.inode_mut(number)?.changed = now;
        Ok(())
    }

    fn link(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()> {
        let number = self.lookup(from_dir, from, false)?;
        let to = self.parent(to_dir, to)?;
        let name = self.vacant(&to, false)?;
        if self.is_directory(number)? {
            return Err(Errno::NotPermitted);
        }
        self.changeable(number)?;
        if self.inode(to.directory)?.links == 0 {
            return Err(Errno::NoEntry);
        }
        let links = self.inode(number)?.links;
        let links = links.checked_add(1).ok_or(Errno::TooManyLinks)?;
        self.add_name(to.directory, name, number)?;
        let now = self.now();
        let inode = self.inode_mut(number)?;
        inode.links = links;
        inode.changed = now;
        self.touch(to.directory, now)
    }

    fn symlink(&mut self, target: &str, dir: Node, path: &str) -> Result<()> {
        if target.is_empty() {
            return Err(Errno::NoEntry);
        }
        if target.contains('\0') {
            return Err(Errno::Invalid);
        }
        if target.len() > PATH_MAX {
            return Err(Errno::NameTooLong);
        }
        let parent = self.parent(dir, path)?;
        let name = self.vacant(&parent, false)?;
        self.create(
            parent.directory,
            name,
            Body::SymbolicLink(target.to_owned()),
        )
        .map(|_| ())
    }
}
