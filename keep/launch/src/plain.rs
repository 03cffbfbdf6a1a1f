//! The launch on plain KVM: nothing is measured, so the runtime is mapped straight in, and the CPU's
//! own features decide some of the state.

use enarx_microkernel::boot::{self, BootInfo};
use enarx_microkernel::first_state::FirstState;
use enarx_microkernel::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, HUGE, LARGE, PAGE, SHARED_END, SHARED_PHYSICAL, STACK_TOP,
    VDSO_USER,
};
use enarx_microkernel::paging::{Rights, bits};
use enarx_snp::launch::PageType;

use crate::elf::{self, Program};
use crate::layout::{
    Builder, Launch, LaunchError, Page, Placement, check_vcpus, first_stack, heap_start, user,
};

/// Heap (`brk`) that is mapped at launch, in bytes of address space; the host gives memory for it
/// on first touch.
const HEAP_MAPPED: u64 = 8 << 20;

/// What may differ from launch to launch.
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

/// Lays out a Keep whose runtime is mapped straight in.
///
/// # Errors
/// [`LaunchError`] for images or parameters that cannot be laid out.
pub fn launch(
    microkernel: &[u8],
    runtime: &[u8],
    parameters: &Parameters,
) -> Result<Launch, LaunchError> {
    check_vcpus(parameters.vcpus)?;
    let kernel = elf::parse(microkernel)?;
    let program = elf::parse(runtime)?;
    let mut builder = Builder::new(0);
    let header = builder.kernel_image(&kernel, microkernel)?;
    builder.root = builder.pages.allocate();
    builder.map_kernel(&kernel, &header);
    builder.direct_map(parameters);
    let vcpus = parameters.vcpus.into();
    let tables = builder.cpu_tables(&header, vcpus, vcpus);
    let placements = builder.runtime_image(&program)?;
    let stack_frame = builder.take(LARGE);
    let heap_start = heap_start(&program)?;
    let (user_stack, stack_bytes, random_offset) = first_stack(&program)?;
    builder.user_stack(stack_frame);
    builder.heap(heap_start);
    builder.sallyport();
    let by_ud = parameters.syscall_by_ud;
    let boot = BootInfo {
        magic: boot::MAGIC,
        flags: if by_ud { boot::FLAG_SYSCALL_BY_UD } else { 0 },
        reserved: 0,
        root: builder.root,
        launch_free: builder.pages.end(),
        free_start: builder.frames,
        user_entry: program.entry,
        user_stack,
        random_bytes: stack_frame + LARGE - PAGE + random_offset,
        heap_start,
        heap_mapped: heap_start + HEAP_MAPPED,
        c_bit: 0,
        sev_features: 0,
        cpuid_page: 0,
        secrets_page: 0,
        image_start: 0,
        gdt: tables.gdt,
        idt: tables.idt,
        tss: tables.tss,
    };
    let state = FirstState {
        rip: header.entry,
        cr3: builder.root,
        cr4: parameters.cr4,
        xcr0: parameters.xcr0,
        gdt: tables.gdt,
        idt: tables.idt,
        tss: tables.tss,
        lstar: if by_ud {
            VDSO_USER + boot::SYSCALL_OFFSET
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
    Ok(Launch {
        pages,
        runtime: placements,
        end: boot.free_start,
        state,
        shared: std::iter::once(SHARED_PHYSICAL..SHARED_END).collect(),
    })
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
            let rights = bits::PRESENT | bits::WRITE | bits::LARGE | bits::NO_EXECUTE;
            self.pages
                .map(self.root, DIRECT_MAP + physical, level, physical | rights);
            physical += step;
        }
    }

    /// Gives the runtime's segments their frames and maps them.
    fn runtime_image(&mut self, program: &Program) -> Result<Vec<Placement>, LaunchError> {
        let mut placements = Vec::new();
        for (index, segment) in program.segments.iter().enumerate() {
            let start = segment.address - segment.address % LARGE;
            let end = segment.address + segment.size;
            let next = program
                .segments
                .get(index + 1)
                .map_or(u64::MAX, |next| next.address);
            let rights = match (segment.write, segment.execute) {
                (true, true) => {
                    return Err(LaunchError::Parameters("a runtime segment is W and X"));
                }
                (true, false) => Rights::ReadWrite,
                (false, true) => Rights::ReadExecute,
                (false, false) => Rights::Read,
            };
            let frames = self.take(end - start);
            placements.push(Placement {
                gpa: frames + (segment.address - start),
                file: segment.file.clone(),
            });
            let mut address = start;
            while address < end {
                let shared_start = index > 0 && {
                    let before = &program.segments[index - 1];
                    before.address + before.size > address
                };
                // Writable parts are mapped small: the runtime makes some of them read-only.
                if !segment.write && !shared_start && next >= address + LARGE {
                    let entry = user(frames + (address - start), rights, bits::LARGE);
                    self.pages.map(self.root, address, 2, entry);
                } else {
                    let mut page = address.max(segment.address - segment.address % PAGE);
                    while page < end.min(address + LARGE) {
                        self.pages.map(
                            self.root,
                            page,
                            1,
                            user(frames + (page - start), rights, 0),
                        );
                        page += PAGE;
                    }
                }
                address += LARGE;
            }
        }
        Ok(placements)
    }

    /// The first stack: its top 2 MiB have a frame, the rest gets frames on first touch.
    fn user_stack(&mut self, frame: u64) {
        let top = STACK_TOP - LARGE;
        self.pages.map(
            self.root,
            top,
            2,
            user(frame, Rights::ReadWrite, bits::LARGE),
        );
        self.reserve_stack(top);
    }

    fn heap(&mut self, start: u64) {
        for offset in (0..HEAP_MAPPED).step_by(2 << 20) {
            let frame = self.take(LARGE);
            let entry = user(frame, Rights::ReadWrite, bits::LARGE);
            self.pages.map(self.root, start + offset, 2, entry);
        }
    }
}
