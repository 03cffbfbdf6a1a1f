// SPDX-License-Identifier: Apache-2.0

//! Compiled code that `enarx run` and `enarx serve` keep between runs, in a folder of the user.
//!
//! Only for Keeps that protect nothing from this machine: whoever can write native code for such a Keep controls its
//! program anyway. An entry is authenticated with a key of the user that is stored elsewhere, so that a cache from
//! elsewhere (a shared folder, a restored backup) is not executed. It is used only for the module, version, CPU, kind
//! of Keep and setting for which it was made; in case of doubt the module is compiled again.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use enarx_backend::Backend;
use enarx_collateral::file;
use enarx_configuration::Compile;
use enarx_executor::launch::Outcome;
use enarx_runtime_image::RUNTIME_SHA256;
use enarx_vmm::launch::Measured;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::compile::Compiler;
use crate::failure::{Exit, Failure};
use crate::local::opened::standard_streams;
use crate::local::parts::target;
use crate::workload::Stream;
use crate::{output, state, version};

/// From this size on a module is worth it, in bytes: below, compiling takes less time than another Keep.
const MIN_CACHED_SIZE: usize = 256 << 10;
/// Bytes of all entries together.
const ALL: u64 = 1 << 30;
/// Bytes of the largest entry: as much as a Keep loads.
const LARGEST: u64 = 512 << 20;
/// Bytes of the key.
const KEY: usize = 32;
/// Bytes of an entry's tag, which is its end.
const TAG: usize = 32;
/// The file with the key, in the state folder.
const KEY_FILE: &str = "cache-key";

/// The cache.
pub struct Cache {
    folder: PathBuf,
    key: Zeroizing<Vec<u8>>,
}

/// The name of an entry.
struct Name([u8; 32]);

impl Cache {
    /// The cache of this user; `None` where there cannot be one.
    pub fn open() -> Option<Self> {
        let opened = Self::try_open();
        if let Err(why) = &opened {
            tracing::debug!(why, "no compile cache");
        }
        opened.ok()
    }

    fn try_open() -> Result<Self, String> {
        let folder = state::cache_folder("compiled").ok_or("this user has no home")?;
        let keys = state::folder("keys").ok_or("this user has no home")?;
        for folder in [&folder, &keys] {
            state::make_private(folder).map_err(|failure| failure.sentence)?;
        }
        let key = key(&keys.join(KEY_FILE)).map_err(|error| error.to_string())?;
        Ok(Self { folder, key })
    }

    /// The precompiled form of a module, from an earlier run or compiled now; `None` to compile it in the Keep that
    /// runs it, which then reports errors.
    ///
    /// # Errors
    /// When the time limit is reached.
    pub fn compiled(
        &self,
        module: &Path,
        application: &[u8],
        turns: bool,
        compiler: &Compiler,
    ) -> Result<Option<Vec<u8>>, Failure> {
        if application.len() < MIN_CACHED_SIZE {
            return Ok(None);
        }
        let Some(name) = Name::new(application, compiler.backend, turns) else {
            return Ok(None);
        };
        if let Some(code) = self.get(&name) {
            tracing::info!("compiled code comes from the cache");
            return Ok(Some(code));
        }
        let made = self.make(&name, module, application, turns, compiler);
        made.or_else(|failure| {
            if failure.exit() == Exit::TimedOut {
                return Err(failure);
            }
            tracing::debug!(why = failure.sentence, "not cached");
            Ok(None)
        })
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(base16ct::lower::encode_string(&name.0))
    }

    /// The tag of an entry, which authenticates its bytes and name.
    fn tag(&self, name: &Name, code: &[u8]) -> Option<Hmac<Sha256>> {
        let tag = Hmac::new_from_slice(&self.key).ok()?;
        Some(tag.chain_update(name.0).chain_update(code))
    }

    fn get(&self, name: &Name) -> Option<Vec<u8>> {
        let path = self.path(name);
        let mut code = file::read_up_to(&path, LARGEST).ok()?;
        let length = code.len().checked_sub(TAG)?;
        let tag = code.split_off(length);
        if self.tag(name, &code)?.verify_slice(&tag).is_err() {
            tracing::warn!("an entry of the compile cache is damaged or foreign, and was removed");
            let _ = fs::remove_file(&path);
            return None;
        }
        // The entries that were not used for longest go first.
        if let Ok(file) = File::open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(code)
    }

    /// Compiles a module and keeps the code.
    fn make(
        &self,
        name: &Name,
        module: &Path,
        application: &[u8],
        turns: bool,
        compiler: &Compiler,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let io = |error: io::Error| Failure::of(Exit::Output, error.to_string());
        let mut entry = NamedTempFile::new_in(&self.folder).map_err(io)?;
        let to = entry.as_file().try_clone().map_err(io)?;
        let [_, _, errors] = standard_streams([Stream::Null; 3])?;
        let wish = Compile { cpu: None, turns };
        let target = target(compiler.backend, &[], Measured::default())?;
        let streams = [to.into(), errors];
        let run = compiler.compile(target, module, application.to_owned(), wish, streams)?;
        match run.outcome {
            Outcome::Exit(0) => {}
            Outcome::TimedOut => {
                return crate::outcome::show(&run, compiler.limit, false, None).map(|_| None);
            }
            _ => return Ok(None),
        }
        let mut code = Vec::new();
        let mut file = entry.as_file();
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        file.take(LARGEST).read_to_end(&mut code).map_err(io)?;
        if (code.len() + TAG) as u64 > LARGEST {
            return Ok(None);
        }
        self.make_room();
        if let Some(tag) = self.tag(name, &code) {
            entry.write_all(&tag.finalize().into_bytes()).map_err(io)?;
            entry
                .persist(self.path(name))
                .map_err(|error| io(error.error))?;
        }
        Ok(Some(code))
    }

    /// Removes the entries that were not used for longest, until those that are left are within the bound. The new one is
    /// among them, under another name, and the newest.
    fn make_room(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let mut all: u64 = entries.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in &entries {
            if all <= ALL {
                break;
            }
            if fs::remove_file(path).is_ok() {
                all -= length;
            }
        }
    }
}

impl Name {
    /// The name for a module in a kind of Keep, on this machine; `None` if the CPU cannot be identified.
    fn new(application: &[u8], backend: Backend, turns: bool) -> Option<Self> {
        let (version, backend) = (version::long(), backend.name());
        let parts: [&[u8]; 6] = [
            // The compiler with its settings.
            &RUNTIME_SHA256,
            // The VMM, which decides what a guest sees of the CPU.
            version.as_bytes(),
            &cpu()?,
            backend.as_bytes(),
            &[u8::from(turns)],
            &Sha256::digest(application),
        ];
        // Each of a length that the digest knows.
        let hash = parts.iter().fold(Sha256::new(), |hash, part| {
            hash.chain_update((part.len() as u64).to_le_bytes())
                .chain_update(part)
        });
        Some(Self(hash.finalize().into()))
    }
}

/// The facts about the first CPU that code depends on.
fn cpu() -> Option<Vec<u8>> {
    /// More than Linux says of one CPU, in bytes.
    const ONE: u64 = 16 << 10;
    let mut text = String::new();
    File::open("/proc/cpuinfo")
        .and_then(|file| file.take(ONE).read_to_string(&mut text))
        .ok()?;
    let of_code = ["vendor_id", "cpu family", "model\t", "flags"];
    let lines = text
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| of_code.iter().any(|start| line.starts_with(start)));
    let facts = lines.collect::<Vec<_>>().join("\n");
    facts.contains("flags").then(|| facts.into_bytes())
}

/// The key; created if there is none.
fn key(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    match file::read_up_to(path, KEY as u64) {
        Ok(key) if key.len() == KEY => return Ok(Zeroizing::new(key)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = Zeroizing::new(vec![0; KEY]);
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // Only for its owner. If two commands create one at the same time, one of them finds its entries unreadable
    // later.
    output::create(path, &key)?;
    Ok(key)
}
