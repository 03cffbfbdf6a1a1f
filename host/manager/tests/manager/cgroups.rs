// SPDX-License-Identifier: Apache-2.0

//! Cgroups around the processes of Keeps: the files that the manager writes, and, if this machine allows it, their
//! effect.

use crate::contracts::MEMORY;
use crate::host::{Host, gone, process, wait, wait_until};
use enarx_contract::canonical::Hex;
use enarx_harness::needs;
use enarx_manager::{Cgroups, State};
use enarx_manager_api::{KeepState, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The folder of the Keeps of a host in this cgroup.
fn keeps(base: &Path, state: &State) -> PathBuf {
    let digest = state.key().public().digest();
    let name = Hex::<8>(digest[..8].try_into().unwrap());
    base.join(format!("enarx-keeps-{name}"))
}

#[test]
fn a_keep_has_a_cgroup_of_its_own() {
    let base = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::at(base.path());
    let host = Host::with(|settings| settings.cgroups = Some(cgroups));
    let mut client = host.client("anna");
    let keep = host.ready(&mut client);
    let cgroup = keeps(base.path(), &host.state).join(keep.id.to_string());
    let text = |name: &str| fs::read_to_string(cgroup.join(name)).unwrap();
    assert_eq!(text("memory.max"), (MEMORY + (64 << 20)).to_string());
    let number = process(&mut client, &keep.id);
    assert_eq!(text("cgroup.procs"), number.to_string());
    assert!(!cgroup.join("cgroup.kill").exists());
    client.call("DELETE", &path::keep_delete(&keep.id, 0), None);
    wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(text("cgroup.kill"), "1");
}

#[test]
fn a_keep_without_the_cgroup_that_it_should_have_does_not_start() {
    let base = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::at(base.path());
    let host = Host::with(|settings| settings.cgroups = Some(cgroups));
    // A folder that cannot be written.
    let control = keeps(base.path(), &host.state).join("cgroup.subtree_control");
    fs::create_dir(control).unwrap();
    let mut client = host.client("anna");
    let keep = host.launch(&mut client, "echo");
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("keep.start"));
}

/// A cgroup of this test in the hierarchy of version 2. It ends with this.
struct TestCgroup(PathBuf);

impl TestCgroup {
    fn new() -> Self {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let is_v2 = |mount: &&Path| mount.join("cgroup.controllers").exists();
        let Some(mount) = mounts.into_iter().find(is_v2) else {
            needs::lacking("CGROUPS", "there is no cgroup hierarchy of version 2");
        };
        let path = mount.join(format!("enarx-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            needs::lacking("CGROUPS", &format!("{}: {error}", path.display()));
        }
        if !path.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(&path);
            needs::lacking("CGROUPS", "this kernel has no cgroup.kill");
        }
        Self(path)
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn processes_of_an_earlier_manager_are_killed_before_serving() {
    let base = TestCgroup::new();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let state = State::open(&folder.path().join("state")).unwrap();
    let left = keeps(&base.0, &state).join("0".repeat(32));
    fs::create_dir_all(&left).unwrap();
    let mut orphan = Command::new("/bin/sleep").arg("100").spawn().unwrap();
    fs::write(left.join("cgroup.procs"), orphan.id().to_string()).unwrap();
    let cgroups = Cgroups::at(&base.0);
    let host = Host::in_folder(folder, |settings| settings.cgroups = Some(cgroups));
    assert!(!left.exists());
    wait_until(|| orphan.try_wait().unwrap().is_some());
    gone(orphan.id());
    drop(host);
}
