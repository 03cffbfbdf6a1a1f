// SPDX-License-Identifier: Apache-2.0

//! The launch on plain KVM: nothing is measured, so the runtime is mapped straight in, and the CPU's
//! own features decide some of the state.

use std::ops::Range;

use enarx_boot::address::CBit;
use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::first_state::FirstState;
use enarx_boot::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, HUGE, LARGE, PAGE, SHARED_END, SHARED_PHYSICAL, STACK_TOP,
    VDSO_USER,
};
use enarx_boot::page_table::{Pte, PteFlags, Rights};
use enarx_snp::launch::PageType;

use crate::elf::{self, Program, Segment};
use crate::layout::{
    Builder, Launch, LaunchError, Page, Placement, check_vcpus, first_stack, heap_start, user,
};

/// Heap (`brk`) that is mapped at launch, in bytes of address space; the host gives memory for it
/// on first touch.
const HEAP_MAPPED: u64 = 8 << 20;

/// The parameters that may differ from launch to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// vCPUs, 1 to 64.
    pub vcpus: u32,
    /// Memory of the Keep, in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// The CPU has 1 GiB pages: the direct map is one table whatever the memory. Without them it is
    /// built of 2 MiB pages over the memory there is.
    pub huge_pages: bool,
    /// SYSCALL does not raise the privilege level on this host.
    pub syscall_by_ud: bool,
    /// CR4 of the vCPUs.
    pub cr4: u64,
    /// XCR0 of the vCPUs.
    pub xcr0: u64,
}

/// Where the runtime goes: known before anything else of the launch, so that loading it, which takes
/// longest, can begin.
#[derive(Debug)]
pub struct Plan<'a> {
    image: &'a [u8],
    program: Program,
    /// The read-only segments, in the order of their addresses.
    placements: Vec<Placement>,
    /// First frame behind them.
    free: u64,
}

impl<'a> Plan<'a> {
    /// Plans a Keep with the runtime `image`.
    ///
    /// # Errors
    /// [`LaunchError`] for an image that cannot be laid out.
    pub fn new(image: &'a [u8]) -> Result<Self, LaunchError> {
        let program = elf::parse(image)?;
        let mut placements = Vec::new();
        let mut free = SHARED_END;
        let mut mapped = 0;
        for segment in &program.segments {
            if segment.write && segment.execute {
                return Err(LaunchError::Runtime("a runtime segment is W and X"));
            }
            let end = segment.address + segment.size;
            if segment.address - segment.address % PAGE < mapped {
                return Err(LaunchError::Runtime("runtime segments share a page"));
            }
            mapped = end.next_multiple_of(PAGE);
            if !segment.write {
                let start = segment.address - segment.address % LARGE;
                placements.push(Placement {
                    gpa: free + (segment.address - start),
                    file: segment.file.clone(),
                });
                free += (end - start).next_multiple_of(LARGE);
            }
        }
        Ok(Self {
            image,
            program,
            placements,
            free,
        })
    }

    /// Place of the image except its writable parts, which are among the pages of the launch.
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// End of what is loaded; the memory of the Keep must reach beyond it.
    #[must_use]
    pub fn end(&self) -> u64 {
        // The first stack and the first heap follow.
        self.free + LARGE + HEAP_MAPPED
    }

    /// The guest physical memory that the Keep shares with the host.
    #[must_use]
    pub fn shared(&self) -> Vec<Range<u64>> {
        std::iter::once(SHARED_PHYSICAL..SHARED_END).collect()
    }

    /// Lays out the Keep.
    ///
    /// # Errors
    /// [`LaunchError`] for a microkernel or parameters that cannot be laid out.
    pub fn launch(
        &self,
        microkernel: &[u8],
        parameters: &Parameters,
    ) -> Result<Launch, LaunchError> {
        check_vcpus(parameters.vcpus)?;
        let kernel = elf::parse(microkernel)?;
        let program = &self.program;
        let mut builder = Builder::new(CBit::NONE);
        builder.frames = self.free;
        let header = builder.kernel_image(&kernel, microkernel)?;
        builder.root = builder.pages.allocate();
        builder.map_kernel(&kernel, &header);
        builder.direct_map(parameters);
        let tables = builder.cpu_tables(&header, parameters.vcpus.into());
        builder.runtime_image(self);
        let stack_frame = builder.take(LARGE);
        let heap_start = heap_start(program)?;
        let (user_stack, stack_bytes, random_offset) = first_stack(program)?;
        builder.user_stack(stack_frame);
        let heap_frame = builder.heap(heap_start);
        builder.sallyport();
        let by_ud = parameters.syscall_by_ud;
        debug_assert_eq!(builder.frames, self.end());
        let boot = BootInfo {
            magic: boot_page::MAGIC,
            flags: if by_ud {
                boot_page::FLAG_SYSCALL_BY_UD
            } else {
                0
            },
            reserved: 0,
            root: builder.root,
            launch_free: builder.pages.end(),
            free_start: builder.frames,
            user_entry: program.entry,
            user_stack,
            random_bytes: stack_frame + LARGE - PAGE + random_offset,
            heap_start,
            heap_mapped: heap_start + HEAP_MAPPED,
            c_bit: CBit::NONE.mask(),
            sev_features: 0,
            cpuid_page: 0,
            secrets_page: 0,
            image_start: 0,
            gdt: tables.gdt,
            idt: tables.idt,
            loader_end: 0,
        };
        let state = FirstState {
            rip: header.entry,
            cr3: builder.private(builder.root),
            cr4: parameters.cr4,
            cr2: 0,
            xcr0: parameters.xcr0,
            tables: Some(tables),
            lstar: if by_ud {
                VDSO_USER + boot_page::SYSCALL_OFFSET
            } else {
                header.syscall_entry
            },
            sev_features: 0,
        };
        let mut pages = builder.finish(&header, &boot)?;
        pages.push(Page {
            gpa: stack_frame + LARGE - PAGE,
            kind: PageType::Normal,
            bytes: stack_bytes,
        });
        // The host allocates memory for the runtime's first accesses while it loads the rest.
        pages.push(Page {
            gpa: heap_frame,
            kind: PageType::Zero,
            bytes: Box::new([0; 4096]),
        });
        Ok(Launch {
            pages,
            shared: self.shared(),
            runtime: self.placements.clone(),
            end: boot.free_start,
            state,
        })
    }
}

impl Builder {
    /// All memory, as the microkernel sees it.
    fn direct_map(&mut self, parameters: &Parameters) {
        let (level, step, end) = if parameters.huge_pages {
            (3, HUGE, DIRECT_MAP_SIZE)
        } else {
            (2, LARGE, parameters.memory)
        };
        let mut physical = 0;
        while physical < end {
            let flags = PteFlags::KERNEL_DATA | PteFlags::LARGE;
            let entry = Pte::new(self.private(physical), flags);
            self.pages
                .map(self.root, DIRECT_MAP + physical, level, entry);
            physical += step;
        }
    }

    /// Maps the runtime's segments: read-only ones by large pages where nothing else lies in them;
    /// writable ones, which are small, as pages of the launch.
    fn runtime_image(&mut self, plan: &Plan<'_>) {
        let segments = &plan.program.segments;
        let mut placements = plan.placements.iter();
        let mut mapped = 0;
        for (index, segment) in segments.iter().enumerate() {
            let end = segment.address + segment.size;
            if segment.write {
                self.writable(segment, plan.image);
            } else if let Some(placement) = placements.next() {
                let rights = if segment.execute {
                    Rights::ReadExecute
                } else {
                    Rights::Read
                };
                let next = segments.get(index + 1);
                let next = next.map_or(u64::MAX, |next| next.address);
                let frame = |address: u64| placement.gpa + address - segment.address;
                let first = segment.address - segment.address % PAGE;
                let start = segment.address - segment.address % LARGE;
                for large in (start..end).step_by(2 << 20) {
                    if mapped <= large && large + LARGE <= next {
                        let entry = user(self.private(frame(large)), rights, PteFlags::LARGE);
                        self.pages.map(self.root, large, 2, entry);
                        continue;
                    }
                    for page in (large.max(first)..end.min(large + LARGE)).step_by(4096) {
                        let entry = user(self.private(frame(page)), rights, PteFlags::empty());
                        self.pages.map(self.root, page, 1, entry);
                    }
                }
            }
            mapped = end.next_multiple_of(PAGE);
        }
    }

    /// A writable segment of the runtime, in small pages: the runtime makes some of them read-only.
    fn writable(&mut self, segment: &Segment, image: &[u8]) {
        let start = segment.address - segment.address % PAGE;
        let pages = start..segment.address + segment.size;
        // One after the other, followed by the tables for them.
        let first = self.pages.end();
        for _ in pages.clone().step_by(4096) {
            self.pages.allocate();
        }
        self.pages.write(
            first + (segment.address - start),
            &image[segment.file.clone()],
        );
        for address in pages.step_by(4096) {
            let page = self.private(first + (address - start));
            let entry = user(page, Rights::ReadWrite, PteFlags::empty());
            self.pages.map(self.root, address, 1, entry);
        }
    }

    /// The first stack: its top 2 MiB have a frame, the rest gets frames on first touch.
    fn user_stack(&mut self, frame: u64) {
        let top = STACK_TOP - LARGE;
        let entry = user(self.private(frame), Rights::ReadWrite, PteFlags::LARGE);
        self.pages.map(self.root, top, 2, entry);
        self.reserve_stack(top);
    }

    /// The heap; its first frame.
    fn heap(&mut self, start: u64) -> u64 {
        let first = self.take(HEAP_MAPPED);
        for offset in (0..HEAP_MAPPED).step_by(2 << 20) {
            let page = self.private(first + offset);
            let entry = user(page, Rights::ReadWrite, PteFlags::LARGE);
            self.pages.map(self.root, start + offset, 2, entry);
        }
        first
    }
}
