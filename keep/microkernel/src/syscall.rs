// SPDX-License-Identifier: Apache-2.0

//! The system calls of the runtime: memory, threads, time, randomness, signals, the doorbell,
//! exit. Every other number is `ENOSYS`; no call reaches the host except those that sleep, wake,
//! ring, log or end.

use enarx_snp::report::REPORT_LEN;
use zerocopy::{Immutable, IntoBytes};
use zeroize::{Zeroize, Zeroizing};

use crate::address_space::Removal;
use crate::clock::MOST;
use crate::epoch::Epoch;
use crate::fatal::{CallError, Fatal};
use crate::kernel::{Action, Guarded, SIGNALS};
use crate::kind::HAS_SNP;
use crate::linux::{Errno, MAY_FAIL, flag};
use crate::paging::{Change, UserRange};
use crate::platform::Platform;
use crate::registers::Registers;
use crate::signal::{AlternateStack, sanitise_flags};
use crate::snp::message::KEY_REQUEST;
use crate::snp::request::{ask, close};
use crate::threads::{State, thread_id};
use enarx_boot::address::VirtAddr;
use enarx_boot::layout::USER_END;
use enarx_boot::page_table::Rights;
use enarx_exits::{ExitFunction, LOG_BYTES, Reason};
use enarx_syscall as nr;

/// The next step after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Return to user code with the registers as they are.
    User,
    /// The thread has ended; its vCPU is idle.
    ThreadEnded,
    /// The process ends with this code.
    Exit(u64),
}

/// No time limit, in [`ExitFunction::Park`] and [`ExitFunction::Wait`].
const FOREVER: u64 = u64::MAX;

/// The answer to a system call: the value that it returns.
type Answer = Result<u64, CallError>;

/// One system call of the thread on vCPU `me`.
struct Call<'a, P, K> {
    kernel: &'a K,
    epoch: &'a Epoch,
    platform: &'a mut P,
    me: usize,
}

/// Performs the system call in `registers` and puts its result there.
///
/// # Errors
/// [`Fatal`] when the Keep cannot go on.
#[inline(always)]
pub fn system_call<P: Platform, K: Guarded>(
    kernel: &K,
    epoch: &Epoch,
    platform: &mut P,
    me: usize,
    registers: &mut Registers,
) -> Result<After, Fatal> {
    let number = registers.rax;
    let [a, b, c, d] = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
    registers.flags = sanitise_flags(registers.flags);
    let mut call = Call {
        kernel,
        epoch,
        platform,
        me,
    };
    let answer = match number {
        nr::RING => {
            call.platform.exit(ExitFunction::Ring, &[]);
            Ok(0)
        }
        nr::WAIT => {
            call.platform.exit(ExitFunction::Wait, &[a, b, c]);
            Ok(0)
        }
        nr::MMAP => call.mmap(a, b, c, d),
        nr::MUNMAP => call.remove(Removal::Unmap, a, b),
        nr::MPROTECT => call.mprotect(a, b, c),
        nr::MADVISE => call.madvise(a, b, c),
        nr::BRK => call.brk(a),
        nr::FUTEX => call.futex(a, b, c, d, registers.r9),
        nr::CLONE => call.clone_thread(registers),
        nr::EXIT => return call.exit_thread(),
        nr::EXIT_GROUP => return Ok(After::Exit(a)),
        nr::RT_SIGRETURN => {
            let returned = kernel.with(|k| k.signal_return(call.platform, registers));
            return returned.map(|()| After::User);
        }
        nr::RT_SIGACTION => call.sigaction(a, b, c),
        nr::RT_SIGPROCMASK => call.sigprocmask(c),
        nr::SIGALTSTACK => call.sigaltstack(a, b),
        nr::TGKILL => {
            let mut fatal = Fatal::at(Reason::Aborted, registers, 0);
            fatal.0.vector = c;
            return Err(fatal);
        }
        nr::CLOCK_GETTIME => call.clock_gettime(a, b),
        nr::CLOCK_GETRES => call.put(b, &[0u64, 1]),
        nr::GETTIMEOFDAY => call.gettimeofday(a),
        nr::TIME => call.time(a),
        nr::CLOCK_NANOSLEEP => call.nanosleep(a, b & flag::TIMER_ABSTIME != 0, c),
        nr::NANOSLEEP => call.nanosleep(flag::CLOCK_MONOTONIC, false, a),
        nr::GETRANDOM => call.getrandom(a, b),
        nr::ARCH_PRCTL => call.arch_prctl(a, b),
        nr::SET_TID_ADDRESS => {
            kernel.with(|k| k.threads.get(me).clear_tid = a);
            Ok(thread_id(me))
        }
        nr::GETTID => Ok(thread_id(me)),
        nr::GETPID => Ok(thread_id(0)),
        nr::SCHED_GETAFFINITY => call.affinity(b, c),
        nr::SYSINFO => call.sysinfo(a),
        nr::PRLIMIT64 => call.prlimit(a, b, c, d),
        nr::WRITE => call.log(a, b, c),
        // There is no secure processor, and no code for its messages.
        nr::REPORT | nr::DERIVED_KEY if !HAS_SNP => Err(Errno::NoSys.into()),
        nr::LAST_REPORT if !HAS_SNP => Ok(0),
        nr::LAST_REPORT => {
            close(kernel, call.platform);
            Ok(0)
        }
        nr::REPORT => call.report(a, b),
        nr::DERIVED_KEY => call.derived_key(a, b),
        nr::IMAGE_LOADED => {
            kernel.with(|k| k.release_image(call.platform, epoch, me))?;
            if a != 0 && a < USER_END {
                (registers.rip, registers.rsp, registers.rdx) = (a, b, 0);
            }
            Ok(0)
        }
        nr::IOCTL => Err(Errno::NoTty.into()),
        // A thread's name, which nobody reads.
        nr::PRCTL if a == flag::PR_SET_NAME => Ok(0),
        nr::PRCTL => Err(Errno::Inval.into()),
        nr::POLL | nr::SCHED_YIELD | nr::SET_ROBUST_LIST => Ok(0),
        nr::OPENAT | nr::READLINK | nr::NEWFSTATAT => Err(Errno::NoEnt.into()),
        nr::READ | nr::CLOSE | nr::FSTAT => Err(Errno::BadF.into()),
        _ => Err(Errno::NoSys.into()),
    };
    registers.rax = match answer {
        Ok(value) => value,
        Err(CallError::Fatal) => return Err(kernel.with(|k| k.failure())),
        Err(CallError::Errno(errno)) => {
            if errno.means_absent() && !MAY_FAIL.contains(&number) {
                call.report_refused(errno, registers);
            }
            (errno as i64).wrapping_neg().cast_unsigned()
        }
    };
    Ok(After::User)
}

/// `PROT_…` as rights; W together with X is refused.
fn rights(protection: u64) -> Result<Rights, Errno> {
    let bit = |bit| protection & bit != 0;
    match (
        bit(flag::PROT_READ),
        bit(flag::PROT_WRITE),
        bit(flag::PROT_EXEC),
    ) {
        (_, true, true) => Err(Errno::Access),
        (_, true, false) => Ok(Rights::ReadWrite),
        (_, false, true) => Ok(Rights::ReadExecute),
        (true, false, false) => Ok(Rights::Read),
        (false, false, false) => Ok(Rights::None),
    }
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SysInfo {
    uptime: u64,
    loads: [u64; 3],
    total: u64,
    free: u64,
    shared_buffers_swap: [u64; 4],
    processes: u64,
    high: [u64; 2],
    unit: u64,
}

const _: () = assert!(size_of::<SysInfo>() == 112);

impl<P: Platform, K: Guarded> Call<'_, P, K> {
    /// Tells a developer that the runtime makes a system call that a Keep does not have. An untrusted
    /// host is told nothing: which calls are made, and when, would be a channel to it.
    #[cold]
    #[inline(never)]
    fn report_refused(&mut self, errno: Errno, registers: &Registers) {
        if self.kernel.with(|k| k.tee.snp().is_some()) && !cfg!(feature = "simulated") {
            return;
        }
        let args = [
            registers.rax,
            errno as u64,
            registers.rip,
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
        ];
        self.platform.exit(ExitFunction::Refused, &args);
    }

    /// Writes words to user memory.
    fn put(&mut self, address: u64, words: &[u64]) -> Answer {
        if address != 0 {
            self.kernel
                .with(|k| k.space.write(self.platform, address, words.as_bytes()))?;
        }
        Ok(0)
    }

    /// Reads words from user memory.
    fn get<const N: usize>(&mut self, address: u64) -> Result<[u64; N], CallError> {
        let mut words = [0; N];
        self.kernel
            .with(|k| k.space.read(self.platform, address, words.as_mut_bytes()))?;
        Ok(words)
    }

    fn mmap(&mut self, address: u64, length: u64, prot: u64, flags: u64) -> Answer {
        let rights = rights(prot)?;
        if flags & flag::MAP_ANONYMOUS == 0 {
            return Err(Errno::BadF.into());
        }
        let fixed = flags & (flag::MAP_FIXED | flag::MAP_FIXED_NOREPLACE) != 0;
        let (platform, epoch, me) = (&mut *self.platform, self.epoch, self.me);
        self.kernel.with(|k| {
            let mapped = if fixed {
                let range = UserRange::asked(address, length)?;
                if flags & flag::MAP_FIXED != 0 {
                    k.remove(platform, epoch, me, Removal::Unmap, range)?;
                }
                k.space.map_at(platform, range, rights).map(|()| address)
            } else {
                k.space.map(platform, length, rights).map(VirtAddr::get)
            };
            mapped.map_err(|failed| k.undo(platform, epoch, me, failed))
        })
    }

    fn remove(&mut self, removal: Removal, start: u64, length: u64) -> Answer {
        let range = UserRange::asked(start, length)?;
        let (platform, epoch, me) = (&mut *self.platform, self.epoch, self.me);
        self.kernel
            .with(|k| k.remove(platform, epoch, me, removal, range))
            .map(|()| 0)
    }

    fn mprotect(&mut self, start: u64, length: u64, prot: u64) -> Answer {
        let rights = rights(prot)?;
        if length == 0 {
            return Ok(0);
        }
        let range = UserRange::asked(start, length)?;
        let (platform, epoch, me) = (&mut *self.platform, self.epoch, self.me);
        self.kernel
            .with(|k| {
                k.with_shootdown(platform, epoch, me, |space, platform| {
                    space.change(platform, range, Change::Protect(rights))
                })
            })
            .map(|()| 0)
    }

    fn madvise(&mut self, start: u64, length: u64, advice: u64) -> Answer {
        match advice {
            flag::MADV_DONTNEED if length != 0 => self.remove(Removal::Discard, start, length),
            _ => Ok(0),
        }
    }

    /// Answers with the end of the heap, moved or not, as Linux does; it is always a whole page.
    fn brk(&mut self, end: u64) -> Answer {
        let (platform, epoch, me) = (&mut *self.platform, self.epoch, self.me);
        self.kernel.with(|k| {
            let moved = match k.space.heap_surplus(end) {
                Some(range) => k.remove(platform, epoch, me, Removal::Discard, range),
                None => Ok(()),
            };
            let moved = moved.and_then(|()| {
                let moved = k.space.set_heap_end(platform, end);
                moved.map_err(|failed| k.undo(platform, epoch, me, failed))
            });
            match moved {
                Err(CallError::Fatal) => Err(CallError::Fatal),
                Ok(()) | Err(CallError::Errno(_)) => Ok(k.space.heap_end()),
            }
        })
    }

    /// Nanoseconds of a monotonic or wall clock now; `None` for clocks that do not exist.
    fn now(&mut self, clock: u64) -> Option<u64> {
        let times = self.kernel.with(|k| k.clock);
        let elapsed = times.elapsed(self.platform.tsc());
        let monotonic = self.platform.latest(elapsed).min(MOST);
        match clock {
            flag::CLOCK_REALTIME | flag::CLOCK_REALTIME_COARSE => Some(times.wall(monotonic)),
            flag::CLOCK_MONOTONIC
            | flag::CLOCK_MONOTONIC_RAW
            | flag::CLOCK_MONOTONIC_COARSE
            | flag::CLOCK_BOOTTIME
            | flag::CLOCK_PROCESS_CPUTIME
            | flag::CLOCK_THREAD_CPUTIME => Some(monotonic),
            _ => None,
        }
    }

    fn clock_gettime(&mut self, clock: u64, to: u64) -> Answer {
        let now = self.now(clock).ok_or(Errno::Inval)?;
        self.put(to, &[now / 1_000_000_000, now % 1_000_000_000])
    }

    fn gettimeofday(&mut self, to: u64) -> Answer {
        let now = self.now(flag::CLOCK_REALTIME).ok_or(Errno::Inval)?;
        self.put(to, &[now / 1_000_000_000, now % 1_000_000_000 / 1000])
    }

    fn time(&mut self, to: u64) -> Answer {
        let seconds = self.now(flag::CLOCK_REALTIME).ok_or(Errno::Inval)? / 1_000_000_000;
        self.put(to, &[seconds])?;
        Ok(seconds)
    }

    /// A `struct timespec` in user memory as nanoseconds.
    fn timespec(&mut self, address: u64) -> Result<u64, CallError> {
        let [seconds, nanoseconds] = self.get(address)?;
        if seconds > i64::MAX.cast_unsigned() || nanoseconds >= 1_000_000_000 {
            return Err(Errno::Inval.into());
        }
        Ok(seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds))
    }

    fn nanosleep(&mut self, clock: u64, absolute: bool, request: u64) -> Answer {
        let mut until = self.timespec(request)?;
        let now = self.now(clock).ok_or(Errno::Inval)?;
        if !absolute {
            until = now.saturating_add(until);
        }
        loop {
            let now = self.now(clock).ok_or(Errno::Inval)?;
            if now >= until {
                return Ok(0);
            }
            self.platform.exit(ExitFunction::Park, &[until - now]);
        }
    }

    fn futex(&mut self, address: u64, op: u64, value: u64, timeout: u64, mask: u64) -> Answer {
        if address >= USER_END {
            return Err(Errno::Fault.into());
        }
        let realtime = op & flag::FUTEX_CLOCK_REALTIME != 0;
        let value = value & 0xffff_ffff;
        // Waiters are not distinguished: a mask has to mean all of them.
        let all = mask & 0xffff_ffff == 0xffff_ffff;
        match op & !(flag::FUTEX_PRIVATE | flag::FUTEX_CLOCK_REALTIME) {
            flag::FUTEX_WAKE => Ok(self.futex_wake(address, value)),
            flag::FUTEX_WAKE_BITSET if all => Ok(self.futex_wake(address, value)),
            flag::FUTEX_WAIT => self.futex_wait(address, value, timeout, false, realtime),
            flag::FUTEX_WAIT_BITSET if all => {
                self.futex_wait(address, value, timeout, true, realtime)
            }
            _ => Err(Errno::NoSys.into()),
        }
    }

    fn futex_wake(&mut self, address: u64, count: u64) -> u64 {
        let woken = self.kernel.with(|k| k.threads.wake(address, count));
        self.unpark(woken);
        u64::from(woken.count_ones())
    }

    fn unpark(&mut self, mask: u64) {
        let mut rest = mask;
        while rest != 0 {
            self.platform
                .exit(ExitFunction::Unpark, &[u64::from(rest.trailing_zeros())]);
            rest &= rest - 1;
        }
    }

    fn futex_wait(
        &mut self,
        address: u64,
        value: u64,
        timeout: u64,
        absolute: bool,
        realtime: bool,
    ) -> Answer {
        let clock = if realtime {
            flag::CLOCK_REALTIME
        } else {
            flag::CLOCK_MONOTONIC
        };
        let until = if timeout == 0 {
            None
        } else {
            let time = self.timespec(timeout)?;
            let now = self.now(clock).ok_or(Errno::Inval)?;
            Some(if absolute {
                time
            } else {
                now.saturating_add(time)
            })
        };
        let me = self.me;
        self.kernel.with(|k| {
            let current = k.space.read_u32(self.platform, address)?;
            if u64::from(current) != value {
                return Err(Errno::Again.into());
            }
            k.threads.get(me).state = State::Waiting(address);
            Ok::<_, CallError>(())
        })?;
        loop {
            let left = match until {
                None => FOREVER,
                Some(until) => {
                    let now = self.now(clock).ok_or(Errno::Inval)?;
                    until.saturating_sub(now)
                }
            };
            if left != 0 {
                self.platform.exit(ExitFunction::Park, &[left]);
            }
            let ended = self.kernel.with(|k| {
                let thread = k.threads.get(me);
                if thread.state != State::Waiting(address) {
                    return Some(Ok(0));
                }
                if left == 0 {
                    thread.state = State::Running;
                    return Some(Err(Errno::TimedOut.into()));
                }
                None
            });
            if let Some(answer) = ended {
                return answer;
            }
        }
    }

    /// `clone` with the flags of a thread; the new thread gets a vCPU of its own.
    fn clone_thread(&mut self, registers: &Registers) -> Answer {
        const NEEDED: u64 = flag::CLONE_VM
            | flag::CLONE_FS
            | flag::CLONE_FILES
            | flag::CLONE_SIGHAND
            | flag::CLONE_THREAD
            | flag::CLONE_SYSVSEM
            | flag::CLONE_SETTLS;
        const KNOWN: u64 = NEEDED
            | flag::CLONE_PARENT_SETTID
            | flag::CLONE_CHILD_SETTID
            | flag::CLONE_CHILD_CLEARTID
            | flag::CLONE_DETACHED;
        let flags = registers.rdi;
        let (stack, parent_tid, child_tid) = (registers.rsi, registers.rdx, registers.r10);
        if flags & NEEDED != NEEDED || flags & !KNOWN != 0 || registers.r8 >= USER_END {
            return Err(Errno::Inval.into());
        }
        let assigned = self.kernel.with(|k| {
            let vcpu = k.threads.idle().ok_or(Errno::Again)?;
            let id = thread_id(vcpu);
            let word = u32::try_from(id).unwrap_or(0).to_le_bytes();
            if flags & flag::CLONE_PARENT_SETTID != 0 {
                k.space.write(self.platform, parent_tid, &word)?;
            }
            if flags & flag::CLONE_CHILD_SETTID != 0 {
                k.space.write(self.platform, child_tid, &word)?;
            }
            let thread = k.threads.get(vcpu);
            thread.state = State::Starting;
            thread.start = Registers {
                rax: 0,
                rsp: stack,
                ..*registers
            };
            thread.start_fs = registers.r8;
            thread.stack = AlternateStack::default();
            thread.clear_tid = if flags & flag::CLONE_CHILD_CLEARTID == 0 {
                0
            } else {
                child_tid
            };
            Ok::<_, CallError>(vcpu)
        });
        let vcpu = assigned?;
        self.kernel.with(|k| {
            let started = k.start_vcpu(self.platform, vcpu);
            started.map_err(|fatal| k.fail(fatal))
        })?;
        self.platform.exit(ExitFunction::Unpark, &[vcpu as u64]);
        Ok(thread_id(vcpu))
    }

    /// An attestation report over the 64 bytes at `data`, written to `to`; its length.
    fn report(&mut self, data: u64, to: u64) -> Answer {
        let mut nonce = [0; 64];
        self.kernel
            .with(|k| k.space.read(self.platform, data, &mut nonce))?;
        let mut report = [0; REPORT_LEN];
        ask(self.kernel, self.platform, |channel, key, platform| {
            channel.report(key, platform, &nonce, &mut report)
        })?;
        self.kernel
            .with(|k| k.space.write(self.platform, to, &report))?;
        Ok(REPORT_LEN as u64)
    }

    /// The derived key for the request at `request`, written to `to`; its length.
    fn derived_key(&mut self, request: u64, to: u64) -> Answer {
        let mut bytes = [0; KEY_REQUEST];
        self.kernel
            .with(|k| k.space.read(self.platform, request, &mut bytes))?;
        let mut derived = Zeroizing::new([0; 32]);
        ask(self.kernel, self.platform, |channel, key, platform| {
            channel.derived_key(key, platform, &bytes, &mut derived)
        })?;
        self.kernel
            .with(|k| k.space.write(self.platform, to, &*derived))?;
        Ok(32)
    }

    fn exit_thread(&mut self) -> Result<After, Fatal> {
        let me = self.me;
        let (woken, last) = self.kernel.with(|k| {
            let clear = k.threads.get(me).clear_tid;
            k.threads.get(me).state = State::Idle;
            let mut woken = 0;
            if clear != 0 {
                match k.space.write(self.platform, clear, &[0; 4]) {
                    Ok(()) => woken = k.threads.wake(clear, u64::MAX),
                    // A bad address only affects the runtime itself.
                    Err(CallError::Errno(_)) => {}
                    Err(CallError::Fatal) => return Err(k.failure()),
                }
            }
            Ok((woken, k.threads.all_idle()))
        })?;
        self.unpark(woken);
        Ok(if last {
            After::Exit(0)
        } else {
            After::ThreadEnded
        })
    }

    fn sigaction(&mut self, signal: u64, new: u64, old: u64) -> Answer {
        let index = usize::try_from(signal)
            .ok()
            .filter(|index| (1..SIGNALS).contains(index));
        let index = index.ok_or(Errno::Inval)?;
        self.kernel.with(|k| {
            let action = k.actions.get_mut(index).ok_or(Errno::Inval)?;
            if old != 0 {
                let words = [action.handler, action.flags, action.restorer, action.mask];
                k.space.write(self.platform, old, words.as_bytes())?;
            }
            if new != 0 {
                let mut words = [0; 4];
                k.space.read(self.platform, new, words.as_mut_bytes())?;
                let [handler, flags, restorer, mask] = words;
                *action = Action {
                    handler,
                    flags,
                    restorer,
                    mask,
                };
            }
            Ok(0)
        })
    }

    /// Signals here are synchronous traps, which no mask holds back: the mask is always empty.
    fn sigprocmask(&mut self, old: u64) -> Answer {
        self.put(old, &[0])
    }

    fn sigaltstack(&mut self, new: u64, old: u64) -> Answer {
        let me = self.me;
        self.kernel.with(|k| {
            let stack = k.threads.get(me).stack;
            if old != 0 {
                let flags = if stack.size == 0 { flag::SS_DISABLE } else { 0 };
                let words = [stack.base, flags, stack.size];
                k.space.write(self.platform, old, words.as_bytes())?;
            }
            if new != 0 {
                let mut words = [0; 3];
                k.space.read(self.platform, new, words.as_mut_bytes())?;
                let [base, flags, size] = words;
                k.threads.get(me).stack = if flags & flag::SS_DISABLE == 0 {
                    base.checked_add(size)
                        .filter(|&top| top <= USER_END)
                        .ok_or(Errno::Inval)?;
                    AlternateStack { base, size }
                } else {
                    AlternateStack::default()
                };
            }
            Ok(0)
        })
    }

    fn getrandom(&mut self, to: u64, length: u64) -> Answer {
        let mut done = 0;
        while done < length {
            let mut bytes = [0; 64];
            let now = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let part = bytes.get_mut(..now).unwrap_or(&mut []);
            let at = to.checked_add(done).ok_or(Errno::Fault)?;
            let written = self.kernel.with(|k| {
                let filled = k.random.fill(self.platform, part);
                filled.map_err(|fatal| k.fail(fatal))?;
                k.space.write(self.platform, at, part)
            });
            bytes.zeroize();
            written?;
            done += now as u64;
        }
        Ok(length)
    }

    fn arch_prctl(&mut self, code: u64, address: u64) -> Answer {
        match code {
            flag::ARCH_SET_FS | flag::ARCH_SET_GS if address >= USER_END => {
                Err(Errno::Inval.into())
            }
            flag::ARCH_SET_FS => {
                self.platform.set_fs_base(address);
                Ok(0)
            }
            flag::ARCH_SET_GS => {
                self.platform.set_gs_base(address);
                Ok(0)
            }
            flag::ARCH_GET_FS => {
                let base = self.platform.fs_base();
                self.put(address, &[base])
            }
            _ => Err(Errno::Inval.into()),
        }
    }

    fn affinity(&mut self, size: u64, to: u64) -> Answer {
        if size < 8 {
            return Err(Errno::Inval.into());
        }
        let processors = self.kernel.with(|k| k.processors);
        self.put(to, &[u64::MAX >> (64 - processors.clamp(1, 64))])?;
        Ok(8)
    }

    fn sysinfo(&mut self, to: u64) -> Answer {
        let uptime = self.now(flag::CLOCK_MONOTONIC).unwrap_or(0) / 1_000_000_000;
        let (total, free) = self.kernel.with(|k| (k.memory, k.space.free_memory()));
        let info = SysInfo {
            uptime,
            loads: [0; 3],
            total,
            free,
            shared_buffers_swap: [0; 4],
            processes: 1,
            high: [0; 2],
            unit: 1,
        };
        self.kernel
            .with(|k| k.space.write(self.platform, to, info.as_bytes()))?;
        Ok(0)
    }

    fn prlimit(&mut self, process: u64, resource: u64, new: u64, old: u64) -> Answer {
        if process > 1 || new != 0 {
            return Err(Errno::Perm.into());
        }
        let limit = if resource == flag::RLIMIT_STACK {
            enarx_boot::layout::STACK_SIZE
        } else {
            u64::MAX
        };
        self.put(old, &[limit, limit])
    }

    /// `write` to standard output or error: last messages of the runtime's C library. The runtime
    /// itself uses the sallyport.
    fn log(&mut self, descriptor: u64, from: u64, length: u64) -> Answer {
        /// Longest message taken at once, in bytes.
        const MOST: u64 = 4096;
        if descriptor != 1 && descriptor != 2 {
            return Err(Errno::BadF.into());
        }
        let length = length.min(MOST);
        let mut done = 0;
        while done < length {
            let mut args = [0; 1 + LOG_BYTES / 8];
            let now = usize::try_from(length - done).unwrap_or(0).min(LOG_BYTES);
            let [count, words @ ..] = &mut args;
            *count = now as u64;
            let bytes = words.as_mut_bytes().get_mut(..now).ok_or(Errno::Inval)?;
            let at = from.checked_add(done).ok_or(Errno::Fault)?;
            self.kernel
                .with(|k| k.space.read(self.platform, at, bytes))?;
            self.platform.exit(ExitFunction::Log, &args);
            done += now as u64;
        }
        Ok(length)
    }
}
