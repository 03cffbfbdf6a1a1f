// SPDX-License-Identifier: Apache-2.0

//! Cgroups of version 2 around the processes of Keeps (kernel documentation, `admin-guide/cgroup-v2`): a compromised
//! Keep gets no more memory and processes than its share, and processes left by a killed manager are killed before the
//! next one serves. This is the last of three safety nets, after the control socket and PR_SET_PDEATHSIG.
//!
//! The folder of a cgroup is the system's; the manager writes short texts into files of fixed names.

use enarx_contract::Resources;
use enarx_contract::canonical::Hex;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Bytes for the process of a Keep itself, in addition to the Keep's memory.
const OVERHEAD: u64 = 64 << 20;
/// Threads and processes of a Keep in addition to its virtual CPUs: the supervisor, the executor, the name look-up.
const TASKS: u64 = 64;
/// How long killed processes may take to leave their cgroup.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Interval of this check.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// The controllers that limit a Keep.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The cgroup of the manager itself: one that has processes cannot give controllers to its children.
const MANAGER: &str = "enarx-manager";

/// Why Keeps have no cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup of version 2.
    #[error("this process is in no cgroup of version 2")]
    None,
    /// A cgroup without the controllers.
    #[error("{} does not have the controllers memory and pids", .0.display())]
    Controllers(PathBuf),
    /// A file that cannot be written, because the cgroup is not delegated or has other processes.
    #[error("{} cannot be used: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Processes that were killed and do not go.
    #[error("{} has processes that were killed and do not end", .0.display())]
    Left(PathBuf),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |error| CgroupError::File {
        path: path.to_owned(),
        error,
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(failed(path))
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(failed(path))
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// Lets the children of a cgroup have the controllers.
fn delegate_controllers(cgroup: &Path) -> Result<(), CgroupError> {
    let wanted: Vec<_> = CONTROLLERS.iter().map(|name| format!("+{name}")).collect();
    write(&cgroup.join("cgroup.subtree_control"), &wanted.join(" "))
}

/// The path of this process' cgroup in the hierarchy of version 2, from `/proc/self/cgroup` (cgroups(7)).
fn own_path(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The place where the hierarchy of version 2 is mounted, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
        let mut fields = mount.split(' ').skip(3);
        let whole = fields.next() == Some("/");
        let place = fields.next()?;
        (is_cgroup2 && whole).then(|| PathBuf::from(place))
    })
}

/// A cgroup whose children may have limits.
#[derive(Debug)]
pub struct Cgroups {
    base: PathBuf,
}

impl Cgroups {
    /// The cgroup of this process, which moves into a child of it. It has to be delegated, as by `Delegate=yes` of systemd.
    ///
    /// # Errors
    /// [`CgroupError`]: Keeps can be served without.
    pub fn of_this_process() -> Result<Self, CgroupError> {
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        let own = read(Path::new("/proc/self/cgroup"))?;
        let (Some(mount), Some(own)) = (mount_point(&mounts), own_path(&own)) else {
            return Err(CgroupError::None);
        };
        Self::delegated(&mount.join(own), std::process::id())
    }

    /// The cgroup `own` of a manager with this number.
    fn delegated(own: &Path, process: u32) -> Result<Self, CgroupError> {
        // A manager before this one, or the service's settings, have moved it already.
        let base = own
            .ends_with(MANAGER)
            .then(|| own.parent())
            .flatten()
            .unwrap_or(own);
        let controllers = read(&base.join("cgroup.controllers"))?;
        let has = |wanted: &&str| controllers.split_whitespace().any(|name| name == *wanted);
        if !CONTROLLERS.iter().all(has) {
            return Err(CgroupError::Controllers(base.to_owned()));
        }
        let manager = base.join(MANAGER);
        make(&manager)?;
        let process = process.to_string();
        write(&manager.join("cgroup.procs"), &process)?;
        if let Err(error) = delegate_controllers(base) {
            // Everything is as before. The remains do no harm.
            let _ = write(&base.join("cgroup.procs"), &process);
            let _ = fs::remove_dir(&manager);
            return Err(error);
        }
        Ok(Self::at(base))
    }

    /// This cgroup, whose children have the controllers memory and pids.
    #[must_use]
    pub fn at(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
        }
    }

    /// The cgroups of one manager's Keeps; `name` is unique to the manager. Processes left in them are killed.
    ///
    /// # Errors
    /// [`CgroupError`].
    pub(crate) fn of_keeps(&self, name: Hex<8>) -> Result<KeepCgroups, CgroupError> {
        let folder = self.base.join(format!("enarx-keeps-{name}"));
        make(&folder)?;
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            if entry.file_type().map_err(failed(&folder))?.is_dir() {
                tracing::warn!(cgroup = %entry.path().display(), "a Keep of an earlier manager is killed");
                end(&entry.path())?;
            }
        }
        Ok(KeepCgroups { folder })
    }
}

/// Kills all processes of a cgroup and removes it.
fn end(cgroup: &Path) -> Result<(), CgroupError> {
    write(&cgroup.join("cgroup.kill"), "1")?;
    let until = Instant::now() + KILL_LIMIT;
    loop {
        match fs::remove_dir(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Until the last process is gone.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                sleep(CHECK_INTERVAL);
            }
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                return Err(CgroupError::Left(cgroup.to_owned()));
            }
            Err(error) => return Err(failed(cgroup)(error)),
        }
    }
}

/// The cgroups of a manager's Keeps.
#[derive(Debug)]
pub(crate) struct KeepCgroups {
    folder: PathBuf,
}

impl KeepCgroups {
    /// Puts a process, which has not begun to do anything, into a cgroup for a Keep of these resources.
    ///
    /// # Errors
    /// [`CgroupError`]: the process is not limited.
    pub(crate) fn hold(
        &self,
        id: Hex<16>,
        resources: Resources,
        process: u32,
    ) -> Result<KeepCgroup, CgroupError> {
        delegate_controllers(&self.folder)?;
        let cgroup = KeepCgroup {
            path: self.folder.join(id.to_string()),
        };
        make(&cgroup.path)?;
        let memory = resources.memory.saturating_add(OVERHEAD);
        let tasks = u64::from(resources.vcpus).saturating_add(TASKS);
        for (file, text) in [
            ("memory.max", memory.to_string()),
            ("memory.oom.group", "1".to_string()),
            ("pids.max", tasks.to_string()),
            ("cgroup.procs", process.to_string()),
        ] {
            write(&cgroup.path.join(file), &text)?;
        }
        Ok(cgroup)
    }
}

/// The cgroup of one Keep. It ends with this, and every process in it.
#[derive(Debug)]
pub(crate) struct KeepCgroup {
    path: PathBuf,
}

impl Drop for KeepCgroup {
    fn drop(&mut self) {
        if let Err(error) = end(&self.path) {
            tracing::warn!(%error, "the cgroup of a Keep is left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// A folder that looks like a delegated cgroup.
    fn fake(controllers: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), controllers).unwrap();
        folder
    }

    #[test]
    fn a_manager_moves_aside_and_hands_the_controllers_down() {
        let folder = fake("cpu memory pids\n");
        let base = folder.path();
        let cgroups = Cgroups::delegated(base, 42).unwrap();
        assert_eq!(cgroups.base, base);
        assert_eq!(text(&base.join("enarx-manager/cgroup.procs")), "42");
        assert_eq!(text(&base.join("cgroup.subtree_control")), "+memory +pids");
        // One that was moved before, by itself or by its service.
        let again = Cgroups::delegated(&base.join(MANAGER), 43).unwrap();
        assert_eq!(again.base, base);
        assert_eq!(text(&base.join("enarx-manager/cgroup.procs")), "43");
    }

    #[test]
    fn a_cgroup_that_cannot_limit_is_refused_and_left_as_it_was() {
        let folder = fake("cpu memory\n");
        let refused = Cgroups::delegated(folder.path(), 42).unwrap_err();
        assert!(matches!(refused, CgroupError::Controllers(_)), "{refused}");
        assert!(!folder.path().join(MANAGER).exists());
        let folder = fake("memory pids");
        // It has other processes, so it cannot hand down: here by a folder in the file's place.
        let base = folder.path();
        fs::create_dir(base.join("cgroup.subtree_control")).unwrap();
        let refused = Cgroups::delegated(base, 42).unwrap_err();
        assert!(matches!(refused, CgroupError::File { .. }), "{refused}");
        assert_eq!(text(&base.join("cgroup.procs")), "42");
        let nowhere = Cgroups::delegated(&base.join("nowhere"), 42).unwrap_err();
        assert!(matches!(nowhere, CgroupError::File { .. }), "{nowhere}");
    }

    #[test]
    fn a_keep_has_its_memory_and_little_more() {
        let folder = fake("memory pids");
        let keeps = Cgroups::at(folder.path()).of_keeps(Hex([7; 8])).unwrap();
        let resources = Resources {
            vcpus: 2,
            memory: 1 << 30,
        };
        let path = folder
            .path()
            .join("enarx-keeps-0707070707070707")
            .join("01".repeat(16));
        let cgroup = keeps.hold(Hex([1; 16]), resources, 42).unwrap();
        assert_eq!(text(&path.join("memory.max")), "1140850688");
        assert_eq!(text(&path.join("memory.oom.group")), "1");
        assert_eq!(text(&path.join("pids.max")), "66");
        assert_eq!(text(&path.join("cgroup.procs")), "42");
        assert!(!path.join("cgroup.kill").exists());
        drop(cgroup);
        assert_eq!(text(&path.join("cgroup.kill")), "1");
        assert_eq!(
            text(&path.parent().unwrap().join("cgroup.subtree_control")),
            "+memory +pids"
        );
    }

    #[test]
    fn the_hierarchy_of_version_2_is_found() {
        assert_eq!(own_path("9:name=systemd:/\n0::/a/b\n"), Some("a/b"));
        assert_eq!(own_path("0::/\n"), Some(""));
        assert_eq!(own_path("4:memory:/a\n"), None);
        let mounts = "24 1 0:21 / /proc rw - proc proc rw\n\
            25 1 0:22 /part /elsewhere rw - cgroup2 cgroup rw\n\
            26 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup rw\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(mount_point("24 1 0:21 / /proc rw - proc proc rw"), None);
    }
}
