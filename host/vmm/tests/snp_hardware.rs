// SPDX-License-Identifier: Apache-2.0

//! The SEV-SNP launcher on a real EPYC host with Linux 6.11 or later: the steps of the first day, each with this host's
//! own CPUID page, and whole Keeps.
//!
//! Ignored, because no other machine can run it; `enarx_vmm::snp` says how it is run.

#![expect(
    clippy::print_stdout,
    reason = "what the firmware offers and corrects, for whoever tries this hardware"
)]

mod guest;

use std::fmt::Display;
use std::path::Path;

use enarx_boot_image::{LOADER, MICROKERNEL};
use enarx_executor::launch::Outcome;
use enarx_launch::Runtime;
use enarx_launch::measured::Images;
use enarx_launch::variant::Variant;
use enarx_snp::cpuid::CpuidPage;
use enarx_vmm::first_day::{Parts, Step, take_with};
use enarx_vmm::snp::ioctl::{Host, platform_status};
use enarx_vmm::snp::probe::Offer;

use guest::{Options, image, run_with};

/// The value, or the whole sentence of the error, which has cause and remedy.
#[track_caller]
fn unwrap_with_cause<T, E: Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// A description of this host, as far as a failure may depend on it.
fn host() -> Host {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    println!("Linux {}", unwrap_with_cause(release).trim());
    match platform_status(Path::new("/dev/sev")) {
        Ok(status) => println!("secure processor: {status}"),
        Err(error) => println!("the secure processor does not report its status: {error}"),
    }
    let host = unwrap_with_cause(Host::open());
    println!("{}", unwrap_with_cause(Offer::of(&host)).describe());
    host
}

/// Takes a step, with the parts of this host as changed by `change`.
fn step(step: Step, change: impl FnOnce(&mut Parts)) -> Vec<String> {
    let host = host();
    let mut parts = unwrap_with_cause(Parts::of(&host));
    change(&mut parts);
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(image("h")),
    };
    let lines = unwrap_with_cause(take_with(&host, step, &parts, &images));
    for line in &lines {
        println!("{}: {line}", step.name());
    }
    lines
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_0_the_host_offers_what_a_launch_needs() {
    let offer = unwrap_with_cause(Offer::of(&host()));
    unwrap_with_cause(offer.check(Variant::PLAIN.policy(), 0));
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_1_a_guest_shares_a_page_and_ends_itself() {
    step(Step::Toy, |_| {});
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_2_the_firmware_measures_what_the_tenant_computes() {
    step(Step::ToyDigest, |_| {});
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_3_the_firmware_measures_a_keep_as_the_tenant_does() {
    step(Step::RealDigest, |_| {});
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_4_a_guest_writes_to_a_port_by_its_ghcb() {
    step(Step::Ghcb, |_| {});
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_5_the_smallest_keep_runs() {
    let one = Options {
        vcpus: 1,
        ..Options::on(guest::Platform::Snp)
    };
    let (outcome, output) = run_with("h", &one);
    assert_eq!(outcome, Outcome::Exit(7), "{output}");
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_6_a_second_vcpu_starts_from_the_page_that_the_first_one_made() {
    step(Step::SecondVcpu, |_| {});
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_7_kicks_reach_a_vcpu_at_once_and_by_the_window() {
    step(Step::Kicks, |_| {});
}

/// The programs of `hostile_guest.rs` that end well: a first word, threads on further vCPUs, kicks,
/// traps, memory, clocks, random numbers, system calls, pinned pages, the firmware's reports.
#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn step_8_keeps_run_programs() {
    let mut failures = Vec::new();
    for mode in ["h", "T", "S", "P", "M", "K", "R", "U", "N", "E"] {
        let code = if mode == "h" { 7 } else { 0 };
        let (outcome, output) = run_with(mode, &Options::on(guest::Platform::Snp));
        match outcome {
            Outcome::Exit(found) if found == code => {}
            Outcome::Fault(fault) => failures.push(format!("{mode}: {fault}: {output}")),
            other => failures.push(format!("{mode}: {other:?}: {output}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn the_firmware_clears_features_that_it_lacks() {
    let lines = step(Step::Toy, |parts| {
        let page = &mut parts.cpuid_page;
        let mut entries = page.table.iter_mut();
        let features = entries.find(|entry| entry.eax_in.get() == 7 && entry.ecx_in.get() == 0);
        features.expect("every CPU has leaf 7").ebx.set(u32::MAX);
    });
    let leaf = "CPUID leaf 0x7, subleaf 0x0, EBX: the firmware cleared bits";
    assert!(lines.iter().any(|line| line.starts_with(leaf)), "{lines:?}");
}

/// Nobody else launches with an empty CPUID page, so either answer is correct, but it must give a reason.
#[test]
#[ignore = "needs an AMD EPYC host with SEV-SNP"]
fn an_empty_cpuid_page_is_accepted_or_refused() {
    let host = host();
    let mut parts = unwrap_with_cause(Parts::of(&host));
    parts.cpuid_page = CpuidPage::default();
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(image("h")),
    };
    match take_with(&host, Step::Toy, &parts, &images) {
        Ok(lines) => assert_eq!(lines, ["CPUID page with 0 entries"]),
        Err(error) => {
            let text = error.to_string();
            println!("{text}");
            assert!(text.contains("CPUID page"), "{text}");
        }
    }
}
