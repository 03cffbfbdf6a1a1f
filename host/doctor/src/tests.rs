// SPDX-License-Identifier: Apache-2.0

//! The examination of machines that are made up.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use super::{Host, Machine, Report, State, examine};

/// A machine made of files and answers.
#[derive(Clone, Default)]
struct Fake {
    files: BTreeMap<&'static str, &'static str>,
    unusable: Vec<&'static str>,
    leaf: Option<[u32; 4]>,
    extensions: BTreeMap<u32, i32>,
    attributes: BTreeMap<(u32, u64), u64>,
    landlock: i32,
    root: bool,
    group: Option<&'static str>,
}

impl Machine for Fake {
    fn read(&self, path: &str) -> io::Result<String> {
        let text = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok((*text).to_owned())
    }
    fn exists(&self, path: &str) -> bool {
        self.files
            .keys()
            .any(|file| *file == path || file.starts_with(&format!("{path}/")))
    }
    fn usable(&self, path: &str) -> bool {
        self.exists(path) && !self.unusable.contains(&path)
    }
    fn cpuid(&self, leaf: u32) -> Option<[u32; 4]> {
        assert_eq!(leaf, 0x8000_001f);
        self.leaf
    }
    fn kvm(&self, extensions: &[u32]) -> io::Result<(i32, BTreeMap<u32, i32>)> {
        if !self.usable("/dev/kvm") {
            return Err(io::ErrorKind::NotFound.into());
        }
        let answer = |number: &u32| (*number, self.extensions.get(number).copied().unwrap_or(0));
        Ok((12, extensions.iter().map(answer).collect()))
    }
    fn kvm_attribute(&self, group: u32, attribute: u64) -> Result<Option<u64>, Errno> {
        Ok(self.attributes.get(&(group, attribute)).copied())
    }
    fn landlock_abi(&self) -> i32 {
        self.landlock
    }
    fn is_root(&self) -> bool {
        self.root
    }

    fn group(&self, _: &str) -> Option<String> {
        self.group.map(str::to_owned)
    }
}

/// An EPYC host with everything.
fn epyc() -> Fake {
    Fake {
        files: BTreeMap::from([
            (
                "/proc/cpuinfo",
                "processor\t: 0\nmodel name\t: AMD EPYC 9654\nflags\t\t: fpu svm sev_snp\n",
            ),
            ("/proc/sys/kernel/osrelease", "6.12.3-generic\n"),
            (
                "/proc/sys/kernel/seccomp/actions_avail",
                "kill_process kill_thread trap errno user_notif allow\n",
            ),
            ("/proc/sys/user/max_user_namespaces", "1000\n"),
            ("/proc/sys/vm/memfd_noexec", "0\n"),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
            ("/sys/module/kvm_amd/parameters/sev_snp", "Y\n"),
            ("/dev/kvm", ""),
            ("/dev/sev", ""),
        ]),
        unusable: Vec::new(),
        leaf: Some([0x1a, 51, 0, 0]),
        // User memory, immediate exit, MSR exits and filters, page state changes, two-sided slots,
        // private attributes, guest_memfd, types with SNP.
        extensions: BTreeMap::from([
            (3, 1),
            (136, 1),
            (188, 7),
            (189, 1),
            (201, 0x1000),
            (231, 1),
            (233, 8),
            (234, 1),
            (235, 0b1_0011),
        ]),
        // Debug swap; all policy bits of the first SEV-SNP firmware.
        attributes: BTreeMap::from([((1, 0), 0x20), ((1, 1), 0x1b_ffff)]),
        landlock: 6,
        root: false,
        group: Some("kvm"),
    }
}

fn state(report: &Report, backend: &str, check: &str) -> (State, Option<String>) {
    let found = report
        .backend(backend)
        .and_then(|backend| backend.checks.iter().find(|c| c.name == check))
        .unwrap_or_else(|| panic!("{backend} has no check {check}"));
    (found.state, found.next.clone())
}

fn supported(report: &Report) -> Vec<&'static str> {
    report
        .backends
        .iter()
        .filter(|backend| backend.supported)
        .map(|backend| backend.name)
        .collect()
}

#[test]
fn a_complete_epyc_host_supports_everything_but_tdx() {
    let report = examine(&epyc());
    assert_eq!(supported(&report), ["snp", "sim", "kvm", "process"]);
    assert_eq!(
        (report.cpu.as_str(), report.kernel.as_str()),
        ("AMD EPYC 9654", "6.12.3-generic")
    );
    assert!(report.backend("snp").unwrap().usable);
    assert!(report.backend("process").unwrap().usable);
    for backend in &report.backends {
        for check in &backend.checks {
            assert_eq!(check.next.is_some(), check.state != State::Ok, "{check:?}");
        }
    }
}

#[test]
fn an_empty_machine_has_a_next_step_for_everything() {
    let report = examine(&Fake::default());
    assert!(supported(&report).is_empty());
    for backend in &report.backends {
        let obstacle = backend
            .checks
            .iter()
            .find(|c| c.required && c.state != State::Ok);
        assert!(!obstacle.unwrap().next.as_ref().unwrap().is_empty());
    }
    assert_eq!(
        state(&report, "process", "Linux 5.9 or later").0,
        State::Unknown
    );
    assert!(
        report
            .to_tree()
            .contains("an unknown processor, Linux unknown")
    );
}

#[test]
fn one_missing_thing_at_a_time() {
    let mut machine = epyc();
    machine.leaf = Some([0xb, 51, 0, 0]);
    let report = examine(&machine);
    assert_eq!(
        state(&report, "snp", "processor with SEV-SNP").0,
        State::Missing
    );
    assert_eq!(
        report.backend("snp").unwrap().obstacle().unwrap().name,
        "processor with SEV-SNP"
    );

    let mut machine = epyc();
    machine
        .files
        .insert("/proc/sys/kernel/osrelease", "6.8.0-52-generic");
    let report = examine(&machine);
    assert_eq!(
        state(&report, "snp", "Linux 6.11 or later").0,
        State::Missing
    );
    assert_eq!(supported(&report), ["sim", "kvm", "process"]);

    let mut machine = epyc();
    machine
        .files
        .insert("/sys/module/kvm_amd/parameters/sev_snp", "N\n");
    let (found, next) = state(
        &examine(&machine),
        "snp",
        "SEV-SNP switched on in the kernel",
    );
    assert_eq!(found, State::Missing);
    assert!(next.unwrap().contains("modprobe kvm_amd sev_snp=1"));

    for (capability, answer, check) in [
        (201, 0x0800, "page state changes in KVM"),
        (231, 0, "memory slots with two sides in KVM"),
        (233, 0, "private memory attributes in KVM"),
        (234, 0, "private guest memory in KVM"),
        (235, 0b1111, "SEV-SNP guests in KVM"),
    ] {
        let mut machine = epyc();
        machine.extensions.insert(capability, answer);
        let report = examine(&machine);
        assert_eq!(state(&report, "snp", check).0, State::Missing);
        assert_eq!(
            report.backend("snp").unwrap().obstacle().unwrap().name,
            check
        );
    }

    let mut machine = epyc();
    machine.attributes.clear();
    let report = examine(&machine);
    let (found, next) = state(&report, "snp", "SEV features and guest policies in KVM");
    assert_eq!(found, State::Missing);
    assert!(next.unwrap().contains("Linux 6.11"));

    let mut machine = epyc();
    machine.unusable.push("/dev/kvm");
    let report = examine(&machine);
    let (found, next) = state(&report, "kvm", "/dev/kvm");
    assert_eq!(found, State::Missing);
    assert!(next.unwrap().contains("usermod -aG kvm"));
    // A question that cannot be asked is no reason to change the firmware.
    for (backend, check) in [
        ("kvm", "KVM's interface"),
        ("tdx", "private guest memory in KVM"),
    ] {
        let (_, next) = state(&report, backend, check);
        assert!(!next.unwrap().contains("firmware"), "{check}");
    }
    machine.group = None;
    let (_, next) = state(&examine(&machine), "kvm", "/dev/kvm");
    assert_eq!(next.unwrap(), "sudo setfacl -m u:\"$USER\":rw /dev/kvm");
    assert_eq!(state(&report, "sim", "MSR exits in KVM").0, State::Unknown);
    assert_eq!(supported(&report), ["process"]);

    let mut machine = epyc();
    machine.files.remove("/dev/kvm");
    machine
        .files
        .remove("/sys/module/kvm_amd/parameters/sev_snp");
    let (found, next) = state(&examine(&machine), "kvm", "/dev/kvm");
    assert_eq!(
        (found, next.as_deref()),
        (State::Missing, Some("sudo modprobe kvm_amd"))
    );

    let mut machine = epyc();
    machine.landlock = 0;
    let report = examine(&machine);
    assert_eq!(state(&report, "process", "Landlock").0, State::Missing);
    assert!(
        supported(&report).contains(&"process"),
        "Landlock is advice"
    );

    let mut machine = epyc();
    machine.files.insert(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1\n",
    );
    let (found, next) = state(&examine(&machine), "process", "user namespaces");
    assert_eq!(found, State::Missing);
    assert_eq!(
        next.unwrap().split(", ").next(),
        Some("sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    );
    let report = examine(&machine);
    let process = report.backend("process").unwrap();
    assert!(process.usable);
    assert_eq!(process.weaknesses(), ["user namespaces"]);
    assert!(
        report
            .to_tree()
            .contains("\nprocess: usable, weaker without user namespaces (")
    );
    machine.root = true;
    assert_eq!(
        state(&examine(&machine), "process", "user namespaces").0,
        State::Ok
    );

    let mut machine = epyc();
    machine.files.insert(
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "always madvise [never]",
    );
    assert_eq!(
        state(&examine(&machine), "kvm", "transparent huge pages").0,
        State::Missing
    );
}

#[test]
fn the_tree_and_the_json_say_the_same() {
    let report = examine(&epyc());
    let tree = report.to_tree();
    assert!(tree.starts_with("enarx "));
    assert!(
        tree.contains("\nsnp: usable (AMD SEV-SNP: protects the application from the host)\n"),
        "{tree}"
    );
    assert!(
        tree.contains("\n`enarx run` takes snp here, unless --backend says otherwise (AMD SEV-SNP"),
        "{tree}"
    );
    assert!(
        tree.contains("\ntdx: not usable, and not built into this command ("),
        "{tree}"
    );
    // No advice about modules of a processor that is not there.
    assert!(
        tree.contains(
            "├─ missing  module kvm_intel: not loaded\n│           next: nothing: the processor comes first\n"
        ),
        "{tree}"
    );
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["auto"], "snp");
    assert_eq!(json["backends"].as_array().unwrap().len(), 5);
    assert_eq!(json["backends"][0]["name"], "snp");
    assert_eq!(json["backends"][0]["checks"][0]["state"], "ok");
    assert!(json["backends"][0]["checks"][0].get("next").is_none());
}

#[test]
fn this_machine_is_examined_without_a_privilege() {
    let report = examine(&Host::new());
    assert_eq!(report.backends.len(), 5);
    // These tests run on Linux with seccomp, or the process backend could not be tested.
    assert!(report.backend("process").unwrap().supported);
}
