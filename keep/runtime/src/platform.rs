// SPDX-License-Identifier: Apache-2.0

//! The platform of the runtime: the microkernel of a Keep, or Linux as a confined process.
//!
//! Raw system calls, and the mapping of the sallyport.

#![expect(
    unsafe_code,
    reason = "raw system calls and the mapping of the sallyport have no safe interface"
)]

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use enarx_exits::exit_code::FAULT;
use enarx_exits::process::{self, FOREVER};
use enarx_keep_session::Attester;
use enarx_sallyport::keep::{AttachError, Violation};
use enarx_sallyport::layout::{REGION_ALIGN, REGION_SIZE};
use enarx_sallyport::{Doorbell, KeepEnd, Region, Until};
use enarx_snp::report::REPORT_LEN;
use enarx_wasi::port::Port;
use enarx_wasm::EngineEnvironment;

/// True on the microkernel, where each thread has a virtual CPU to itself.
static OWNS_PROCESSORS: AtomicBool = AtomicBool::new(false);

/// Pause of a thread that gives others a turn where it has a virtual CPU to itself, in spin-loop hints: some ten microseconds.
const SPINS_FOR_A_TURN: u32 = 256;

/// The Enarx calls of the microkernel, as libc::syscall takes them.
mod call {
    pub const RING: i64 = enarx_syscall::RING.cast_signed();
    pub const WAIT: i64 = enarx_syscall::WAIT.cast_signed();
    pub const REPORT: i64 = enarx_syscall::REPORT.cast_signed();
    pub const LAST_REPORT: i64 = enarx_syscall::LAST_REPORT.cast_signed();
}

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

/// Attaches to the host in the mode that the command line names; the way to it, and the ground for the
/// engine.
///
/// # Errors
/// [`StartError`]: wrong mode, or no usable region.
pub fn attach(mode: Option<&str>) -> Result<(Port, Platform), StartError> {
    let (base, platform): (_, Arc<dyn enarx_wasi::port::Platform>) = match mode {
        Some("process") => (region_of_descriptor(), Arc::new(Process)),
        Some(mode) => {
            let address = mode.strip_prefix("keep:0x").ok_or(StartError::Usage)?;
            OWNS_PROCESSORS.store(true, Ordering::Relaxed);
            (region_of_microkernel(address), Arc::new(Microkernel))
        }
        None => return Err(StartError::Usage),
    };
    let base = base
        .filter(|base| base.addr().get().is_multiple_of(REGION_ALIGN))
        .ok_or(StartError::NoRegion)?;
    // SAFETY: `base` is aligned (checked), and whoever gave it mapped REGION_SIZE bytes there,
    // readable and writable, for the life of the process; nothing else in this program uses them.
    let region = unsafe { Region::from_raw(base) };
    let end = KeepEnd::attach(region)?;
    let ground = Platform {
        vcpus: end.facts().vcpus,
        limited: mode == Some("process"),
    };
    Ok((Port::new(end, platform), ground))
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
            process::REGION_FD,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return None;
    }
    NonNull::new(address.cast())
}

/// Writes to the Keep's log without the sallyport. If nobody takes it, it is lost; `eprintln!` would panic.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Ends the program at once.
fn end(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the Keep because its host broke the rules of the ring. The ring is not used any more; the Keep's log has the
/// reason.
fn report(violation: Violation) -> ! {
    say(&format!(
        "enarx-runtime: the host broke the rules of the sallyport, the Keep ends: {violation}\n"
    ));
    end(FAULT.into())
}

/// The C library's function by which the standard library opens files. Wasmtime's pool of instances has it look for a quota
/// of processors, in a file that no Keep has: nothing is asked for it. The number of processors is known without.
// SAFETY: no other item of the program has this name, the C library's own one is weak, and callers pass what the
// signature says: a path that ends with zero, flags and a mode.
#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: the path ends with zero and lives across the call; the error number is this thread's.
    unsafe {
        if std::ffi::CStr::from_ptr(path) == c"/proc/self/cgroup" {
            *libc::__errno_location() = libc::ENOENT;
            return -1;
        }
        let opened = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode);
        c_int::try_from(opened).unwrap_or(-1)
    }
}

/// The C library's function by which a thread gives others a turn. The threads of rayon, which compile, call it 32 times in a
/// row before they sleep. On the microkernel nobody else could have the turn, and every system call is expensive where
/// privileged code is emulated: a pause does the same.
// SAFETY: no other item of the program has this name, and the C library's own one is weak.
#[unsafe(no_mangle)]
extern "C" fn sched_yield() -> c_int {
    if OWNS_PROCESSORS.load(Ordering::Relaxed) {
        for _ in 0..SPINS_FOR_A_TURN {
            std::hint::spin_loop();
        }
        return 0;
    }
    // SAFETY: the call has no argument and changes no memory of this program.
    let answer = unsafe { libc::syscall(libc::SYS_sched_yield) };
    c_int::try_from(answer).unwrap_or(-1)
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
        unsafe { libc::syscall(call::RING) };
    }

    fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>) {
        let (seen, until) = (u64::from(seen), u64::from(until.number()));
        // SAFETY: the call takes three numbers and changes no memory of this program.
        unsafe { libc::syscall(call::WAIT, seen, nanoseconds(timeout), until) };
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
        let sent =
            unsafe { libc::write(process::DOORBELL_FD, message.as_ptr().cast(), message.len()) };
        if usize::try_from(sent) != Ok(message.len()) {
            // The host is gone.
            end(FAULT.into());
        }
    }
}

impl Doorbell for Process {
    fn ring(&self) {
        Self::send(&[process::RING]);
    }

    fn wait(&self, seen: u32, until: Until, timeout: Option<Duration>) {
        let [s0, s1, s2, s3] = seen.to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = nanoseconds(timeout).to_le_bytes();
        Self::send(&[
            process::WAIT,
            s0,
            s1,
            s2,
            s3,
            until.number(),
            t0,
            t1,
            t2,
            t3,
            t4,
            t5,
            t6,
            t7,
        ]);
        let mut answer = [0_u8; 1];
        // SAFETY: the pointer and length are those of an array that lives across the call.
        let read = unsafe {
            libc::read(
                process::DOORBELL_FD,
                answer.as_mut_ptr().cast(),
                answer.len(),
            )
        };
        if read != 1 {
            end(FAULT.into());
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

/// The reason why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// There is no secure processor.
    #[error("this kind of Keep cannot attest: there is no secure processor")]
    None,
    /// The host let no message through for half a minute.
    #[error(
        "the secure processor is busy, or its host lets no message through to it: run the Keep again later"
    )]
    Busy,
    /// No answer that could be trusted.
    #[error("the secure processor refused, or its host changed or withheld its answer")]
    Failed,
    /// Reports would still be possible, although there must be none.
    #[error("the microkernel does not give up the key of the secure processor")]
    Kept,
}

/// A report by the secure processor over `data`.
///
/// # Errors
/// [`ReportError`].
pub fn attestation_report(data: &[u8; 64]) -> Result<[u8; REPORT_LEN], ReportError> {
    let mut report = [0_u8; REPORT_LEN];
    // SAFETY: the microkernel reads the 64 bytes of `data` and writes at most REPORT_LEN bytes to
    // `report`; both live across the call.
    let length = unsafe { libc::syscall(call::REPORT, data.as_ptr(), report.as_mut_ptr()) };
    if usize::try_from(length) == Ok(REPORT_LEN) {
        return Ok(report);
    }
    Err(match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::ENOSYS) => ReportError::None,
        Some(libc::EBUSY) => ReportError::Busy,
        _ => ReportError::Failed,
    })
}

/// The ground, as the engine and a session need it.
#[derive(Clone)]
pub struct Platform {
    /// Virtual CPUs of this Keep: the host's word.
    vcpus: u32,
    /// Memory is limited for this process, below what the system has.
    limited: bool,
}

/// Bytes of private writable memory that this process may still map: RLIMIT_DATA says how many there may be,
/// and no call says how many there are. So mappings are tried, which takes no memory.
fn mappable() -> u64 {
    /// How exactly it is told, in bytes.
    const STEP: u64 = 1 << 20;
    // SAFETY: the structure is plain numbers; the call fills it or leaves it as it is.
    let limit = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) != 0 {
            return u64::MAX;
        }
        limit.rlim_cur
    };
    if limit == libc::RLIM_INFINITY {
        return u64::MAX;
    }
    let fits = |bytes: u64| {
        let Ok(length) = usize::try_from(bytes) else {
            return false;
        };
        // SAFETY: a new mapping at an address of the kernel's choice, which is taken away at once; no memory
        // of this program changes.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            address != libc::MAP_FAILED && libc::munmap(address, length) == 0
        }
    };
    // In steps: all below `least` fit, none from `most` on.
    let (mut least, mut most) = (0, (limit / STEP).saturating_add(1));
    while least + 1 < most {
        let middle = u64::midpoint(least, most);
        if fits(middle.saturating_mul(STEP)) {
            least = middle;
        } else {
            most = middle;
        }
    }
    least.saturating_mul(STEP)
}

/// The system's word on memory: free and in all, in bytes.
fn system_memory() -> (u64, u64) {
    // SAFETY: the structure is plain numbers; the call fills it or leaves it as it is.
    let info = unsafe {
        let mut info: libc::sysinfo = std::mem::zeroed();
        if libc::sysinfo(&raw mut info) != 0 {
            return (u64::MAX, u64::MAX);
        }
        info
    };
    let bytes = |units: u64| units.saturating_mul(u64::from(info.mem_unit.max(1)));
    (bytes(info.freeram), bytes(info.totalram))
}

impl Platform {
    /// Virtual CPUs of this Keep: the host's word.
    pub fn vcpus(&self) -> u32 {
        self.vcpus
    }

    /// True if a virtual machine confines native code. In a process the sandbox of WebAssembly is half of the host's border.
    pub fn confines_native_code(&self) -> bool {
        !self.limited
    }

    /// Ensures that no more reports are requested from the secure processor, if there is one, in this Keep.
    ///
    /// # Errors
    /// [`ReportError::Kept`].
    pub fn end_reports(&self) -> Result<(), ReportError> {
        // SAFETY: the call has no argument and changes no memory of this program.
        if self.limited || unsafe { libc::syscall(call::LAST_REPORT) } == 0 {
            Ok(())
        } else {
            Err(ReportError::Kept)
        }
    }
}

/// Memory of this Keep, in bytes.
pub fn memory() -> u64 {
    system_memory().1
}

impl Attester for Platform {
    fn report(&self, data: &[u8; 64]) -> Result<Option<Vec<u8>>, enarx_keep_session::ReportError> {
        if self.limited {
            return Ok(None);
        }
        match attestation_report(data) {
            Ok(report) => Ok(Some(report.to_vec())),
            Err(ReportError::None) => Ok(None),
            Err(ReportError::Busy) => Err(enarx_keep_session::ReportError::Busy),
            Err(ReportError::Failed | ReportError::Kept) => {
                Err(enarx_keep_session::ReportError::Failed)
            }
        }
    }

    fn free_memory(&self) -> u64 {
        EngineEnvironment::free_memory(self)
    }
}

impl EngineEnvironment for Platform {
    fn free_memory(&self) -> u64 {
        if self.limited {
            return mappable();
        }
        system_memory().0
    }

    fn release_heap(&self) {
        // SAFETY: gives back pages that nobody has allocated.
        unsafe { libc::malloc_trim(0) };
    }

    /// Those that the system offers, but no more than the Keep has. The standard library would also look for a quota
    /// in files, and does not know the number of a process Keep.
    fn processors(&self) -> NonZero<usize> {
        // SAFETY: the set is plain bits; the call writes at most its size, or leaves it as it is.
        let count = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) != 0 {
                return NonZero::<usize>::MIN;
            }
            libc::CPU_COUNT(&set)
        };
        let vcpus = usize::try_from(self.vcpus).unwrap_or(usize::MAX);
        let count = usize::try_from(count).unwrap_or(1).min(vcpus);
        NonZero::new(count).unwrap_or(NonZero::<usize>::MIN)
    }

    fn prepare_threads(&self) {
        configure_arenas(self.limited);
    }
}

/// Bytes from which on blocks are mapped one by one in a confined process: those of a slab of the private file system
/// (`SLAB` of `enarx-wasi`).
const SLAB: i32 = 256 << 10;

/// Makes the allocator ask for memory rarely and in large pieces, and never give it back: system
/// calls and page faults are what costs in a Keep. Threads share one arena until [`configure_arenas`].
///
/// In a process the kernel counts mapped memory, not touched memory: there large blocks are mapped separately, and
/// unmapped when they are freed, because freed blocks below others in the heap would never be available to the program
/// again. So the heap grows in steps in which no such block has room; a system call is cheap there.
pub fn tune_allocator(mode: Option<&str>) {
    let is_limited = mode == Some("process");
    let step = if is_limited { SLAB / 2 } else { 4 << 20 };
    set(&[
        (
            libc::M_MMAP_THRESHOLD,
            if is_limited { SLAB } else { 64 << 20 },
        ),
        (libc::M_TRIM_THRESHOLD, i32::MAX),
        (libc::M_TOP_PAD, step),
        (libc::M_ARENA_MAX, 1),
    ]);
}

/// Gives each thread that comes an arena of its own: the lock of a common one is contended by the threads of the
/// compiler, and every wait for it is a system call.
///
/// In a virtual machine memory counts when it is touched, so that an arena is made whole at once; otherwise it would grow
/// by a system call a page. In a process (`limited`) the kernel counts what is made, and a call is cheap.
fn configure_arenas(limited: bool) {
    /// The most that the C library gives an arena at once (`HEAP_MAX_SIZE` of its malloc).
    const WHOLE: i32 = 64 << 20;
    /// More than the compiler has threads. The C library would count the processors in a file, which a Keep does not have.
    const ARENAS: i32 = 64;
    set(&[(libc::M_ARENA_MAX, ARENAS)]);
    if !limited {
        set(&[(libc::M_TOP_PAD, WHOLE)]);
    }
}

/// Sets parameters of the allocator.
fn set(parameters: &[(i32, i32)]) {
    for (parameter, value) in parameters {
        // SAFETY: changes one aligned word each, under the lock of the first arena; the session's thread, if it runs
        // already, reads the old value or the new one.
        unsafe { libc::mallopt(*parameter, *value) };
    }
}
