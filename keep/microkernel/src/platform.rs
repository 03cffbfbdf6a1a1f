// SPDX-License-Identifier: Apache-2.0

//! The interface that the microkernel's logic needs from the machine: instructions and memory, no decisions.
//!
//! The binary implements it with instructions; tests have a fake one in ordinary memory.

use crate::frame::{Frame, Place, Slot, Words};
use crate::snp::instructions::Instructions;
use enarx_boot::page_table::Pte;
use enarx_exits::ExitFunction;

/// The machine: physical memory, TLB, exits, randomness, time.
pub trait Platform: Instructions {
    /// End of the memory that the host has put in place, a guest-physical address. Plain KVM only.
    fn memory_there(&self) -> u64;
    /// Reads a word.
    fn read(&self, slot: Slot) -> u64;
    /// Writes a word.
    fn write(&mut self, slot: Slot, value: u64);
    /// Reads a page-table entry.
    fn entry(&self, slot: Slot) -> Pte {
        Pte::from_bits(self.read(slot))
    }
    /// Writes a page-table entry.
    fn set_entry(&mut self, slot: Slot, entry: Pte) {
        self.write(slot, entry.bits());
    }
    /// Writes `value` to all words of a frame.
    fn fill(&mut self, frame: Frame, value: u64) {
        self.fill_run(frame.words(), value);
    }
    /// How many of the words equal `value` until the first that does not.
    fn run_length(&self, words: Words, value: u64) -> u64;
    /// Writes `value` to all words.
    fn fill_run(&mut self, words: Words, value: u64);
    /// Writes `first` and what follows it in steps of 4 KiB to the words.
    fn fill_rising(&mut self, words: Words, first: u64);
    /// Keeps the bits `kept` of the words and sets `set`, until the first that differs from the first word in more than the
    /// address of an entry. Returns how many were changed.
    fn change_run(&mut self, words: Words, kept: u64, set: u64) -> u64;
    /// Copies bytes out of a frame, as many as there are up to its end. Returns how many.
    fn read_bytes(&self, from: Place, to: &mut [u8]) -> usize;
    /// Copies bytes into a frame, as many as there is room for up to its end. Returns how many.
    fn write_bytes(&mut self, to: Place, from: &[u8]) -> usize;

    /// Forgets all user translations on this vCPU.
    fn flush(&mut self);

    /// Asks the VMM, with arguments in this vCPU's record; returns its untrusted answer.
    fn exit(&mut self, function: ExitFunction, args: &[u64]) -> u64;
    /// Zeroes the unused part of this vCPU's kernel stack, where copies of secrets may lie.
    fn wipe_stack(&mut self);
    /// True if the Keep has ended on another vCPU: nothing that this one waits for comes any more.
    fn ended(&self) -> bool;
    /// A random word from the CPU; `None` if it gives none after retries.
    fn random(&mut self) -> Option<u64>;
    /// The time-stamp counter.
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
