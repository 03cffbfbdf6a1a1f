// SPDX-License-Identifier: Apache-2.0

//! The memory of a Keep as the VMM maps it: private memory, and the windows that the Keep shares with its host, the
//! first of which is the sallyport region, followed by the exit memory.
//!
//! The guest writes all of it at any time: it is accessed by raw copies and atomics only, never by
//! references to plain data.
#![expect(
    unsafe_code,
    reason = "memory that a guest writes is accessed by raw copies and atomics"
)]

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use enarx_boot::layout::{LARGE, MAX_VCPUS};
use enarx_exits::{COUNTERS_OFFSET, MEMORY_THERE_OFFSET, RECORD_SIZE, Record};
use enarx_sallyport::Region;
use enarx_sallyport::layout::REGION_SIZE;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::backing::Backing;
use super::file_part::FilePart;

/// Alignment of the mappings, in bytes: that of large pages.
const ALIGN: usize = 2 << 20;
const _: () = assert!(ALIGN as u64 == LARGE);

/// An anonymous mapping, unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping is plain memory owned by the value; every access is a raw copy or an atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(size: usize, huge: bool) -> io::Result<Self> {
        // Space for aligning the start to 2 MiB, which the host's large pages need.
        let align = ALIGN;
        let padded = size.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice.
        let raw = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                padded,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        let start = raw as usize;
        let base = start.next_multiple_of(align);
        // SAFETY: the head and the tail are parts of the mapping just made, outside of
        // `base..base + size`; both are multiples of the page size.
        unsafe {
            if base > start {
                munmap(raw, base - start)?;
            }
            let tail = start + padded - (base + size);
            if tail > 0 {
                munmap((base + size) as *mut _, tail)?;
            }
            if huge {
                // Advice: without large pages everything works, slower.
                let _ = madvise(base as *mut _, size, Advice::LinuxHugepage);
            }
            // The contents belong to the tenant: into no core dump, into no child.
            madvise(base as *mut _, size, Advice::LinuxDontDump)?;
            madvise(base as *mut _, size, Advice::LinuxDontFork)?;
        }
        let base = NonNull::new(base as *mut u8).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, size })
    }

    /// The address of `length` bytes at `offset`.
    ///
    /// # Panics
    /// If they do not lie in the mapping: the VMM's own layout is wrong.
    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        self.part(offset, length).as_ptr()
    }

    /// As [`Self::at`].
    fn part(&self, offset: usize, length: usize) -> NonNull<u8> {
        assert!(
            offset
                .checked_add(length)
                .is_some_and(|end| end <= self.size)
        );
        // SAFETY: the offset lies in the mapping.
        unsafe { self.base.add(offset) }
    }
}

// SAFETY: the mapping begins and ends on page boundaries, is writable, never moves, and is unmapped
// by `drop` alone; it is accessed by raw copies and atomics only.
unsafe impl Backing for Mapping {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing uses it any more: the virtual machine, the
        // executor and the vCPU threads ended before (they borrow or are joined by the owner).
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.size) };
        debug_assert!(unmapped.is_ok(), "the mapping is whole");
    }
}

/// Memory shared with the host.
#[derive(Debug)]
struct Window {
    /// Guest physical address.
    gpa: u64,
    /// Where its bytes are: in a mapping of its own, or in that of the whole memory.
    mapping: Arc<Mapping>,
    /// Where they begin there.
    offset: usize,
    /// Bytes.
    size: usize,
    /// The guest no longer has it.
    withdrawn: AtomicBool,
}

impl Window {
    /// The bytes.
    fn start(&self) -> *mut u8 {
        self.mapping.at(self.offset, self.size)
    }
}

/// The memory of one Keep.
#[derive(Debug)]
pub struct GuestMemory {
    ram: Arc<Mapping>,
    windows: Vec<Window>,
    registered: Mutex<RegisteredRam>,
}

/// The private memory that is the guest's already.
#[derive(Debug, Default)]
struct RegisteredRam {
    /// Its end, a guest physical address.
    end: u64,
    /// The memory slots that it came in.
    slots: u32,
}

/// First memory slot of the windows: after those that private memory can use.
const FIRST_WINDOW: u32 = 64;

impl GuestMemory {
    /// `ram` bytes of memory from guest physical address 0 on, and memory of its own for each of the
    /// `windows` in it, which are ascending; the first holds sallyport region and exit memory.
    ///
    /// # Errors
    /// The system's, such as `ENOMEM`.
    pub fn new(ram: u64, windows: &[Range<u64>]) -> io::Result<Self> {
        Self::with_windows(ram, windows, |_, range| {
            let size = range.end - range.start;
            Ok((Arc::new(Mapping::new(size, false)?), 0))
        })
    }

    /// As [`Self::new`], with the windows in place of the memory there.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_place(ram: u64, windows: &[Range<u64>]) -> io::Result<Self> {
        let memory = Self::with_windows(ram, windows, |ram, range| {
            Ok((Arc::clone(ram), range.start))
        })?;
        if let Some(first) = memory.windows.first() {
            // Few pages of sallyport and exit memory are used: large ones would be zeroed, and kept, for nothing.
            // SAFETY: the range is the window's; the advice changes no contents.
            let _ = unsafe { madvise(first.start().cast(), first.size, Advice::LinuxNoHugepage) };
        }
        Ok(memory)
    }

    fn with_windows(
        ram: u64,
        windows: &[Range<u64>],
        place: impl Fn(&Arc<Mapping>, Range<usize>) -> io::Result<(Arc<Mapping>, usize)>,
    ) -> io::Result<Self> {
        let size = |bytes: u64| usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory);
        let ram = Arc::new(Mapping::new(size(ram)?, true)?);
        let window = |range: &Range<u64>| {
            let bytes = size(range.start)?..size(range.end)?;
            let size = bytes.len();
            let (mapping, offset) = place(&ram, bytes)?;
            Ok::<_, io::Error>(Window {
                gpa: range.start,
                mapping,
                offset,
                size,
                withdrawn: AtomicBool::new(false),
            })
        };
        Ok(Self {
            windows: windows.iter().map(window).collect::<io::Result<_>>()?,
            ram,
            registered: Mutex::default(),
        })
    }

    /// True if a window has memory of its own, and not that of its place in the private memory.
    fn has_own_memory(&self, window: &Window) -> bool {
        !Arc::ptr_eq(&window.mapping, &self.ram)
    }

    /// The memory, windows made by [`Self::in_place`] among it, for a slot with two sides.
    pub fn backing(&self) -> Arc<dyn Backing> {
        Arc::clone(&self.ram) as Arc<dyn Backing>
    }

    /// The part of a window at a guest physical address.
    fn window(&self, gpa: u64, length: usize) -> Option<*mut u8> {
        self.windows.iter().find_map(|window| {
            let offset = usize::try_from(gpa.checked_sub(window.gpa)?).ok()?;
            let end = offset.checked_add(length)?;
            (end <= window.size).then(|| window.mapping.at(window.offset + offset, length))
        })
    }

    /// Where the contents of a launch go: into a window, or into the private memory.
    fn place(&self, gpa: u64, length: usize) -> *mut u8 {
        self.window(gpa, length).unwrap_or_else(|| {
            let offset = usize::try_from(gpa).unwrap_or(usize::MAX);
            self.ram.at(offset, length)
        })
    }

    /// Copies from a window; `None` if `gpa` is outside every window.
    pub fn read_window(&self, gpa: u64, to: &mut [u8]) -> Option<()> {
        let from = self.window(gpa, to.len())?;
        // SAFETY: the source lies in a mapping (checked by `window`), to which no reference exists.
        unsafe { copy_out(from, to) };
        Some(())
    }

    /// Copies into a window; `None` if `gpa` is outside every window.
    pub fn write_window(&self, gpa: u64, from: &[u8]) -> Option<()> {
        let to = self.window(gpa, from.len())?;
        // SAFETY: as in `read_window`, for the target.
        unsafe { copy_in(from, to) };
        Some(())
    }

    /// Writes launch contents at a guest physical address.
    pub fn load(&self, gpa: u64, bytes: &[u8]) {
        // SAFETY: the target lies in a mapping (checked by `place`), to which no reference exists.
        unsafe {
            self.place(gpa, bytes.len())
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
    }

    /// Reads a part of a file as launch contents.
    ///
    /// # Errors
    /// The system's; also for a file that is too short.
    pub fn load_file(&self, gpa: u64, part: &FilePart, from: Range<usize>) -> io::Result<()> {
        let mut to = gpa;
        let mut rest = from;
        while !rest.is_empty() {
            let target = self.place(to, rest.len());
            // This makes the kernel allocate memory for the target now. During pread(2), it would hold the lock of
            // the whole address space while doing so, and brk(2) or mmap(2) of another thread would wait for
            // milliseconds.
            // SAFETY: the byte lies in a mapping (checked by `place`), to which no reference exists.
            unsafe { target.write_volatile(0) };
            let offset = part.offset + rest.start as u64;
            let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            // SAFETY: the target lies in a mapping (checked by `place`), to which no reference
            // exists.
            let read =
                unsafe { libc::pread(part.file.as_raw_fd(), target.cast(), rest.len(), offset) };
            match usize::try_from(read) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    rest.start += read;
                    to += read as u64;
                }
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }

    /// Makes the memory the guest's up to `end`, with the windows in it. Each memory slot costs KVM a grace period, a
    /// millisecond or more, so windows that are in their place share one with the memory around them.
    ///
    /// # Errors
    /// As [`Self::extend`].
    pub fn register(&self, vm: &VmFd, end: u64) -> Result<(), kvm_ioctls::Error> {
        self.extend(vm, end)?;
        self.register_windows(vm)
    }

    /// Gives the guest more memory: up to `end`, and at least as much as it already had if there is that much, so
    /// that there are few parts.
    ///
    /// # Errors
    /// `EINVAL` for more than there is; errors of KVM.
    pub fn extend(&self, vm: &VmFd, end: u64) -> Result<(), kvm_ioctls::Error> {
        let mut registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let size = self.ram.size as u64;
        if end > size {
            return Err(kvm_ioctls::Error::new(libc::EINVAL));
        }
        if end <= registered.end {
            return Ok(());
        }
        let end = end.max(registered.end * 2).min(size);
        for part in self.gap_between_windows(registered.end..end) {
            let offset = usize::try_from(part.start).unwrap_or(usize::MAX);
            let size = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
            set_slot(
                vm,
                registered.slots,
                part.start,
                self.ram.at(offset, size),
                size,
            )?;
            registered.slots += 1;
        }
        registered.end = end;
        self.exit_word(MEMORY_THERE_OFFSET)
            .store(end, Ordering::Release);
        Ok(())
    }

    /// The memory in `range` that no window apart takes the place of.
    fn gap_between_windows(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut start = range.start;
        let windows = self
            .windows
            .iter()
            .filter(|window| self.has_own_memory(window))
            .map(|window| window.gpa..window.gpa + window.size as u64);
        windows
            .chain(std::iter::once(range.end..range.end))
            .filter_map(move |window| {
                let part = start..window.start.min(range.end);
                start = start.max(window.end);
                (!part.is_empty()).then_some(part)
            })
    }

    /// Makes the memory the guest's under two addresses: private memory at those with the C-bit, the
    /// windows at those without it.
    ///
    /// # Errors
    /// KVM's.
    pub fn register_aliased(&self, vm: &VmFd, c_bit: u64) -> Result<(), kvm_ioctls::Error> {
        set_slot(vm, 0, c_bit, self.ram.at(0, self.ram.size), self.ram.size)?;
        self.register_windows(vm)
    }

    /// A page of private memory, as a CPU of the simulated platform reads it; `None` beyond the end.
    pub fn read_private(&self, gpa: u64) -> Option<Box<[u8; 4096]>> {
        let offset = usize::try_from(gpa).ok()?;
        if offset.checked_add(4096)? > self.ram.size {
            return None;
        }
        let mut page = Box::new([0; 4096]);
        // SAFETY: the source lies in the mapping, to which no reference exists.
        unsafe { copy_out(self.ram.at(offset, 4096), &mut page[..]) };
        Some(page)
    }

    /// Takes the windows that contain `range` away from the guest, and frees their memory: a Keep gives windows back
    /// as a whole.
    ///
    /// # Errors
    /// KVM's, and the system's for memory that cannot be freed.
    pub fn withdraw_window(&self, vm: &VmFd, range: &Range<u64>) -> Result<(), kvm_ioctls::Error> {
        for (slot, window) in (FIRST_WINDOW..).zip(&self.windows) {
            let size = window.size;
            let touched = window.gpa < range.end && range.start < window.gpa + size as u64;
            if touched && !window.withdrawn.swap(true, Ordering::AcqRel) {
                set_slot(vm, slot, window.gpa, window.start(), 0)?;
                // SAFETY: the memory is the window's, which the guest cannot reach any more.
                let freed = unsafe { madvise(window.start().cast(), size, Advice::LinuxDontNeed) };
                freed.map_err(|errno| kvm_ioctls::Error::new(errno.raw_os_error()))?;
            }
        }
        Ok(())
    }

    fn register_windows(&self, vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
        for (slot, window) in (FIRST_WINDOW..).zip(&self.windows) {
            if self.has_own_memory(window) {
                set_slot(vm, slot, window.gpa, window.start(), window.size)?;
            }
        }
        Ok(())
    }

    /// The sallyport region.
    pub fn region(&self) -> Region {
        let first = &self.windows[0];
        let start = first.mapping.part(first.offset, REGION_SIZE);
        // SAFETY: the first window begins with REGION_SIZE bytes (checked by `part`), is aligned to
        // 2 MiB (windows begin at multiples of that), and stays mapped as long as `self`, which outlives the executor in the Keep; it is
        // accessed by atomics and raw copies only.
        unsafe { Region::from_raw(start) }
    }

    /// The word at `offset` of the exit memory.
    fn exit_word(&self, offset: usize) -> &AtomicU64 {
        #[allow(
            clippy::cast_ptr_alignment,
            reason = "mapping and window are aligned to 2 MiB and offsets are multiples of 8"
        )]
        let at = self.windows[0]
            .mapping
            .at(self.windows[0].offset + REGION_SIZE + offset, 8)
            .cast::<AtomicU64>();
        // SAFETY: in the mapping (checked by `at`), aligned (offsets are multiples of 8), and
        // accessed by atomics only.
        unsafe { &*at }
    }

    /// The exit record of a vCPU: every word is read once.
    pub fn record(&self, vcpu: usize) -> Record {
        let base = (vcpu % MAX_VCPUS) * RECORD_SIZE;
        let mut record = Record::default();
        for (index, arg) in record.args.iter_mut().enumerate() {
            *arg = self.exit_word(base + index * 8).load(Ordering::Relaxed);
        }
        record
    }

    /// The microkernel's counters: system calls and exceptions from user code.
    pub fn counters(&self) -> (u64, u64) {
        let word = |offset| {
            self.exit_word(COUNTERS_OFFSET + offset)
                .load(Ordering::Relaxed)
        };
        (word(0), word(8))
    }

    /// Gives the guest zeroed memory for a range of its private memory, if it is one.
    pub fn discard(&self, gpa: u64, length: u64) -> bool {
        let (Ok(offset), Ok(length)) = (usize::try_from(gpa), usize::try_from(length)) else {
            return false;
        };
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.ram.size);
        if !inside || !gpa.is_multiple_of(LARGE) || !(length as u64).is_multiple_of(LARGE) {
            return false;
        }
        // SAFETY: the range is a part of the private mapping; dropping its contents is what the
        // guest asked for, and the VMM holds no reference into it.
        unsafe {
            madvise(
                self.ram.at(offset, length).cast(),
                length,
                Advice::LinuxDontNeed,
            )
            .is_ok()
        }
    }
}

/// Gives the guest a memory slot.
fn set_slot(
    vm: &VmFd,
    slot: u32,
    guest_phys_addr: u64,
    at: *mut u8,
    size: usize,
) -> Result<(), kvm_ioctls::Error> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr,
        memory_size: size as u64,
        userspace_addr: at as u64,
    };
    // SAFETY: the callers pass parts of mappings that outlive the virtual machine: both are owned by
    // the Keep, which drops the machine first.
    unsafe { vm.set_user_memory_region(region) }
}

/// Bytes that are copied at once if both ends allow it.
const WORD: usize = size_of::<u64>();

/// Copies memory that a guest may write at the same time, with atomic loads: a guest can only tear its own data.
///
/// # Safety
/// `from` is valid for as many bytes as `to` has, and no reference to them exists.
unsafe fn copy_out(from: *mut u8, to: &mut [u8]) {
    for (index, part) in to.chunks_mut(WORD).enumerate() {
        // SAFETY: within the bytes that the caller promises.
        let at = unsafe { from.add(index * WORD) };
        if part.len() == WORD && at.addr().is_multiple_of(WORD) {
            // SAFETY: as above, and aligned; this process accesses them by atomics alone.
            let word = unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::Relaxed);
            part.copy_from_slice(&word.to_ne_bytes());
            continue;
        }
        for (offset, byte) in part.iter_mut().enumerate() {
            // SAFETY: as above.
            *byte = unsafe { AtomicU8::from_ptr(at.add(offset)) }.load(Ordering::Relaxed);
        }
    }
}

/// Copies into memory that a guest may use at the same time, with atomic stores.
///
/// # Safety
/// `to` is valid for as many bytes as `from` has, and no reference to them exists.
unsafe fn copy_in(from: &[u8], to: *mut u8) {
    for (index, part) in from.chunks(WORD).enumerate() {
        // SAFETY: within the bytes that the caller promises.
        let at = unsafe { to.add(index * WORD) };
        if let Ok(word) = <[u8; WORD]>::try_from(part)
            && at.addr().is_multiple_of(WORD)
        {
            let word = u64::from_ne_bytes(word);
            // SAFETY: as above, and aligned; this process accesses them by atomics alone.
            unsafe { AtomicU64::from_ptr(at.cast()) }.store(word, Ordering::Relaxed);
            continue;
        }
        for (offset, byte) in part.iter().enumerate() {
            // SAFETY: as above.
            unsafe { AtomicU8::from_ptr(at.add(offset)) }.store(*byte, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_frames_of_its_own_are_discarded() {
        let memory = GuestMemory::new(4 << 20, &[]).unwrap();
        memory.load(LARGE, &[7; 16]);
        let first = || {
            // SAFETY: in the mapping, which lives.
            unsafe { memory.ram.at(ALIGN, 1).read_volatile() }
        };
        assert_eq!(first(), 7);
        for (gpa, length) in [
            (LARGE, LARGE / 2),
            (1, LARGE),
            (2 * LARGE, LARGE),
            (u64::MAX, LARGE),
        ] {
            assert!(!memory.discard(gpa, length));
        }
        assert_eq!(first(), 7);
        assert!(memory.discard(LARGE, LARGE));
        assert_eq!(first(), 0);
    }

    #[test]
    fn windows_are_apart_or_in_their_place() {
        let window = LARGE..7 * LARGE;
        let windows = std::slice::from_ref(&window);
        let gpa = LARGE + 8;
        for (memory, in_place) in [
            (GuestMemory::new(8 * LARGE, windows).unwrap(), false),
            (GuestMemory::in_place(8 * LARGE, windows).unwrap(), true),
        ] {
            memory.load(gpa, &[7]);
            let mut byte = [0];
            assert_eq!(memory.read_window(gpa, &mut byte), Some(()));
            assert_eq!(byte, [7]);
            let page = memory.read_private(LARGE).unwrap();
            assert_eq!(page[8], if in_place { 7 } else { 0 });
            assert_eq!(memory.backing().size() as u64, 8 * LARGE);
            let exit_memory = LARGE + REGION_SIZE as u64;
            memory.write_window(exit_memory, &5u64.to_le_bytes());
            assert_eq!(memory.record(0).args[0], 5);
            // Wherever it begins and ends.
            for (from, length) in [(0, 40), (1, 40), (7, 1), (8, 8), (3, 13)] {
                let bytes: Vec<u8> = (1..=length).collect();
                let mut read = vec![0; bytes.len() + 2];
                assert_eq!(memory.write_window(gpa, &[0; 64]), Some(()));
                assert_eq!(memory.write_window(gpa + 1 + from, &bytes), Some(()));
                assert_eq!(memory.read_window(gpa + from, &mut read), Some(()));
                assert_eq!(read, [&[0], &bytes[..], &[0]].concat(), "{from} {length}");
            }
            assert_eq!(memory.write_window(7 * LARGE - 1, &[0; 2]), None);
        }
    }

    #[test]
    fn private_memory_is_the_gaps_between_windows() {
        let windows = [LARGE..2 * LARGE, 2 * LARGE..3 * LARGE, 6 * LARGE..7 * LARGE];
        let memory = GuestMemory::new(8 * LARGE, &windows).unwrap();
        let parts = |range: Range<u64>| {
            let range = range.start * LARGE..range.end * LARGE;
            memory
                .gap_between_windows(range)
                .map(|part| part.start / LARGE..part.end / LARGE)
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(0..8), [0..1, 3..6, 7..8]);
        // In two steps, wherever the first ends, it is the same memory.
        for middle in 0..=8 {
            let both = [parts(0..middle), parts(middle..8)].concat();
            let frames: Vec<u64> = both.into_iter().flatten().collect();
            assert_eq!(frames, [0, 3, 4, 5, 7], "in two steps at {middle}");
        }
        // Windows in their place are part of it.
        let memory = GuestMemory::in_place(8 * LARGE, &windows).unwrap();
        let all = 0..8 * LARGE;
        assert!(memory.gap_between_windows(all.clone()).eq([all]));
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn loading_outside_of_memory_panics() {
        GuestMemory::new(2 << 20, &[])
            .unwrap()
            .load((2 << 20) - 1, &[0; 2]);
    }
}
