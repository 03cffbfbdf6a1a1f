// SPDX-License-Identifier: Apache-2.0

//! The examination of machines that are made up.

use std::collections::BTreeMap;
use std::io;

use rustix::io::Errno;

use enarx_vmm::snp::device::CommandError;
use enarx_vmm::snp::platform_status::PlatformStatus;

use super::{Host, Machine, Report, State, examine};

/// A machine made of files and answers.
#[derive(Clone, Default)]
struct Fake {
    files: BTreeMap<&'static str, &'static str>,
    unusable: Vec<&'static str>,
    leaf: Option<[u32; 4]>,
    extensions: BTreeMap<u32, i32>,
    attributes: BTreeMap<(u32, u64), u64>,
    status: Option<PlatformStatus>,
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
    fn platform_status(&self) -> Result<PlatformStatus, CommandError> {
        self.status.ok_or(Errno::INVAL.into())
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
            (
                "/proc/cmdline",
                "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n",
            ),
            ("/sys/class/iommu/ivhd0/amd-iommu/cap", "1\n"),
            ("/dev/kvm", ""),
            ("/dev/sev", ""),
        ]),
        unusable: Vec::new(),
        leaf: Some([0x1a, 51, 509, 100]),
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
        status: Some(PlatformStatus {
            api: [1, 55],
            state: 1,
            rmp: 1,
            ..PlatformStatus::default()
        }),
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
fn each_missing_requirement_is_reported() {
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
        .remove("/proc/sys/kernel/seccomp/actions_avail");
    let (_, next) = state(&examine(&machine), "process", "seccomp");
    assert!(next.unwrap().contains("CONFIG_SECCOMP_FILTER"));
    machine.files.remove("/proc/sys/kernel/osrelease");
    let (found, next) = state(&examine(&machine), "process", "seccomp");
    assert_eq!(found, State::Missing);
    assert!(next.unwrap().starts_with("mount /proc"));

    // A Keep is served by a process of its own, in every kind.
    let mut machine = epyc();
    machine.files.insert("/proc/sys/kernel/osrelease", "5.8.18");
    let report = examine(&machine);
    assert_eq!(supported(&report), [""; 0]);
    for backend in ["sim", "kvm", "process"] {
        let (found, next) = state(&report, backend, "Linux 5.9 or later");
        assert_eq!(found, State::Missing, "{backend}");
        assert!(next.unwrap().starts_with("install a newer kernel"));
    }

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

    // One whose Landlock is too old needs another kernel.
    let mut machine = epyc();
    machine.landlock = 2;
    let (found, next) = state(&examine(&machine), "process", "Landlock");
    assert_eq!(found, State::Missing);
    assert!(next.unwrap().starts_with("use Linux 6.2"));

    // One that knows no ports is no worse a fence for files, and it is said.
    machine.landlock = 3;
    let report = examine(&machine);
    assert_eq!(state(&report, "process", "Landlock").0, State::Ok);
    let landlock = report
        .backend("process")
        .and_then(|process| process.checks.iter().find(|check| check.name == "Landlock"));
    let found = &landlock.unwrap().found;
    assert!(found.contains("without rules for ports"), "{found}");

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

/// A check of `snp`: its state, whether it is in the way, what was found, and the next step.
fn snp_check(machine: &Fake, name: &str) -> (State, bool, String, String) {
    let report = examine(machine);
    let mut checks = report.backend("snp").unwrap().checks.iter();
    let found = checks.find(|check| check.name == name).unwrap();
    let next = found.next.clone().unwrap_or_default();
    (found.state, found.required, found.found.clone(), next)
}

#[test]
fn a_kernel_without_sev_is_named() {
    const NAME: &str = "CONFIG_KVM_AMD_SEV";
    let parameter = "/sys/module/kvm_amd/parameters/sev_snp";
    let configuration = "/boot/config-6.12.3-generic";
    assert_eq!(snp_check(&epyc(), NAME).0, State::Ok);
    let mut machine = epyc();
    machine.files.remove(parameter);
    let (state, required, found, next) = snp_check(&machine, NAME);
    assert_eq!((state, required), (State::Unknown, false));
    assert!(found.contains(configuration) && next.contains("modprobe kvm_amd"));
    for (text, expected) in [
        ("CONFIG_KVM=m\nCONFIG_KVM_AMD_SEV=y\n", State::Ok),
        (
            "CONFIG_KVM=m\n# CONFIG_KVM_AMD_SEV is not set\n",
            State::Missing,
        ),
    ] {
        machine.files.insert(configuration, text);
        let (state, required, _, next) = snp_check(&machine, NAME);
        assert_eq!((state, required), (expected, true));
        assert_eq!(
            next.contains("CONFIG_KVM_AMD_SEV=y"),
            state == State::Missing
        );
    }
}

#[test]
fn settings_of_the_iommu_that_switch_snp_off_are_named() {
    const NAME: &str = "IOMMU as SEV-SNP needs it";
    // A kernel that has switched SEV-SNP on has looked at all this.
    assert_eq!(snp_check(&epyc(), NAME).0, State::Ok);
    let epyc = || {
        let mut machine = epyc();
        let parameter = "/sys/module/kvm_amd/parameters/sev_snp";
        machine.files.insert(parameter, "N\n");
        machine
    };
    assert_eq!(snp_check(&epyc(), NAME).0, State::Ok);
    for (line, parameter) in [
        ("quiet iommu=pt", "iommu=pt"),
        ("iommu.passthrough=1 quiet", "iommu.passthrough=1"),
        ("amd_iommu=off\n", "amd_iommu=off"),
        ("amd_iommu=force_isolation,pgtbl_v2\n", "amd_iommu=pgtbl_v2"),
    ] {
        let mut machine = epyc();
        machine.files.insert("/proc/cmdline", line);
        let (state, required, found, next) = snp_check(&machine, NAME);
        assert_eq!((state, required), (State::Missing, true), "{line}");
        assert!(
            found.contains(parameter) && next.contains(parameter),
            "{found}"
        );
    }
    let mut machine = epyc();
    machine
        .files
        .insert("/sys/kernel/iommu_groups/0/type", "identity\n");
    assert!(snp_check(&machine, NAME).3.contains("iommu.passthrough=0"));
    let mut machine = epyc();
    machine.files.remove("/sys/class/iommu/ivhd0/amd-iommu/cap");
    let (state, _, _, next) = snp_check(&machine, NAME);
    assert_eq!(state, State::Missing);
    assert!(next.contains("enable the IOMMU"), "{next}");
}

#[test]
fn places_for_guests_are_counted() {
    const NAME: &str = "places for SEV-SNP guests (ASIDs)";
    let (state, _, found, _) = snp_check(&epyc(), NAME);
    assert_eq!((state, found.as_str()), (State::Ok, "99 of 509"));
    for first_plain in [0, 1] {
        let mut machine = epyc();
        machine.leaf = Some([0x1a, 51, 509, first_plain]);
        let (state, required, _, next) = snp_check(&machine, NAME);
        assert_eq!((state, required), (State::Missing, true));
        assert!(next.contains("SEV-ES ASID space limit"), "{next}");
    }
    let mut machine = epyc();
    machine.files.insert(
        "/sys/module/kvm_amd/parameters/ciphertext_hiding_asids",
        "10\n",
    );
    let found = snp_check(&machine, NAME).2;
    assert!(
        found.starts_with("10 of 509: kvm_amd.ciphertext_hiding_asids is 10"),
        "{found}"
    );
}

#[test]
fn the_firmware_tells_its_version_and_state() {
    const NAME: &str = "SEV firmware";
    let (state, _, found, _) = snp_check(&epyc(), NAME);
    assert_eq!(state, State::Ok);
    assert!(
        found.starts_with("ABI version 1.55, build 0, initialized, with RMP"),
        "{found}"
    );
    let with = |change: fn(&mut PlatformStatus)| {
        let mut machine = epyc();
        machine.status.iter_mut().for_each(change);
        snp_check(&machine, NAME)
    };
    let (state, required, _, next) = with(|status| status.api = [1, 49]);
    assert_eq!((state, required), (State::Missing, true));
    assert!(next.contains("1.51 or later"), "{next}");
    // A kernel that waits for the first guest is no obstacle.
    let (state, required, found, next) = with(|status| (status.state, status.rmp) = (0, 0));
    assert_eq!((state, required), (State::Missing, false));
    assert!(found.contains("uninitialized, without RMP") && next.contains("RMP coverage"));
    let mut machine = epyc();
    machine.status = None;
    let (state, required, found, next) = snp_check(&machine, NAME);
    assert_eq!((state, required), (State::Unknown, false));
    assert!(
        found.contains("Invalid argument") && next.contains("dmesg"),
        "{found}"
    );
    assert!(examine(&machine).backend("snp").unwrap().usable);
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
        tree.contains("\n`enarx run` uses snp here, unless --backend says otherwise (AMD SEV-SNP"),
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
fn this_machine_is_examined_without_privileges() {
    let report = examine(&Host::new());
    assert_eq!(report.backends.len(), 5);
    // These tests run on Linux with seccomp, or the process backend could not be tested.
    assert!(report.backend("process").unwrap().supported);
}
