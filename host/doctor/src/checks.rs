// SPDX-License-Identifier: Apache-2.0

//! The requirements of each backend.

use std::collections::BTreeMap;
use std::io;

use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_EXIT_HYPERCALL, KVM_CAP_GUEST_MEMFD, KVM_CAP_IMMEDIATE_EXIT,
    KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_USER_MEMORY, KVM_CAP_USER_MEMORY2, KVM_CAP_VM_TYPES,
    KVM_CAP_X86_MSR_FILTER, KVM_CAP_X86_USER_SPACE_MSR, KVM_X86_GRP_SEV, KVM_X86_SEV_VMSA_FEATURES,
    KVM_X86_TDX_VM,
};

use crate::backend::Backend;
use crate::facts::{has_cpu_flag, kernel_release};
use crate::machine::Machine;
use crate::report::{
    BackendReport, Check, LANDLOCK, MSR_FILTERS, State, USER_NAMESPACES, advice, check,
};
use crate::snp_host;
use enarx_vmm::snp::abi::POLICY_BITS;
use enarx_vmm::snp::probe::{ENABLE as ENABLE_SNP, NEWER_KERNEL, Offer, REQUIREMENTS, Requirement};

/// CPUID leaf of AMD's memory encryption (AMD64 Architecture Programmer's Manual, volume 3, E.4.17).
const MEMORY_ENCRYPTION: u32 = 0x8000_001f;
/// Bit of that leaf's EAX: Secure Nested Paging.
const SNP_BIT: u32 = 1 << 4;
/// Oldest Linux whose KVM launches SEV-SNP guests.
const SNP_KERNEL: (u32, u32) = (6, 11);
/// Oldest Linux whose KVM launches TDX guests.
const TDX_KERNEL: (u32, u32) = (6, 16);
/// Oldest Linux for the process that serves a Keep of any kind: `close_range` (5.9) is the newest call that it cannot do
/// without.
const KEEP_KERNEL: (u32, u32) = (5, 9);
/// The capabilities that `/dev/kvm` is asked about.
const EXTENSIONS: [u32; 9] = [
    KVM_CAP_USER_MEMORY,
    KVM_CAP_IMMEDIATE_EXIT,
    KVM_CAP_X86_USER_SPACE_MSR,
    KVM_CAP_X86_MSR_FILTER,
    KVM_CAP_GUEST_MEMFD,
    KVM_CAP_VM_TYPES,
    KVM_CAP_MEMORY_ATTRIBUTES,
    KVM_CAP_USER_MEMORY2,
    KVM_CAP_EXIT_HYPERCALL,
];

/// Why firmware is named by a next step: there is no command for it.
const ENABLE_TDX: &str = "enable TDX in the firmware's setup, boot with `kvm_intel.tdx=1 nohibernate`, then: cat \
    /sys/module/kvm_intel/parameters/tdx";

/// The next step where the processor itself is the wrong one.
const PROCESSOR_FIRST: &str = "nothing: the processor comes first";

/// The reports about all backends, the best first; that of TDX too, which is not built yet.
pub fn backends(machine: &dyn Machine) -> Vec<BackendReport> {
    let tdx_report = report(
        "tdx",
        "Intel TDX: protects the application from the host",
        true,
        tdx(machine, &machine.kvm(&EXTENSIONS)),
    );
    let own = |of| backend(machine, of);
    vec![
        own(Backend::Snp),
        tdx_report,
        own(Backend::Simulated),
        own(Backend::Kvm),
        own(Backend::Process),
    ]
}

/// The report about one backend.
pub fn backend(machine: &dyn Machine, backend: Backend) -> BackendReport {
    let answers = || machine.kvm(&EXTENSIONS);
    let (about, checks) = match backend {
        Backend::Snp => (
            "AMD SEV-SNP: protects the application from the host",
            snp(machine, &answers()),
        ),
        Backend::Simulated => (
            "SEV-SNP simulated, for development: protects nothing from the host",
            sim(machine, &answers()),
        ),
        Backend::Kvm => (
            "virtual machine: protects the host from the application",
            kvm(machine, &answers()),
        ),
        Backend::Process => (
            "confined process: protects the host from the application",
            process(machine),
        ),
    };
    report(
        backend.name(),
        about,
        backend.protects_application(),
        checks,
    )
}

fn report(
    name: &'static str,
    about: &'static str,
    protects_application: bool,
    mut checks: Vec<Check>,
) -> BackendReport {
    // No command gives a machine with another processor the other things that it lacks.
    if protects_application
        && let Some((processor, others)) = checks.split_first_mut()
        && processor.state == State::Missing
    {
        for next in others.iter_mut().filter_map(|check| check.next.as_mut()) {
            PROCESSOR_FIRST.clone_into(next);
        }
    }
    let built_in = Backend::ALL.iter().any(|backend| backend.name() == name);
    let supported = checks
        .iter()
        .all(|check| !check.required || check.state == State::Ok);
    BackendReport {
        name,
        about,
        protects_application,
        built_in,
        supported,
        usable: supported && built_in,
        checks,
    }
}

type KvmAnswers = io::Result<(i32, BTreeMap<u32, i32>)>;

fn snp(machine: &dyn Machine, kvm: &KvmAnswers) -> Vec<Check> {
    let leaf = machine.cpuid(MEMORY_ENCRYPTION);
    let announced = leaf.is_some_and(|[eax, ..]| eax & SNP_BIT != 0);
    let mut checks = vec![
        check(
            "processor with SEV-SNP",
            Some(announced),
            match leaf {
                Some([eax, ..]) => format!("CPUID 0x8000001F EAX is {eax:#010x}"),
                None => "there is no CPUID leaf 0x8000001F".into(),
            },
            "use a machine with an AMD EPYC 7003 (Milan) or later; on one: enable it in the firmware's setup",
        ),
        kernel(machine, "Linux 6.11 or later", SNP_KERNEL),
        snp_host::kernel_option(machine),
        snp_host::iommu(machine),
        snp_host::asids(machine, leaf),
        module(machine, "kvm_amd"),
        parameter(machine, "kvm_amd", "sev_snp", ENABLE_SNP),
        device(machine, "/dev/kvm", |_| "sudo modprobe kvm_amd".into()),
        device(machine, "/dev/sev", |_| ENABLE_SNP.into()),
        snp_host::firmware(machine),
    ];
    checks.extend(REQUIREMENTS.iter().map(|one| requirement(kvm, one)));
    checks.push(sev_offer(machine, kvm));
    checks
}

/// A capability that the SEV-SNP launcher needs.
fn requirement(kvm: &KvmAnswers, requirement: &Requirement) -> Check {
    let answer = kvm
        .as_ref()
        .ok()
        .and_then(|(_, answers)| answers.get(&requirement.capability).copied());
    check(
        requirement.name,
        answer.map(|answer| requirement.fulfilled(answer)),
        match answer {
            Some(answer) => format!("KVM capability {} is {answer:#x}", requirement.capability),
            None => "/dev/kvm could not be queried".into(),
        },
        match answer {
            Some(_) => requirement.next,
            None => "see /dev/kvm",
        },
    )
}

/// Checks the features and policies that a SEV-SNP launch may ask of KVM.
fn sev_offer(machine: &dyn Machine, kvm: &KvmAnswers) -> Check {
    const NAME: &str = "SEV features and guest policies in KVM";
    if kvm.is_err() {
        return check(NAME, None, "/dev/kvm could not be queried", "see /dev/kvm");
    }
    let attribute = |number| machine.kvm_attribute(KVM_X86_GRP_SEV, number);
    let features = attribute(KVM_X86_SEV_VMSA_FEATURES.into());
    match Offer::from_answers(features, attribute(POLICY_BITS)) {
        Ok(offer) => check(NAME, Some(true), offer.describe(), ""),
        Err(_) => check(NAME, Some(false), "KVM does not report them", NEWER_KERNEL),
    }
}

fn tdx(machine: &dyn Machine, kvm: &KvmAnswers) -> Vec<Check> {
    let flag = has_cpu_flag(machine, "tdx_host_platform");
    vec![
        check(
            "processor with TDX",
            flag,
            match flag {
                Some(true) => "/proc/cpuinfo has tdx_host_platform",
                Some(false) => "/proc/cpuinfo lacks tdx_host_platform",
                None => "/proc/cpuinfo could not be read",
            },
            "use a machine with a 5th generation Intel Xeon or later; on one: enable TDX in the firmware's setup",
        ),
        kernel(machine, "Linux 6.16 or later", TDX_KERNEL),
        module(machine, "kvm_intel"),
        parameter(machine, "kvm_intel", "tdx", ENABLE_TDX),
        device(machine, "/dev/kvm", |_| "sudo modprobe kvm_intel".into()),
        vm_type(kvm, "TDX guests in KVM", KVM_X86_TDX_VM, ENABLE_TDX),
        extension(kvm, "private guest memory in KVM", KVM_CAP_GUEST_MEMFD),
    ]
}

fn sim(machine: &dyn Machine, kvm: &KvmAnswers) -> Vec<Check> {
    vec![
        keep_kernel(machine),
        device(machine, "/dev/kvm", load_kvm),
        extension(kvm, "MSR exits in KVM", KVM_CAP_X86_USER_SPACE_MSR),
        extension(kvm, MSR_FILTERS, KVM_CAP_X86_MSR_FILTER),
        seccomp(machine),
        advice(landlock(machine)),
        advice(user_namespaces(machine)),
    ]
}

fn kvm(machine: &dyn Machine, kvm: &KvmAnswers) -> Vec<Check> {
    let version = match kvm {
        Ok((version, _)) => check(
            "KVM's interface",
            Some(u32::try_from(*version) == Ok(KVM_API_VERSION)),
            format!("version {version}"),
            "use Linux's own KVM",
        ),
        Err(error) => check(
            "KVM's interface",
            Some(false),
            format!("/dev/kvm could not be queried: {error}"),
            "see /dev/kvm",
        ),
    };
    vec![
        keep_kernel(machine),
        kvm_module(machine),
        device(machine, "/dev/kvm", load_kvm),
        version,
        extension(kvm, "guest memory in KVM", KVM_CAP_USER_MEMORY),
        extension(kvm, "immediate exits in KVM", KVM_CAP_IMMEDIATE_EXIT),
        huge_pages(machine),
        advice(extension(kvm, MSR_FILTERS, KVM_CAP_X86_MSR_FILTER)),
        seccomp(machine),
        advice(landlock(machine)),
        advice(user_namespaces(machine)),
    ]
}

fn process(machine: &dyn Machine) -> Vec<Check> {
    vec![
        keep_kernel(machine),
        seccomp(machine),
        advice(landlock(machine)),
        advice(user_namespaces(machine)),
        memory_files(machine),
    ]
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn kernel(machine: &dyn Machine, name: &'static str, oldest: (u32, u32)) -> Check {
    let release = kernel_release(machine);
    let is_new_enough = version(&release).map(|version| version >= oldest);
    check(
        name,
        is_new_enough,
        release,
        "install a newer kernel of your distribution, then reboot",
    )
}

fn keep_kernel(machine: &dyn Machine) -> Check {
    kernel(machine, "Linux 5.9 or later", KEEP_KERNEL)
}

/// The command that loads the module which fits the processor.
fn load_kvm(machine: &dyn Machine) -> String {
    match has_cpu_flag(machine, "svm") {
        Some(true) => "sudo modprobe kvm_amd".into(),
        _ if has_cpu_flag(machine, "vmx") == Some(true) => "sudo modprobe kvm_intel".into(),
        _ => "enable virtualization (AMD-V or VT-x) in the firmware's setup; in a virtual machine, ask for nested virtualization".into(),
    }
}

fn kvm_module(machine: &dyn Machine) -> Check {
    let loaded = ["kvm_amd", "kvm_intel", "kvm_pvm"]
        .into_iter()
        .find(|module| machine.exists(&format!("/sys/module/{module}")));
    check(
        "KVM for this processor",
        // Built into the kernel, a module may not show under /sys/module.
        if loaded.is_none() && machine.exists("/dev/kvm") {
            None
        } else {
            Some(loaded.is_some())
        },
        loaded.map_or_else(
            || "none of kvm_amd, kvm_intel and kvm_pvm is loaded".to_owned(),
            |module| format!("{module} is loaded"),
        ),
        if loaded.is_none() {
            load_kvm(machine)
        } else {
            String::new()
        },
    )
    .required_unless_unknown()
}

fn module(machine: &dyn Machine, module: &'static str) -> Check {
    let loaded = machine.exists(&format!("/sys/module/{module}"));
    check(
        match module {
            "kvm_amd" => "module kvm_amd",
            _ => "module kvm_intel",
        },
        Some(loaded),
        if loaded { "loaded" } else { "not loaded" },
        format!("sudo modprobe {module}"),
    )
}

fn parameter(
    machine: &dyn Machine,
    module: &str,
    parameter: &'static str,
    next: &'static str,
) -> Check {
    let value = machine.read(&format!("/sys/module/{module}/parameters/{parameter}"));
    let (on, found) = match value {
        Ok(value) => (
            matches!(value.trim(), "Y" | "1"),
            format!("{module}.{parameter} is {}", value.trim()),
        ),
        Err(_) => (false, format!("{module} has no parameter {parameter}")),
    };
    check(
        match parameter {
            "sev_snp" => "SEV-SNP switched on in the kernel",
            _ => "TDX switched on in the kernel",
        },
        Some(on),
        found,
        next,
    )
}

fn device(machine: &dyn Machine, path: &'static str, absent: fn(&dyn Machine) -> String) -> Check {
    let exists = machine.exists(path);
    let usable = exists && machine.usable(path);
    let (found, next) = match (exists, usable) {
        (false, _) => ("does not exist", absent(machine)),
        (true, true) => ("readable and writable", String::new()),
        (true, false) => (
            "exists, but this user may not use it",
            match machine.group(path) {
                Some(group) => format!("sudo usermod -aG {group} \"$USER\", then log in again"),
                None => format!("sudo setfacl -m u:\"$USER\":rw {path}"),
            },
        ),
    };
    check(path, Some(usable), found, next)
}

fn extension(kvm: &KvmAnswers, name: &'static str, number: u32) -> Check {
    let answer = kvm
        .as_ref()
        .ok()
        .and_then(|(_, answers)| answers.get(&number).copied());
    check(
        name,
        answer.map(|answer| answer > 0),
        match answer {
            Some(answer) => format!("KVM capability {number} is {answer}"),
            None => "/dev/kvm could not be queried".into(),
        },
        match answer {
            Some(_) => "install a newer kernel of your distribution, then reboot",
            None => "see /dev/kvm",
        },
    )
}

fn vm_type(kvm: &KvmAnswers, name: &'static str, number: u32, next: &'static str) -> Check {
    let answer = kvm
        .as_ref()
        .ok()
        .and_then(|(_, answers)| answers.get(&KVM_CAP_VM_TYPES).copied());
    check(
        name,
        answer.map(|types| types & (1 << number) != 0),
        match answer {
            Some(types) => format!("KVM's types of guests are {types:#x}"),
            None => "/dev/kvm could not be queried".into(),
        },
        match answer {
            Some(_) => next,
            None => "see /dev/kvm",
        },
    )
}

fn huge_pages(machine: &dyn Machine) -> Check {
    const PATH: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let mode = machine.read(PATH).ok().and_then(|text| {
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    advice(check(
        "transparent huge pages",
        mode.as_ref().map(|mode| mode != "never"),
        mode.unwrap_or_else(|| "unknown".into()),
        format!("echo madvise | sudo tee {PATH}"),
    ))
}

fn seccomp(machine: &dyn Machine) -> Check {
    let actions = machine.read("/proc/sys/kernel/seccomp/actions_avail").ok();
    let filters = actions.as_ref().map(|actions| {
        actions
            .split_whitespace()
            .any(|word| word == "kill_process")
    });
    // Every kernel has this one.
    let has_proc = machine.read("/proc/sys/kernel/osrelease").is_ok();
    check(
        "seccomp",
        Some(filters == Some(true)),
        match filters {
            Some(true) => "filters of system calls can be set",
            None if !has_proc => "unknown, because /proc is not mounted",
            _ => "filters of system calls cannot be set",
        },
        if has_proc {
            "use a kernel with CONFIG_SECCOMP_FILTER, which every distribution has"
        } else {
            "mount /proc: sudo mount -t proc proc /proc"
        },
    )
}

fn landlock(machine: &dyn Machine) -> Check {
    let abi = machine.landlock_abi();
    check(
        LANDLOCK,
        Some(abi >= enarx_confine::landlock::FLOOR as i32),
        if abi > 0 {
            let ports = abi >= enarx_confine::landlock::PORTS as i32;
            let without = if ports {
                ""
            } else {
                ", without rules for ports"
            };
            format!("interface version {abi}{without}")
        } else {
            "not available, or switched off".into()
        },
        if abi > 0 {
            "use Linux 6.2 or later: before that, a read-only file can be truncated"
        } else {
            "boot with the kernel parameter lsm=landlock,… (followed by the list in /sys/kernel/security/lsm)"
        },
    )
}

fn user_namespaces(machine: &dyn Machine) -> Check {
    let number = |path: &str| -> Option<u64> { machine.read(path).ok()?.trim().parse().ok() };
    let blocks = [
        (
            "user.max_user_namespaces",
            "/proc/sys/user/max_user_namespaces",
            0,
        ),
        (
            "kernel.unprivileged_userns_clone",
            "/proc/sys/kernel/unprivileged_userns_clone",
            0,
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            1,
        ),
    ];
    let known = number("/proc/sys/user/max_user_namespaces").is_some();
    let blocked = blocks.iter().find(|(name, path, value)| {
        // The last two bind unprivileged users only.
        number(path) == Some(*value) && (name.starts_with("user.") || !machine.is_root())
    });
    match blocked {
        Some((name, _, value)) => check(
            USER_NAMESPACES,
            Some(false),
            format!("{name} is {value}"),
            if *value == 0 && name.starts_with("user.") {
                format!("sudo sysctl {name}=10000")
            } else {
                format!(
                    "sudo sysctl {name}={}, which lets every program on this machine make them; or give this command \
                    alone an AppArmor profile with `userns`",
                    1 - value
                )
            },
        ),
        None => check(
            USER_NAMESPACES,
            known.then_some(true),
            if known {
                "allowed"
            } else {
                "not known to this kernel"
            },
            "use a kernel with CONFIG_USER_NS",
        ),
    }
}

fn memory_files(machine: &dyn Machine) -> Check {
    let mode = machine.read("/proc/sys/vm/memfd_noexec");
    // An older kernel has no such switch and allows it.
    let mode = mode.map_or(0, |text| text.trim().parse::<u32>().unwrap_or(0));
    check(
        "programs in memory files",
        Some(mode < 2),
        format!("vm.memfd_noexec is {mode}"),
        "sudo sysctl vm.memfd_noexec=1",
    )
}
