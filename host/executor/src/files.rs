// SPDX-License-Identifier: Apache-2.0

//! Files and directories, inside the granted directories and nowhere else.
//!
//! Paths come from a hostile Keep. The kernel resolves them (`openat2` with `RESOLVE_BENEATH`), so that
//! neither `..` nor a symbolic link nor a race leads out. Calls that know no such flag work on one last
//! component below a parent that was opened this way. File systems that keep no files ([`crate::interfaces`])
//! are not entered.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use enarx_sallyport::call::{LINK_MAX, PATH_MAX};
use enarx_sallyport::directory::{ENTRY_MAX, Entry, EntryWriter, WriteError};
use enarx_sallyport::types::{OpenFlags, Time, TimeChange};
use enarx_sallyport::{BUFFER_SIZE, Call, FileType, Handle, Slot, Stat, Status};
use rustix::fs::{
    self, AtFlags, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Timespec, Timestamps,
};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::answer::{Answer, Result, status};
use super::buffer::Buffer;
use super::executor::Executor;
use super::handles::{Node, Object};
use super::interfaces::is_interface;
use super::quota::{self, blocks};

/// How every path is resolved (openat2(2)).
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// How often a resolution is repeated that a rename elsewhere has disturbed (openat2(2), `EAGAIN`).
const RESOLVE_ATTEMPTS: u32 = 16;

impl Executor {
    /// Performs a call about files.
    pub(super) fn file_call(&mut self, slot: Slot, call: &Call) -> Result<Answer> {
        match *call {
            Call::Open {
                dir,
                flags,
                path_length,
            } => self.open(slot, dir, flags, path_length),
            Call::ReadAt {
                handle,
                offset,
                length,
            } => self.read_at(slot, handle, offset, length),
            Call::WriteAt {
                handle,
                offset,
                length,
            } => self.write(slot, handle, Some(offset), length),
            Call::Append { handle, length } => self.write(slot, handle, None, length),
            Call::Stat { handle } => self.stat(slot, handle),
            Call::StatAt {
                dir,
                follow,
                path_length,
            } => self.stat_at(slot, dir, follow, path_length),
            Call::SetSize { handle, size } => self.set_size(handle, size),
            Call::SetTimes { handle, atim, mtim } => self.set_times(handle, &times(atim, mtim)),
            Call::SetTimesAt {
                dir,
                follow,
                atim,
                mtim,
                path_length,
            } => self.set_times_at(slot, dir, follow, &times(atim, mtim), path_length),
            Call::ReadDir {
                handle,
                cookie,
                length,
            } => self.read_dir(slot, handle, cookie, length),
            Call::CreateDir { dir, path_length } => self.create_dir(slot, dir, path_length),
            Call::RemoveDir { dir, path_length } => self.remove_dir(slot, dir, path_length),
            Call::Unlink { dir, path_length } => self.unlink(slot, dir, path_length),
            Call::ReadLink { dir, path_length } => self.read_link(slot, dir, path_length),
            Call::Rename {
                from_dir,
                to_dir,
                from_length,
                to_length,
            } => self.rename(
                (from_dir, to_dir),
                &self.paths(slot, from_length, to_length)?,
            ),
            // linkat(2) would follow a link to anywhere.
            Call::Link { follow: true, .. } => Err(Status::Invalid),
            Call::Link {
                from_dir,
                to_dir,
                from_length,
                to_length,
                ..
            } => self.link(
                (from_dir, to_dir),
                &self.paths(slot, from_length, to_length)?,
            ),
            Call::Symlink {
                dir,
                target_length,
                link_length,
            } => self.symlink(dir, self.paths(slot, target_length, link_length)?),
            _ => Err(Status::NotSupported),
        }
    }

    fn open(
        &mut self,
        slot: Slot,
        dir: Handle,
        flags: OpenFlags,
        path_length: u32,
    ) -> Result<Answer> {
        let path = self.path(slot, 0, path_length)?;
        self.handles.room()?;
        let dir = self.handles.directory(dir)?;
        let changes =
            OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::APPEND;
        if dir.read_only && flags.bits() & changes.bits() != 0 {
            return Err(Status::ReadOnly);
        }
        let oflags = open_flags(flags);
        // Opening a FIFO or a device has side effects, so the type is checked first; but if only a new file can be
        // opened, the kernel judges an existing one.
        let create = flags.contains(OpenFlags::CREATE);
        let new = flags.contains(OpenFlags::EXCLUSIVE) || path.as_bytes().ends_with(b"/");
        let mut found = None;
        if !(create && new) {
            let look = OFlags::PATH | (oflags & OFlags::NOFOLLOW);
            match resolve(dir, &path, look, Mode::empty()) {
                Ok((_, there)) => {
                    openable(&there)?;
                    found = Some(there);
                }
                Err(Status::NoEntry) if create => {}
                Err(status) => return Err(status),
            }
        }
        // The usual mode; the user's umask applies.
        let mode = if create {
            Mode::from_raw_mode(0o666)
        } else {
            Mode::empty()
        };
        let name = if create && found.is_none() {
            quota::NAME
        } else {
            0
        };
        let open = || resolve(dir, &path, oflags, mode);
        let (opened, record) = dir.adding(name, open)?;
        if let Some(found) = found.filter(|_| flags.contains(OpenFlags::TRUNCATE)) {
            dir.give_back(blocks(found.st_size.unsigned_abs()));
        }
        let kind = openable(&record)?;
        let node = Node {
            fd: Arc::new(opened),
            read_only: dir.read_only,
            quota: dir.quota.clone(),
            identity: (record.st_dev, record.st_ino),
        };
        let object = match kind {
            FileType::Directory => Object::Directory(node),
            _ => Object::File(node),
        };
        let handle = self.handles.insert(object)?;
        Ok(Answer {
            length: 0,
            value: handle.0.into(),
            value2: kind.to_wire().into(),
        })
    }

    fn read_at(&self, slot: Slot, handle: Handle, offset: u64, length: u32) -> Result<Answer> {
        let file = self.handles.file(handle)?;
        let buffer = self.buffer(slot, length)?;
        let count = self.repeat(|| buffer.read_at(&*file.fd, offset))?;
        Ok(Answer::bytes(count))
    }

    /// Writes at an offset, or at the end.
    fn write(
        &self,
        slot: Slot,
        handle: Handle,
        offset: Option<u64>,
        length: u32,
    ) -> Result<Answer> {
        let node = writable(self.handles.file(handle)?)?;
        let file = &*node.fd;
        let buffer = self.buffer(slot, length)?;
        let write = || match offset {
            Some(offset) => self.repeat(|| buffer.write_at(file, offset)),
            None => self.repeat(|| buffer.append(file)),
        };
        Ok(Answer::value(growing(node, offset, length, write)?))
    }

    fn stat(&self, slot: Slot, handle: Handle) -> Result<Answer> {
        let record = match self.handles.get(handle)? {
            Object::Directory(node) | Object::File(node) => fs::fstat(&*node.fd),
            Object::Stream(stream) | Object::Connection(stream) => fs::fstat(&*stream.fd),
            Object::Tcp(fd) | Object::Listener(fd) | Object::Datagrams(fd) => fs::fstat(&**fd),
        };
        self.reply_stat(slot, &record.map_err(status)?)
    }

    fn stat_at(&self, slot: Slot, dir: Handle, follow: bool, length: u32) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let record = stat_at(self.handles.directory(dir)?, &path, follow)?;
        self.reply_stat(slot, &record)
    }

    fn set_size(&self, handle: Handle, size: u64) -> Result<Answer> {
        let node = writable(self.handles.file(handle)?)?;
        // ftruncate(2) takes a signed size.
        let size = i64::try_from(size).map_err(|_| Status::FileTooLarge)?;
        let size = size.unsigned_abs();
        let before = counted(node)?;
        let more = blocks(size).saturating_sub(before);
        node.adding(more, || fs::ftruncate(&*node.fd, size).map_err(status))?;
        node.give_back(before.saturating_sub(blocks(size)));
        Ok(Answer::default())
    }

    fn set_times(&self, handle: Handle, times: &Timestamps) -> Result<Answer> {
        let node = writable(self.handles.node(handle)?)?;
        fs::futimens(&*node.fd, times).map_err(status)?;
        Ok(Answer::default())
    }

    fn set_times_at(
        &self,
        slot: Slot,
        dir: Handle,
        follow: bool,
        times: &Timestamps,
        length: u32,
    ) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let dir = writable(self.handles.directory(dir)?)?;
        let flags = if follow {
            OFlags::empty()
        } else {
            OFlags::NOFOLLOW
        };
        let (file, _) = resolve(dir, &path, flags | OFlags::PATH, Mode::empty())?;
        fs::utimensat(&file, c"", times, AtFlags::EMPTY_PATH).map_err(status)?;
        Ok(Answer::default())
    }

    fn read_dir(&self, slot: Slot, handle: Handle, cookie: u64, length: u32) -> Result<Answer> {
        let dir = self.handles.directory(handle)?;
        let listing = list(dir.fd.as_fd(), cookie, length)?;
        let count = self.buffer(slot, length)?.fill(&listing).map_err(status)?;
        Ok(Answer::bytes(count))
    }

    fn create_dir(&self, slot: Slot, dir: Handle, length: u32) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let dir = self.handles.directory(dir)?;
        let place = Place::below(writable(dir)?, &path)?;
        let mode = Mode::from_raw_mode(0o777);
        dir.adding(quota::NAME, || {
            fs::mkdirat(place.parent(), &place.name, mode).map_err(status)
        })?;
        Ok(Answer::default())
    }

    fn remove_dir(&self, slot: Slot, dir: Handle, length: u32) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let dir = self.handles.directory(dir)?;
        let place = Place::below(writable(dir)?, &path)?;
        fs::unlinkat(place.parent(), &place.name, AtFlags::REMOVEDIR).map_err(status)?;
        dir.give_back(quota::NAME);
        Ok(Answer::default())
    }

    fn unlink(&self, slot: Slot, dir: Handle, length: u32) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let dir = self.handles.directory(dir)?;
        let place = Place::below(writable(dir)?, &path)?;
        let freed = self.freed_by_removal(dir, &place);
        fs::unlinkat(place.parent(), &place.name, AtFlags::empty()).map_err(status)?;
        dir.give_back(freed);
        Ok(Answer::default())
    }

    fn read_link(&self, slot: Slot, dir: Handle, length: u32) -> Result<Answer> {
        let path = self.path(slot, 0, length)?;
        let place = Place::of_link(self.handles.directory(dir)?, &path)?;
        let target = fs::readlinkat(place.parent(), &place.name, Vec::new()).map_err(status)?;
        let space = self.buffer(slot, LINK_MAX)?;
        let count = space.fill(target.as_bytes()).map_err(status)?;
        Ok(Answer::bytes(count))
    }

    fn rename(&self, dirs: (Handle, Handle), paths: &(CString, CString)) -> Result<Answer> {
        let from_dir = self.handles.directory(dirs.0)?;
        let to_dir = self.handles.directory(dirs.1)?;
        let from = Place::below(writable(from_dir)?, &paths.0)?;
        let to = Place::below(writable(to_dir)?, &paths.1)?;
        from_dir.shares_quota(to_dir)?;
        // Two names of one file both stay (rename(2)): then nothing is freed.
        let freed = if from.identity() == to.identity() {
            0
        } else {
            self.freed_by_removal(to_dir, &to)
        };
        fs::renameat(from.parent(), &from.name, to.parent(), &to.name).map_err(status)?;
        to_dir.give_back(freed);
        Ok(Answer::default())
    }

    fn link(&self, dirs: (Handle, Handle), paths: &(CString, CString)) -> Result<Answer> {
        let from_dir = self.handles.directory(dirs.0)?;
        let to_dir = self.handles.directory(dirs.1)?;
        // A second name in a writable directory would make a read-only file writable.
        let from = Place::of_link(writable(from_dir)?, &paths.0)?;
        let to = Place::below(writable(to_dir)?, &paths.1)?;
        from_dir.shares_quota(to_dir)?;
        to_dir.adding(quota::NAME, || {
            let flags = AtFlags::empty();
            fs::linkat(from.parent(), &from.name, to.parent(), &to.name, flags).map_err(|errno| {
                // Landlock reports this for a directory's name before the kernel reports that a directory has only
                // one.
                if errno == Errno::XDEV && from.is_directory() {
                    return status(Errno::PERM);
                }
                status(errno)
            })
        })?;
        Ok(Answer::default())
    }

    fn symlink(&self, dir: Handle, (target, link): (CString, CString)) -> Result<Answer> {
        // The Keep could never follow it, but programs of the host would.
        if target.as_bytes().starts_with(b"/") {
            return Err(Status::NotCapable);
        }
        let dir = self.handles.directory(dir)?;
        let place = Place::below(writable(dir)?, &link)?;
        dir.adding(quota::NAME, || {
            fs::symlinkat(&target, place.parent(), &place.name).map_err(status)
        })?;
        Ok(Answer::default())
    }

    /// The bytes that its directory's quota gets back once a name is removed: with the last one of a file that is not open,
    /// the file.
    fn freed_by_removal(&self, dir: &Node, place: &Place<'_>) -> u64 {
        // Without a quota this is not needed.
        if dir.quota.is_none() {
            return 0;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Ok(record) = fs::statat(place.parent(), &place.name, flags) else {
            return 0;
        };
        let regular = fs::FileType::from_raw_mode(record.st_mode) == fs::FileType::RegularFile;
        let open = || self.handles.has_open((record.st_dev, record.st_ino));
        if regular && record.st_nlink == 1 && !open() {
            quota::NAME.saturating_add(blocks(record.st_size.unsigned_abs()))
        } else {
            quota::NAME
        }
    }

    /// A handle of a file was closed: its quota gets a file back that has no name any more, after the last one.
    pub(super) fn closed(&self, node: &Node) {
        if node.quota.is_none() || self.handles.has_open(node.identity) {
            return;
        }
        if let Ok(record) = fs::fstat(&*node.fd)
            && record.st_nlink == 0
        {
            node.give_back(blocks(record.st_size.unsigned_abs()));
        }
    }

    /// The first bytes of a slot's buffer.
    fn buffer(&self, slot: Slot, length: u32) -> Result<Buffer> {
        Buffer::new(self.region, slot, 0, length).map_err(status)
    }

    /// Two paths, one after the other.
    fn paths(&self, slot: Slot, first: u32, second: u32) -> Result<(CString, CString)> {
        let one = self.path(slot, 0, first)?;
        Ok((one, self.path(slot, first, second)?))
    }

    fn path(&self, slot: Slot, offset: u32, length: u32) -> Result<CString> {
        if length > PATH_MAX {
            return Err(Status::NameTooLong);
        }
        if length == 0 {
            return Err(Status::NoEntry);
        }
        let bytes = self.input(slot, offset, length)?;
        CString::new(bytes).map_err(|_| Status::IllegalSequence)
    }

    fn reply_stat(&self, slot: Slot, record: &fs::Stat) -> Result<Answer> {
        let stat = Stat {
            dev: record.st_dev,
            ino: record.st_ino,
            nlink: record.st_nlink,
            size: u64::try_from(record.st_size).unwrap_or(0),
            atim: record.st_atime,
            mtim: record.st_mtime,
            ctim: record.st_ctime,
            atim_ns: nanoseconds(record.st_atime_nsec),
            mtim_ns: nanoseconds(record.st_mtime_nsec),
            ctim_ns: nanoseconds(record.st_ctime_nsec),
            kind: file_type(fs::FileType::from_raw_mode(record.st_mode)).to_wire(),
            reserved: [0; 11],
        };
        let buffer = self.buffer(slot, BUFFER_SIZE)?;
        Ok(Answer::bytes(buffer.fill(stat.as_bytes()).map_err(status)?))
    }
}

/// The node, if changes may pass through it.
fn writable(node: &Node) -> Result<&Node> {
    if node.read_only {
        Err(Status::ReadOnly)
    } else {
        Ok(node)
    }
}

/// The bytes that are counted for a file in its quota; 0 if there is none.
fn counted(node: &Node) -> Result<u64> {
    if node.quota.is_none() {
        return Ok(0);
    }
    let record = fs::fstat(&*node.fd).map_err(status)?;
    Ok(blocks(record.st_size.unsigned_abs()))
}

/// Writes `length` bytes at an offset, or at the end, as far as the quota allows. Returns how many.
fn growing(
    node: &Node,
    offset: Option<u64>,
    length: u32,
    write: impl FnOnce() -> Result<u32>,
) -> Result<u32> {
    if node.quota.is_none() {
        return write();
    }
    let size = fs::fstat(&*node.fd).map_err(status)?.st_size.unsigned_abs();
    let start = offset.unwrap_or(size);
    let more = |count: u32| {
        let end = start.saturating_add(count.into());
        blocks(end).saturating_sub(blocks(size))
    };
    let written = node.adding(more(length), write)?;
    node.give_back(more(length).saturating_sub(more(written)));
    Ok(written)
}

/// Opens a path beneath a directory; its descriptor and attributes.
fn resolve(dir: &Node, path: &CString, flags: OFlags, mode: Mode) -> Result<(OwnedFd, fs::Stat)> {
    for _ in 0..RESOLVE_ATTEMPTS {
        match fs::openat2(&*dir.fd, path, flags | OFlags::CLOEXEC, mode, RESOLVE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // With these flags `EXDEV` says: the path leads out.
            Err(Errno::XDEV) => return Err(Status::NotCapable),
            Err(errno) => return Err(status(errno)),
            Ok(fd) => {
                let record = fs::fstat(&fd).map_err(status)?;
                // Such a file system is another one than the directory's, and on no disk. Others are not asked: over a
                // network the answer takes long.
                let is_elsewhere = record.st_dev != dir.identity.0;
                let is_on_disk = fs::major(record.st_dev) != 0;
                if is_elsewhere && !is_on_disk && is_interface(&fd).map_err(status)? {
                    return Err(Status::NotSupported);
                }
                return Ok((fd, record));
            }
        }
    }
    Err(Status::Again)
}

/// The last component of a path, and the directory it is in.
struct Place<'a> {
    opened: Option<OwnedFd>,
    start: &'a Node,
    name: CString,
}

impl<'a> Place<'a> {
    /// Resolves all of `path` but its last component beneath `start`.
    fn below(start: &'a Node, path: &CString) -> Result<Self> {
        let bytes = path.as_bytes();
        // Slashes at the end say "a directory" and stay with the name, for the kernel to judge.
        let trimmed = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == b'/').count();
        let split = bytes
            .iter()
            .take(trimmed)
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (parent, name) = bytes.split_at(split);
        let component = name.get(..trimmed.saturating_sub(split)).unwrap_or(&[]);
        match component {
            // The path is made of slashes, or absolute.
            b"" => return Err(Status::NotCapable),
            // No name may be told from answers outside. The directory stays as it is in any case: none of
            // the calls takes `.` or `..` for a name, each has an error of its own for them.
            b".." => drop(resolve(start, path, OFlags::PATH, Mode::empty())?),
            _ => {}
        }
        let opened = if parent.is_empty() {
            None
        } else {
            let parent = CString::new(parent).map_err(|_| Status::IllegalSequence)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            Some(resolve(start, &parent, flags, Mode::empty())?.0)
        };
        Ok(Self {
            opened,
            start,
            name: CString::new(name).map_err(|_| Status::IllegalSequence)?,
        })
    }

    /// As [`Self::below`], for calls that would follow a link whose name ends with a slash: then the place
    /// is the directory itself, under the name that it has in itself.
    fn of_link(start: &'a Node, path: &CString) -> Result<Self> {
        if !path.as_bytes().ends_with(b"/") {
            return Self::below(start, path);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(Self {
            opened: Some(resolve(start, path, flags, Mode::empty())?.0),
            start,
            name: c".".to_owned(),
        })
    }

    /// Device and inode number of the file that has the name now.
    fn identity(&self) -> Option<(u64, u64)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let record = fs::statat(self.parent(), &self.name, flags).ok()?;
        Some((record.st_dev, record.st_ino))
    }

    /// True if it is a directory's now.
    fn is_directory(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::statat(self.parent(), &self.name, flags).is_ok_and(|record| {
            fs::FileType::from_raw_mode(record.st_mode) == fs::FileType::Directory
        })
    }

    fn parent(&self) -> BorrowedFd<'_> {
        self.opened
            .as_ref()
            .map_or(self.start.fd.as_fd(), AsFd::as_fd)
    }
}

/// The attributes of a path.
fn stat_at(dir: &Node, path: &CString, follow: bool) -> Result<fs::Stat> {
    let bytes = path.as_bytes();
    // One plain component needs no resolution unless it is a link to be followed.
    if !bytes.contains(&b'/') && bytes != b".." {
        let record = fs::statat(&*dir.fd, path, AtFlags::SYMLINK_NOFOLLOW).map_err(status)?;
        let link = fs::FileType::from_raw_mode(record.st_mode) == fs::FileType::Symlink;
        if !follow || !link {
            return Ok(record);
        }
    }
    let flags = if follow {
        OFlags::PATH
    } else {
        OFlags::PATH | OFlags::NOFOLLOW
    };
    let (_, record) = resolve(dir, path, flags, Mode::empty())?;
    Ok(record)
}

/// The type of a file with these attributes, if a Keep may open it.
fn openable(record: &fs::Stat) -> Result<FileType> {
    match file_type(fs::FileType::from_raw_mode(record.st_mode)) {
        kind @ (FileType::RegularFile | FileType::Directory) => Ok(kind),
        FileType::SymbolicLink => Err(Status::Loop),
        _ => Err(Status::NotSupported),
    }
}

fn open_flags(flags: OpenFlags) -> OFlags {
    let access = match (
        flags.contains(OpenFlags::READ),
        flags.contains(OpenFlags::WRITE),
    ) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    // `Append` is a call of its own, so `O_APPEND` is not needed; it would break `WriteAt`.
    [
        (OpenFlags::CREATE, OFlags::CREATE),
        (OpenFlags::EXCLUSIVE, OFlags::EXCL),
        (OpenFlags::TRUNCATE, OFlags::TRUNC),
        (OpenFlags::DIRECTORY, OFlags::DIRECTORY),
        (OpenFlags::NOFOLLOW, OFlags::NOFOLLOW),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .fold(
        // If a FIFO or device has replaced the file in the meantime, opening it does not block.
        access | OFlags::NOCTTY | OFlags::NONBLOCK,
        |all, (_, oflag)| all | oflag,
    )
}

/// The packed entries from `cookie` on.
fn list(dir: BorrowedFd<'_>, cookie: u64, length: u32) -> Result<Vec<u8>> {
    let start = i64::try_from(cookie).map_err(|_| Status::Invalid)?;
    fs::seek(dir, SeekFrom::Start(start.unsigned_abs())).map_err(status)?;
    let mut listing = vec![0; length.clamp(ENTRY_MAX, BUFFER_SIZE) as usize];
    let mut writer = EntryWriter::new(&mut listing);
    let mut space = [MaybeUninit::uninit(); 16 * 1024];
    let mut entries = RawDir::new(dir, &mut space);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // The directory was removed in the meantime: it is empty.
            Err(Errno::NOENT) => break,
            entry => entry.map_err(status)?,
        };
        let name = entry.file_name();
        let kind = match entry.file_type() {
            // Some file systems do not say; then the entry itself is asked.
            fs::FileType::Unknown => fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(fs::FileType::Unknown, |record| {
                    fs::FileType::from_raw_mode(record.st_mode)
                }),
            known => known,
        };
        let packed = writer.push(&Entry {
            next_cookie: entry.next_entry_cookie(),
            ino: entry.ino(),
            kind: file_type(kind),
            name: name.to_bytes(),
        });
        match packed {
            // `.` and `..` are left out.
            Ok(()) | Err(WriteError::BadName) => {}
            Err(WriteError::Full) => break,
        }
    }
    let written = writer.length();
    listing.truncate(written);
    Ok(listing)
}

fn file_type(kind: fs::FileType) -> FileType {
    match kind {
        fs::FileType::RegularFile => FileType::RegularFile,
        fs::FileType::Directory => FileType::Directory,
        fs::FileType::Symlink => FileType::SymbolicLink,
        fs::FileType::CharacterDevice => FileType::CharacterDevice,
        fs::FileType::BlockDevice => FileType::BlockDevice,
        fs::FileType::Socket => FileType::SocketStream,
        _ => FileType::Unknown,
    }
}

/// Nanoseconds after a second, which a kernel keeps below one.
fn nanoseconds(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(0).min(Time::SECOND - 1)
}

fn times(atim: TimeChange, mtim: TimeChange) -> Timestamps {
    let time = |change| match change {
        TimeChange::Keep => Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
        TimeChange::Now => Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_NOW,
        },
        TimeChange::At(at) => Timespec {
            tv_sec: at.seconds(),
            tv_nsec: at.nanoseconds().into(),
        },
    };
    Timestamps {
        last_access: time(atim),
        last_modification: time(mtim),
    }
}
