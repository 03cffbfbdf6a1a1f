// SPDX-License-Identifier: Apache-2.0

//! Runs the test program `guest.c` in a Keep.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enarx_boot_image::{LOADER, MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED};
use enarx_executor::fault::{Exception, KeepFault};
use enarx_executor::launch::{Confine, Launch, Outcome, Run};
use enarx_executor::refused::RefusedCalls;
use enarx_launch::Runtime;
use enarx_launch::measured::Images;
use enarx_launch::variant::Variant;
use enarx_simulator::Settings;
use enarx_snp::product::MILAN;
use enarx_test_keeps::{compile, null};
use enarx_vmm::launch::{Measured, VmLaunch};
use enarx_vmm::platform::attack::Attack;
use enarx_vmm::platform::simulated::Simulated;
use enarx_vmm::{run_simulated, run_snp};

/// The address of the program's first words in the image.
const MARK: &[u8] = b"ENARX GUEST MODE";

/// The program, built once; `ENARX_TEST_GUEST` names one that was built before, for machines
/// without a compiler.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os("ENARX_TEST_GUEST") {
        return std::fs::read(built).expect("ENARX_TEST_GUEST can be read");
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/guest.c");
    let options = [
        "-no-pie",
        "-mfsgsbase",
        "-Wl,-z,max-page-size=0x200000,-z,separate-code",
    ];
    compile(Path::new(source), &options)
});

/// The platform of a Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    Kvm,
    Simulated,
    Snp,
}

/// The settings of a Keep.
pub struct Options {
    pub memory: u64,
    pub vcpus: u32,
    pub timeout: Duration,
    pub platform: Platform,
    /// Fault reports contain addresses, also on the simulated platform.
    pub addresses: bool,
    /// The attacks that the VMM carries out, on the simulated platform.
    pub attack: Option<Arc<dyn Attack>>,
    /// The effect of system calls that a Keep lacks.
    pub refused_calls: RefusedCalls,
}

impl Options {
    /// A small Keep on this platform.
    pub fn on(platform: Platform) -> Self {
        Self {
            memory: 256 << 20,
            vcpus: 2,
            timeout: Duration::from_mins(3),
            platform,
            addresses: true,
            attack: None,
            refused_calls: RefusedCalls::Count,
        }
    }
}

/// Tests that count this process's descriptors and threads take turns with the others.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program that does `mode`. An image lives as long as the process; there is one per mode.
pub fn image(mode: &str) -> &'static [u8] {
    static IMAGES: Mutex<Vec<(String, &'static [u8])>> = Mutex::new(Vec::new());
    let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, image)) = images.iter().find(|(known, _)| known == mode) {
        return image;
    }
    let mut image = GUEST.clone();
    let at = image
        .windows(MARK.len())
        .position(|window| window == MARK)
        .expect("the program has its mark");
    image[at..at + MARK.len()].fill(0);
    image[at..at + mode.len()].copy_from_slice(mode.as_bytes());
    let image: &'static [u8] = image.leak();
    images.push((mode.into(), image));
    image
}

/// Runs the program; returns its end and its output.
pub fn run_with(mode: &str, options: &Options) -> (Outcome, String) {
    let (mut reader, writer) = pipe().unwrap();
    let launch = launch(options, [null(), null(), writer.into()]);
    let outcome = run_launch(mode, options, launch).outcome;
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (outcome, output)
}

/// Runs a launch of the program that does `mode`.
pub fn run_launch(mode: &str, options: &Options, launch: Launch) -> Run {
    let machine = |microkernel| VmLaunch {
        images: Images {
            microkernel,
            loader: LOADER,
            runtime: Runtime::of(image(mode)),
        },
        measured: Measured {
            host_data: [0; 32],
            fault_addresses: options.addresses,
            variant: Variant::PLAIN,
        },
        launch,
        confine: Confine::Threads,
    };
    match options.platform {
        Platform::Kvm => enarx_vmm::run(machine(MICROKERNEL_PLAIN)),
        Platform::Simulated => {
            let simulated = Simulated {
                attack: options.attack.clone(),
                ..self::machine()
            };
            run_simulated(&simulated, machine(MICROKERNEL_SIMULATED))
        }
        Platform::Snp => run_snp(machine(MICROKERNEL)),
    }
    .unwrap()
}

/// A Keep with the program, to which only its streams are granted.
pub fn launch(options: &Options, stdio: [OwnedFd; 3]) -> Launch {
    Launch {
        memory: options.memory,
        vcpus: options.vcpus,
        timeout: Some(options.timeout),
        refused_calls: options.refused_calls,
        ..enarx_test_keeps::launch("", stdio)
    }
}

/// The simulated machine of the tests; its keys are made once.
pub fn machine() -> Simulated {
    Simulated {
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-machine"),
        settings: Settings::new(&MILAN),
        debug: false,
        busy: Duration::ZERO..Duration::ZERO,
        slow: 1,
        attack: None,
    }
}

pub fn run(platform: Platform, mode: &str) -> (Outcome, String) {
    run_with(mode, &Options::on(platform))
}

/// The fault that ended a Keep.
#[track_caller]
pub fn fault(platform: Platform, mode: &str) -> KeepFault {
    match run(platform, mode) {
        (Outcome::Fault(fault), _) => fault,
        (other, output) => panic!("{mode}: {other:?}: {output}"),
    }
}

/// The exception that ended a Keep.
#[track_caller]
pub fn exception(platform: Platform, mode: &str) -> Exception {
    let fault = fault(platform, mode);
    let exception = fault.exception();
    exception.unwrap_or_else(|| panic!("{mode}: {fault:?}"))
}

/// The privilege level that an exception interrupted.
#[track_caller]
pub fn cpl(exception: Exception) -> u8 {
    exception.context.expect("the report has addresses").cpl
}

/// The Keep reports success.
#[track_caller]
pub fn works(platform: Platform, mode: &str) {
    let (outcome, output) = run(platform, mode);
    assert_eq!(outcome, Outcome::Exit(0), "{mode}: {output}");
}
