//! What the logic of the microkernel needs from the machine under it.
//!
//! The binary implements it with instructions; tests play it in ordinary memory.

use crate::snp::Instructions;
use enarx_exits::ExitFunction;

/// The machine: physical memory, TLB, exits, randomness, time.
///
/// Physical addresses passed here were handed out by [`crate::frames::Frames`] or read from page
/// tables that only the microkernel writes; they carry the C-bit where there is one.
pub trait Platform: Instructions {
    /// Makes a fresh frame of `size` bytes (4 KiB or 2 MiB) the Keep's own, and zero. Does not
    /// return when that is not possible.
    fn accept(&mut self, frame: u64, size: u64);
    /// Reads the aligned word at a guest physical address.
    fn read(&self, physical: u64) -> u64;
    /// Writes the aligned word at a guest physical address.
    fn write(&mut self, physical: u64, value: u64);
    /// Writes `value` to all 512 words of the page at `physical`.
    fn fill(&mut self, physical: u64, value: u64) {
        self.fill_run(physical, 512, value);
    }
    /// How many of the `most` words from `physical` on, all in one page, equal `value` until the
    /// first that does not.
    fn run_length(&self, physical: u64, most: u64, value: u64) -> u64;
    /// Writes `value` to `count` words from `physical` on, all in one page.
    fn fill_run(&mut self, physical: u64, count: u64, value: u64);
    /// Writes `first` and what follows it in steps of 4 KiB to `count` words from `physical` on, all
    /// in one page.
    fn fill_rising(&mut self, physical: u64, count: u64, first: u64);
    /// Copies bytes out of one page.
    fn read_bytes(&self, physical: u64, to: &mut [u8]);
    /// Copies bytes into one page.
    fn write_bytes(&mut self, physical: u64, from: &[u8]);
    /// Zeroes the 2 MiB frame at `physical`.
    fn zero_large(&mut self, physical: u64);

    /// Forgets all user translations on this vCPU.
    fn flush(&mut self);

    /// Asks the VMM, with arguments in this vCPU's record; returns its untrusted answer.
    fn exit(&mut self, function: ExitFunction, args: &[u64]) -> u64;
    /// Zeroes the unused part of this vCPU's kernel stack, where copies of secrets may lie.
    fn wipe_stack(&mut self);
    /// Tells if the Keep has ended on another vCPU: nothing that this one waits for comes any more.
    fn ended(&self) -> bool;
    /// A random word from the CPU; none if it does not deliver after retries.
    fn random(&mut self) -> Option<u64>;
    /// The time stamp counter.
    fn tsc(&self) -> u64;
    /// The latest time that was given out to anybody, `now` included, in nanoseconds since boot. User code reads
    /// the clock without a system call and keeps it up to date, too; if it spoils it, its own clock suffers.
    fn latest(&mut self, now: u64) -> u64;
    /// Sets the FS base of the running thread.
    fn set_fs_base(&mut self, base: u64);
    /// The FS base of the running thread.
    fn fs_base(&self) -> u64;
    /// Sets the GS base of the running thread.
    fn set_gs_base(&mut self, base: u64);
}
