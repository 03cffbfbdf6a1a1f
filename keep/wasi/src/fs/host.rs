// SPDX-License-Identifier: Apache-2.0

//! A directory of the host, reached over the sallyport.
//!
//! The host is untrusted: contents, names and attributes are what it says. It confines paths to
//! the directory that it opened; rights are also enforced in the Keep, by
//! [`super::Descriptor`].

mod ahead;

use enarx_sallyport::call::{LINK_MAX, PATH_MAX};
use enarx_sallyport::directory::{Entries, Entry as WireEntry};
use enarx_sallyport::types::{OpenFlags, STAT_SIZE, TimeChange as WireTimeChange};
use enarx_sallyport::{Call, FileType, Handle, Stat as WireStat};

use self::ahead::{Ahead, Part};
use super::{Entry, FileSystem, Kind, Listing, Node, OpenOptions, Stat, TimeChange};
use crate::error::{Errno, Result};
use crate::port::{MAX_TRANSFER, Port};

/// Most entries of one directory that are taken from the host.
const ENTRIES_MAX: usize = 1 << 20;
/// Bytes of a directory that are requested at a time.
const LISTING: usize = 32 * 1024;

/// Directories of the host; a node is a handle.
pub struct HostFileSystem {
    port: Port,
    /// The file that was read last.
    ahead: Ahead,
}

impl HostFileSystem {
    /// The host's directories behind this port.
    pub fn new(port: Port) -> Self {
        Self {
            port,
            ahead: Ahead::default(),
        }
    }

    fn simple(&self, call: &Call, input: &[&[u8]]) -> Result<()> {
        self.port.call(call, input, &mut []).map(|_| ())
    }

    /// Reads as much as one call carries.
    fn read_part(&self, handle: Handle, offset: u64, buffer: &mut [u8]) -> Result<Part> {
        let length = buffer.len().min(MAX_TRANSFER);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        let call = Call::ReadAt {
            handle,
            offset,
            length: u32::try_from(length).map_err(|_| Errno::Invalid)?,
        };
        let answer = self.port.call(&call, &[], buffer)?;
        Ok(Part {
            length: answer.length,
            is_last: answer.length < length,
        })
    }

    fn status(&self, call: &Call, input: &[&[u8]]) -> Result<Stat> {
        let mut bytes = [0; STAT_SIZE as usize];
        // The port has checked that the reply is as long as the record.
        self.port.call(call, input, &mut bytes)?;
        let decoded = WireStat::decode(&bytes)
            .and_then(|stat| Some((stat, stat.file_type()?, stat.times()?)));
        let Some((stat, file_type, [accessed, modified, changed])) = decoded else {
            self.port.bad_reply()
        };
        Ok(Stat {
            device: stat.dev,
            inode: stat.ino,
            kind: kind(file_type),
            links: stat.nlink,
            size: stat.size,
            accessed,
            modified,
            changed,
        })
    }
}

fn handle(node: Node) -> Result<Handle> {
    u32::try_from(node)
        .map(Handle)
        .map_err(|_| Errno::BadDescriptor)
}

/// The length of a path that may be sent.
fn path_length(path: &str) -> Result<u32> {
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    if path.as_bytes().contains(&0) {
        return Err(Errno::Invalid);
    }
    if path.len() > PATH_MAX as usize {
        return Err(Errno::NameTooLong);
    }
    u32::try_from(path.len()).map_err(|_| Errno::NameTooLong)
}

/// The length of a transfer, and as many bytes of `bytes`.
fn transfer(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let bytes = bytes.get(..MAX_TRANSFER).unwrap_or(bytes);
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::Invalid)?;
    Ok((length, bytes))
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::Unknown => Kind::Unknown,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File,
        FileType::SocketDatagram | FileType::SocketStream => Kind::Socket,
        FileType::SymbolicLink => Kind::SymbolicLink,
    }
}

fn change(change: TimeChange) -> WireTimeChange {
    match change {
        TimeChange::Keep => WireTimeChange::Keep,
        TimeChange::Now => WireTimeChange::Now,
        TimeChange::At(at) => WireTimeChange::At(at),
    }
}

/// The entry, when its name is one that programs can use.
fn entry(entry: &WireEntry<'_>) -> Option<Entry> {
    let name = std::str::from_utf8(entry.name).ok()?;
    Some(Entry {
        name: name.to_owned(),
        kind: kind(entry.kind),
        inode: entry.ino,
    })
}

fn written(value: u64, asked: usize) -> Result<usize> {
    usize::try_from(value)
        .ok()
        .filter(|written| *written <= asked)
        .ok_or(Errno::Io)
}

impl FileSystem for HostFileSystem {
    fn open(&mut self, dir: Node, path: &str, options: OpenOptions) -> Result<(Node, Kind)> {
        let mut flags = OpenFlags::empty();
        for (wanted, flag) in [
            (options.read, OpenFlags::READ),
            (options.write, OpenFlags::WRITE),
            (options.create, OpenFlags::CREATE),
            (options.create && options.exclusive, OpenFlags::EXCLUSIVE),
            (options.truncate, OpenFlags::TRUNCATE),
            (options.directory, OpenFlags::DIRECTORY),
            (!options.follow, OpenFlags::NOFOLLOW),
        ] {
            if wanted {
                flags |= flag;
            }
        }
        let call = Call::Open {
            dir: handle(dir)?,
            flags,
            path_length: path_length(path)?,
        };
        let answer = self.port.call(&call, &[path.as_bytes()], &mut [])?;
        let file_type = u8::try_from(answer.value2)
            .ok()
            .and_then(FileType::from_wire)
            .unwrap_or_else(|| self.port.bad_reply());
        Ok((answer.value, kind(file_type)))
    }

    fn close(&mut self, node: Node) {
        self.ahead.forget(node);
        if let Ok(handle) = handle(node) {
            self.port.post(&Call::Close { handle });
        }
    }

    fn read_at(&mut self, node: Node, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let handle = handle(node)?;
        let follows = self.ahead.begin(&self.port, node, offset);
        let mut done = 0;
        let mut is_end = false;
        while done < buffer.len() && !is_end {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            if rest.len() > MAX_TRANSFER {
                self.ahead.read_whole(&self.port, handle, rest.len());
            }
            let part = match self.ahead.take(rest) {
                Some(part) => Ok(part),
                None => self.read_part(handle, self.ahead.position(), rest),
            };
            match part {
                Ok(part) => {
                    done += part.length;
                    self.ahead.advance(part.length);
                    is_end = part.is_last;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => is_end = true,
            }
        }
        self.ahead.end(&self.port, handle, done, follows && !is_end);
        Ok(done)
    }

    fn write_at(&mut self, node: Node, offset: u64, bytes: &[u8]) -> Result<usize> {
        let handle = handle(node)?;
        let mut done = 0;
        loop {
            let (length, piece) = transfer(bytes.get(done..).unwrap_or_default())?;
            let call = Call::WriteAt {
                handle,
                offset: offset.checked_add(done as u64).ok_or(Errno::FileTooLarge)?,
                length,
            };
            match self.port.call(&call, &[piece], &mut []) {
                Ok(answer) => {
                    let count = written(answer.value, piece.len())?;
                    done += count;
                    if count < piece.len() || done >= bytes.len() {
                        return Ok(done);
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }

    fn append(&mut self, node: Node, bytes: &[u8]) -> Result<usize> {
        let handle = handle(node)?;
        let (length, piece) = transfer(bytes)?;
        let call = Call::Append { handle, length };
        let answer = self.port.call(&call, &[piece], &mut [])?;
        written(answer.value, piece.len())
    }

    fn stat(&mut self, node: Node) -> Result<Stat> {
        let call = Call::Stat {
            handle: handle(node)?,
        };
        self.status(&call, &[])
    }

    fn stat_at(&mut self, dir: Node, path: &str, follow: bool) -> Result<Stat> {
        let call = Call::StatAt {
            dir: handle(dir)?,
            follow,
            path_length: path_length(path)?,
        };
        self.status(&call, &[path.as_bytes()])
    }

    fn set_size(&mut self, node: Node, size: u64) -> Result<()> {
        let call = Call::SetSize {
            handle: handle(node)?,
            size,
        };
        self.simple(&call, &[])
    }

    fn set_times(&mut self, node: Node, accessed: TimeChange, modified: TimeChange) -> Result<()> {
        let call = Call::SetTimes {
            handle: handle(node)?,
            atim: change(accessed),
            mtim: change(modified),
        };
        self.simple(&call, &[])
    }

    fn set_times_at(
        &mut self,
        dir: Node,
        path: &str,
        follow: bool,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<()> {
        let call = Call::SetTimesAt {
            dir: handle(dir)?,
            follow,
            atim: change(accessed),
            mtim: change(modified),
            path_length: path_length(path)?,
        };
        self.simple(&call, &[path.as_bytes()])
    }

    fn sync(&mut self, node: Node, data_only: bool) -> Result<()> {
        let call = Call::Sync {
            handle: handle(node)?,
            data_only,
        };
        self.simple(&call, &[])
    }

    fn read_directory(&mut self, dir: Node, listing: &mut Listing) -> Result<()> {
        let handle = handle(dir)?;
        let mut bytes = vec![0; LISTING];
        let mut entries = 0_usize;
        let mut cookie = 0;
        loop {
            let call = Call::ReadDir {
                handle,
                cookie,
                length: u32::try_from(LISTING).map_err(|_| Errno::Invalid)?,
            };
            let length = self.port.call(&call, &[], &mut bytes)?.length;
            if length == 0 {
                return Ok(());
            }
            for wire in Entries::new(bytes.get(..length).unwrap_or_default()) {
                let Ok(wire) = wire else {
                    self.port.bad_reply()
                };
                cookie = wire.next_cookie;
                entries += 1;
                if let Some(entry) = entry(&wire) {
                    listing.push(entry)?;
                }
            }
            // A host whose listing never ends must not block the application forever.
            if entries > ENTRIES_MAX {
                return Err(Errno::Io);
            }
        }
    }

    fn create_directory(&mut self, dir: Node, path: &str) -> Result<()> {
        let call = Call::CreateDir {
            dir: handle(dir)?,
            path_length: path_length(path)?,
        };
        self.simple(&call, &[path.as_bytes()])
    }

    fn remove_directory(&mut self, dir: Node, path: &str) -> Result<()> {
        let call = Call::RemoveDir {
            dir: handle(dir)?,
            path_length: path_length(path)?,
        };
        self.simple(&call, &[path.as_bytes()])
    }

    fn unlink(&mut self, dir: Node, path: &str) -> Result<()> {
        let call = Call::Unlink {
            dir: handle(dir)?,
            path_length: path_length(path)?,
        };
        self.simple(&call, &[path.as_bytes()])
    }

    fn read_link(&mut self, dir: Node, path: &str) -> Result<String> {
        let call = Call::ReadLink {
            dir: handle(dir)?,
            path_length: path_length(path)?,
        };
        let mut target = vec![0; LINK_MAX as usize];
        let answer = self.port.call(&call, &[path.as_bytes()], &mut target)?;
        target.truncate(answer.length);
        String::from_utf8(target).map_err(|_| Errno::IllegalByteSequence)
    }

    fn rename(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()> {
        let call = Call::Rename {
            from_dir: handle(from_dir)?,
            to_dir: handle(to_dir)?,
            from_length: path_length(from)?,
            to_length: path_length(to)?,
        };
        self.simple(&call, &[from.as_bytes(), to.as_bytes()])
    }

    fn link(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()> {
        let call = Call::Link {
            from_dir: handle(from_dir)?,
            to_dir: handle(to_dir)?,
            follow: false,
            from_length: path_length(from)?,
            to_length: path_length(to)?,
        };
        self.simple(&call, &[from.as_bytes(), to.as_bytes()])
    }

    fn symlink(&mut self, target: &str, dir: Node, path: &str) -> Result<()> {
        let call = Call::Symlink {
            dir: handle(dir)?,
            target_length: path_length(target)?,
            link_length: path_length(path)?,
        };
        self.simple(&call, &[target.as_bytes(), path.as_bytes()])
    }
}
