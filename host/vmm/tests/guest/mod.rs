//! Runs the test program `guest.c` in a Keep.
#![allow(dead_code, reason = "each test program uses its part")]

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, pipe};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enarx_microkernel_image::{LOADER, MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED};
use enarx_simulator::Settings;
use enarx_snp::product::MILAN;
use enarx_vmm::grant::{Grant, NetworkGrant};
use enarx_vmm::kvm::hostility::Hostility;
use enarx_vmm::kvm::{self, KvmError};
use enarx_vmm::launch::{Images, Launch, Outcome, Simulated};

/// Where the program's first words stand in the image.
const MARK: &[u8] = b"ENARX GUEST MODE";

/// The program, built once; `ENARX_TEST_GUEST` names one that was built before, for machines
/// without a compiler.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    if let Some(built) = std::env::var_os("ENARX_TEST_GUEST") {
        return std::fs::read(built).expect("ENARX_TEST_GUEST can be read");
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/guest.c");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("guest");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(compiler)
        .args([
            "-static",
            "-no-pie",
            "-O1",
            "-pthread",
            "-Wall",
            "-mfsgsbase",
        ])
        .arg("-Wl,-z,max-page-size=0x200000,-z,separate-code")
        .arg("-o")
        .arg(&program)
        .arg(source)
        .status()
        .expect("the tests need a C compiler");
    assert!(status.success(), "the test program does not compile");
    std::fs::read(program).unwrap()
});

/// How a Keep is run.
pub struct Options {
    pub memory: u64,
    pub vcpus: u32,
    pub timeout: Duration,
    /// The platform.
    pub platform: fn(Launch) -> Result<Outcome, KvmError>,
    /// Fault reports have addresses, also on the simulated platform.
    pub addresses: bool,
    /// What the VMM does beside its work, on the simulated platform.
    pub hostility: Option<Arc<dyn Hostility>>,
}

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps of this test run on the simulated SNP platform, or on plain KVM.
pub fn choose_platform(simulated: bool) {
    SIMULATED.set(simulated);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            vcpus: 2,
            timeout: Duration::from_mins(1),
            platform: if SIMULATED.get() {
                kvm::run_simulated
            } else {
                kvm::run
            },
            addresses: true,
            hostility: None,
        }
    }
}

/// Tests that count this process's descriptors and threads take turns with the others.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is KVM; says so by the test's name where there is not.
pub fn have_kvm(test: &str) -> bool {
    if Path::new("/dev/kvm").exists() {
        return true;
    }
    assert!(
        std::env::var_os("ENARX_REQUIRE_KVM").is_none_or(|value| value != "1"),
        "{test} needs /dev/kvm"
    );
    eprintln!("skipped: {test}: no /dev/kvm");
    false
}

fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

/// The program that does `mode`. An image lives as long as the process; there is one a mode.
fn image(mode: &str) -> &'static [u8] {
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

/// Runs the program; how it ended, and what it said.
pub fn run_with(mode: &str, options: &Options) -> (Outcome, String) {
    let (mut reader, writer) = pipe().unwrap();
    let launch = Launch {
        images: Images {
            runtime: image(mode),
            microkernel: MICROKERNEL,
            microkernel_plain: MICROKERNEL_PLAIN,
            microkernel_simulated: MICROKERNEL_SIMULATED,
            loader: LOADER,
        },
        simulated: Simulated {
            hostility: options.hostility.clone(),
            ..machine()
        },
        host_data: [0; 32],
        grant: Grant {
            stdio: [null(), null(), writer.into()],
            directories: Vec::new(),
            network: NetworkGrant::default(),
            evidence: None,
        },
        configuration: Vec::new(),
        application: Vec::new(),
        memory: options.memory,
        vcpus: options.vcpus,
        fault_addresses: options.addresses,
        timeout: Some(options.timeout),
        timings: false,
    };
    let outcome = (options.platform)(launch).unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (outcome, output)
}

/// The simulated machine of the tests; its keys are made once.
pub fn machine() -> Simulated {
    Simulated {
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulated-machine"),
        settings: Settings::new(&MILAN),
        debug: false,
        hostility: None,
    }
}

pub fn run(mode: &str) -> (Outcome, String) {
    run_with(mode, &Options::default())
}

/// The report of a Keep that ended by a fault.
pub fn fault(mode: &str) -> String {
    match run(mode) {
        (Outcome::Fault(text), _) => text,
        (other, output) => panic!("{mode}: {other:?}: {output}"),
    }
}

/// The Keep says that all went well.
pub fn works(mode: &str) {
    let (outcome, output) = run(mode);
    assert_eq!(outcome, Outcome::Exit(0), "{mode}: {output}");
}
