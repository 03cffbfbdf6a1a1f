//! The ground the runtime stands on: the microkernel of a Keep, or Linux as a confined process.
//!
//! The only module of the runtime with `unsafe`: the entry, raw system calls and the mapping of the
//! sallyport.

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::ptr::NonNull;
use std::time::Duration;

use enarx_sallyport::keep::{AttachError, Violation};
use enarx_sallyport::layout::{REGION_ALIGN, REGION_SIZE};
use enarx_sallyport::{Doorbell, KeepEnd, Region};
use enarx_wasi::port::Port;
use enarx_wasm::{Ground, exit};

/// Exit code for a wrong command line, as command-line tools have it.
pub const EXIT_USAGE: u8 = 2;

/// System calls of the microkernel, outside of Linux's numbers ("EN" in the upper half).
mod keep_call {
    /// `()`: rings the doorbell.
    pub const RING: i64 = 0x454E_0002;
    /// `(data, report)`: an attestation report over 64 bytes.
    pub const REPORT: i64 = 0x454E_0004;
    /// `(seen, timeout in ns)`: sleeps until the completion ring's tail is not `seen`.
    pub const WAIT: i64 = 0x454E_0003;
}

/// Descriptors that a process Keep is started with.
mod process {
    /// The memory of the sallyport.
    pub const REGION: i32 = 3;
    /// The stream socket to the host.
    pub const HOST: i32 = 4;
}

/// `WAIT` without a limit.
const FOREVER: u64 = u64::MAX;

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not started by a host of Enarx.
    #[error("this program runs inside a Keep; start applications with `enarx run`")]
    Usage,
    /// The region is missing.
    #[error("the memory shared with the host is missing")]
    NoRegion,
    /// The region is not as expected.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Where the C library enters.
// SAFETY: this is the function that the C library's start code looks for, with its signature; no
// other item of the program has this name.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // The standard library has recorded the arguments by itself.
    let mode = std::env::args().nth(1);
    c_int::from(crate::start(mode.as_deref()))
}

/// Attaches to the host in the mode that the command line names.
///
/// # Errors
/// [`StartError`]: wrong mode, or no usable region.
pub fn attach(mode: Option<&str>) -> Result<Port, StartError> {
    let (base, platform): (_, Box<dyn enarx_wasi::port::Platform>) = match mode {
        Some("process") => (region_of_descriptor(), Box::new(Process)),
        Some(mode) => {
            let address = mode.strip_prefix("keep:0x").ok_or(StartError::Usage)?;
            (region_of_microkernel(address), Box::new(Microkernel))
        }
        None => return Err(StartError::Usage),
    };
    let base = base
        .filter(|base| base.addr().get().is_multiple_of(REGION_ALIGN))
        .ok_or(StartError::NoRegion)?;
    // SAFETY: `base` is aligned (checked), and whoever gave it mapped REGION_SIZE bytes there,
    // readable and writable, for the life of the process; nothing else in this program uses them.
    let region = unsafe { Region::from_raw(base) };
    Ok(Port::new(KeepEnd::attach(region)?, platform))
}

/// The region where the launch of a Keep has mapped it.
fn region_of_microkernel(address: &str) -> Option<NonNull<u8>> {
    let address = usize::from_str_radix(address, 16).ok()?;
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
}

fn region_of_descriptor() -> Option<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; no memory of this program changes.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            REGION_SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            process::REGION,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(address.cast())
}

/// Writes past the sallyport, to the Keep's log. Where nobody takes it, it is lost; `eprintln!` would panic.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Ends the program at once.
fn end(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the Keep because its host broke the rules of the ring. The ring is not used any more; whoever
/// reads the Keep's log learns why.
fn report(violation: Violation) -> ! {
    say(&format!(
        "enarx-runtime: the host broke the rules of the sallyport, the Keep ends: {violation}\n"
    ));
    end(exit::FAULT)
}

fn nanoseconds(timeout: Option<Duration>) -> u64 {
    timeout.map_or(FOREVER, |timeout| {
        u64::try_from(timeout.as_nanos())
            .unwrap_or(FOREVER)
            .min(FOREVER - 1)
    })
}

/// A Keep on the microkernel.
struct Microkernel;

impl Doorbell for Microkernel {
    fn ring(&self) {
        // SAFETY: the call has no argument and changes no memory of this program.
        unsafe { libc::syscall(keep_call::RING) };
    }

    fn wait(&self, seen: u32, timeout: Option<Duration>) {
        // SAFETY: the call takes two numbers and changes no memory of this program.
        unsafe { libc::syscall(keep_call::WAIT, u64::from(seen), nanoseconds(timeout)) };
    }
}

impl enarx_wasi::port::Platform for Microkernel {
    fn violation(&self, violation: &Violation) -> ! {
        report(*violation)
    }

    fn exit(&self, code: i32) -> ! {
        end(code)
    }
}

/// A confined process; its doorbell is a socket.
struct Process;

impl Process {
    fn send(message: &[u8]) {
        // SAFETY: the pointer and length are those of a slice that lives across the call.
        let sent = unsafe { libc::write(process::HOST, message.as_ptr().cast(), message.len()) };
        if usize::try_from(sent) != Ok(message.len()) {
            // The host is gone.
            end(exit::FAULT);
        }
    }
}

impl Doorbell for Process {
    fn ring(&self) {
        Self::send(b"R");
    }

    fn wait(&self, seen: u32, timeout: Option<Duration>) {
        let [s0, s1, s2, s3] = seen.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = nanoseconds(timeout).to_le_bytes();
        Self::send(&[b'W', s0, s1, s2, s3, t0, t1, t2, t3, t4, t5, t6, t7]);
        let mut answer = [0_u8; 1];
        // SAFETY: the pointer and length are those of an array that lives across the call.
        let read = unsafe { libc::read(process::HOST, answer.as_mut_ptr().cast(), answer.len()) };
        if read != 1 {
            end(exit::FAULT);
        }
    }
}

impl enarx_wasi::port::Platform for Process {
    fn violation(&self, violation: &Violation) -> ! {
        report(*violation)
    }

    fn exit(&self, code: i32) -> ! {
        end(code)
    }
}

/// Bytes of an attestation report (56860 ATTESTATION_REPORT).
const REPORT_LEN: usize = 0x4A0;

/// A report by the secure processor over `data`; none where there is no secure processor, or where
/// it does not answer.
pub fn attestation_report(data: &[u8; 64]) -> Option<[u8; REPORT_LEN]> {
    let mut report = [0_u8; REPORT_LEN];
    // SAFETY: the microkernel reads the 64 bytes of `data` and writes at most REPORT_LEN bytes to
    // `report`; both live across the call.
    let length = unsafe { libc::syscall(keep_call::REPORT, data.as_ptr(), report.as_mut_ptr()) };
    (usize::try_from(length) == Ok(REPORT_LEN)).then_some(report)
}

/// What the engine asks of the ground.
pub struct Platform;

impl Ground for Platform {
    fn free_memory(&self) -> u64 {
        // SAFETY: the structure is plain numbers; the call fills it or leaves it as it is.
        let info = unsafe {
            let mut info: libc::sysinfo = std::mem::zeroed();
            if libc::sysinfo(&raw mut info) != 0 {
                return u64::MAX;
            }
            info
        };
        info.freeram.saturating_mul(u64::from(info.mem_unit.max(1)))
    }
}

/// Makes the allocator ask for memory rarely and in large pieces, and never give it back: system
/// calls and page faults are what costs in a Keep. Threads share one arena: their own ones would
/// grow by a system call a page.
pub fn tune_allocator() {
    const STEP: i32 = 4 << 20;
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, 64 << 20),
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        (libc::M_TOP_PAD, STEP),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: changes numbers of the allocator; no other thread runs yet.
        unsafe { libc::mallopt(parameter, value) };
    }
}
