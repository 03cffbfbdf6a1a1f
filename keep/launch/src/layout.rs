//! What a launch loads: the one ordered list of pages, the runtime's place, and the first state
//! of every vCPU.

use std::ops::Range;

use enarx_microkernel::boot::{self, BootInfo, ImageHeader};
use enarx_microkernel::exits::EXIT_MEMORY_SIZE;
use enarx_microkernel::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, EXIT_VIRTUAL, HUGE, KERNEL_PHYSICAL, KERNEL_STACK, KERNEL_VIRTUAL,
    LARGE, LAUNCH_END, MAX_VCPUS, PAGE, SALLYPORT_USER, SIGNAL_STACK, STACK_RECORD, STACK_SIZE,
    STACK_TOP, VDSO_USER, round_up, stack_bottom,
};
use enarx_microkernel::paging::{Rights, bits};
use enarx_snp::launch::PageType;
use zerocopy::{FromBytes, IntoBytes};

use crate::elf::{self, ElfError, Program};
use crate::tables::Pages;

/// Heap (`brk`) that is mapped at launch, in bytes of address space; the host gives memory for it
/// on first touch.
const HEAP_MAPPED: u64 = 8 << 20;

/// One page of the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Guest physical address.
    pub gpa: u64,
    /// How it enters, in the words of the SEV-SNP launch; a [`PageType::Vmsa`] is loaded by the host's
    /// KVM itself and only measured.
    pub kind: PageType,
    /// Its 4096 bytes.
    pub bytes: Box<[u8; 4096]>,
}

/// A part of the runtime image that is mapped straight in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Bytes of the image.
    pub file: Range<usize>,
}

/// What may differ from launch to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// vCPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// Guest physical address of the shared memory: sallyport region, then exit memory.
    pub shared: u64,
    /// Size of the sallyport region, in bytes, a multiple of 2 MiB.
    pub sallyport: u64,
    /// The CPU has 1 GiB pages: the direct map is one table whatever the memory. Without them it is
    /// built of 2 MiB pages over the memory there is.
    pub huge_pages: bool,
    /// SYSCALL does not raise the privilege level on this host.
    pub syscall_by_ud: bool,
}

/// Everything a launch loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The ordered page list.
    pub pages: Vec<Page>,
    /// Where the runtime image goes.
    pub runtime: Vec<Placement>,
    /// End of what is loaded; the memory of the Keep must reach beyond it.
    pub end: u64,
    /// Registers that all vCPUs share.
    pub state: State,
}

/// First state of the vCPUs: long mode, CPL0, interrupts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// First instruction.
    pub rip: u64,
    /// Root page table.
    pub cr3: u64,
    /// Base and limit of the GDT.
    pub gdt: (u64, u16),
    /// Base and limit of the IDT.
    pub idt: (u64, u16),
    /// Base of the task state segments, [`TSS_STRIDE`] apart.
    pub tss: u64,
    /// LSTAR.
    pub lstar: u64,
}

/// Distance between the task state segments of two vCPUs.
pub const TSS_STRIDE: u64 = 128;
/// Limit of a task state segment. The I/O map begins beyond it, so CPL3 has no port.
pub const TSS_LIMIT: u16 = 103;
/// Limit of the interrupt descriptor table.
#[allow(clippy::cast_possible_truncation, reason = "asserted below")]
const IDT_LIMIT: u16 = (boot::VECTORS * 16 - 1) as u16;
const _: () = assert!(boot::VECTORS * 16 <= 1 << 16);
/// STAR: SYSCALL enters with CS 0x08, SYSRET returns with CS 0x23 and SS 0x1b.
pub const STAR: u64 = (0x13 << 48) | (0x08 << 32);
/// SFMASK: SYSCALL clears every flag that user code may set except the arithmetic ones.
pub const SFMASK: u64 = 0x0025_7f00;
/// EFER: SCE, LME, LMA, NXE.
pub const EFER: u64 = 0xd01;
/// CR0: PE, MP, ET, NE, WP, AM, PG.
pub const CR0: u64 = 0x8005_0033;
/// CR4: PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE; SMEP, SMAP, UMIP are added where the CPU
/// has them.
pub const CR4: u64 = (1 << 5) | (1 << 7) | (1 << 9) | (1 << 10) | (1 << 16) | (1 << 18);
/// CR4.UMIP.
pub const CR4_UMIP: u64 = 1 << 11;
/// CR4.SMEP.
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP.
pub const CR4_SMAP: u64 = 1 << 21;

impl State {
    /// Stack pointer of a vCPU: its stack record.
    #[must_use]
    pub fn rsp(&self, vcpu: u32) -> u64 {
        stack_bottom(vcpu.into()) + KERNEL_STACK - STACK_RECORD
    }

    /// Base of a vCPU's task state segment.
    #[must_use]
    pub fn tss_base(&self, vcpu: u32) -> u64 {
        self.tss + u64::from(vcpu) * TSS_STRIDE
    }
}

/// Why there is no launch.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// An image is not loadable.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The microkernel image is not one of ours.
    #[error("the microkernel image is not of this version")]
    Microkernel,
    /// An image does not fit where it must lie.
    #[error("{0} does not fit into the launch area")]
    TooLarge(&'static str),
    /// Parameters out of range.
    #[error("{0}")]
    Parameters(&'static str),
}

struct Builder<'a> {
    pages: Pages,
    root: u64,
    parameters: &'a Parameters,
    /// Next free 2 MiB frame.
    frames: u64,
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
    if parameters.vcpus == 0 || parameters.vcpus as usize > MAX_VCPUS {
        return Err(LaunchError::Parameters(
            "the number of vCPUs is out of range",
        ));
    }
    let kernel = elf::parse(microkernel)?;
    let program = elf::parse(runtime)?;
    let mut builder = Builder {
        pages: Pages::new(KERNEL_PHYSICAL),
        root: 0,
        parameters,
        frames: LAUNCH_END,
    };
    let header = builder.kernel_image(&kernel, microkernel)?;
    builder.root = builder.pages.allocate();
    builder.map_kernel(&kernel, &header);
    let state = builder.cpu_tables(&header);
    let placements = builder.runtime_image(&program)?;
    let stack_frame = builder.take(LARGE);
    let heap_start = heap_start(&program)?;
    let (user_stack, stack_bytes, random_offset) = first_stack(&program);
    builder.user_stack(stack_frame);
    builder.heap(heap_start);
    builder.shared();
    let boot = BootInfo {
        magic: boot::MAGIC,
        flags: if parameters.syscall_by_ud {
            boot::FLAG_SYSCALL_BY_UD
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
    };
    let boot_page = header.boot_page - KERNEL_VIRTUAL;
    builder.pages.write(boot_page, boot.as_bytes());
    if builder.pages.end() > LAUNCH_END {
        return Err(LaunchError::TooLarge("the microkernel"));
    }
    let mut pages: Vec<Page> = builder
        .pages
        .into_pages()
        .map(|(gpa, bytes)| Page {
            gpa,
            kind: if bytes.iter().all(|&byte| byte == 0) {
                PageType::Zero
            } else {
                PageType::Normal
            },
            bytes,
        })
        .collect();
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
    })
}

/// First address of the heap: after the runtime, on a 2 MiB boundary.
fn heap_start(program: &Program) -> Result<u64, LaunchError> {
    program
        .segments
        .last()
        .and_then(|last| round_up(last.address + last.size, LARGE))
        .ok_or(LaunchError::TooLarge("the runtime"))
}

/// Name, argument and environment of the runtime. The environment spares calls of its C library: the
/// first memory that it asks for is as large as the runtime sets it later, and restartable sequences,
/// which there are none of, are not asked for.
const STRINGS: &[u8] = b"enarx-runtime\0keep\0GLIBC_TUNABLES=\
    glibc.malloc.top_pad=4194304:glibc.pthread.rseq=0\0";

/// The first stack page as Linux lays it out (System V AMD64 ABI, section 3.4.1): its bytes, the
/// stack pointer, and the offset of the 16 random bytes in the page.
fn first_stack(program: &Program) -> (u64, Box<[u8; 4096]>, u64) {
    let mut bytes = Box::new([0u8; 4096]);
    let page = STACK_TOP - PAGE;
    let strings_offset = 4096 - STRINGS.len();
    bytes[strings_offset..].copy_from_slice(STRINGS);
    let random_offset = (strings_offset - 16) & !15;
    let name_at = page + strings_offset as u64;
    let (table, size, count) = program.headers;
    let mut words = vec![2, name_at, name_at + 14, 0, name_at + 19, 0];
    // The auxiliary vector (Linux `linux/auxvec.h`).
    let auxiliary = [
        (3, table),                        // AT_PHDR
        (4, size),                         // AT_PHENT
        (5, count),                        // AT_PHNUM
        (6, PAGE),                         // AT_PAGESZ
        (9, program.entry),                // AT_ENTRY
        (17, 100),                         // AT_CLKTCK
        (23, 0),                           // AT_SECURE
        (25, page + random_offset as u64), // AT_RANDOM
        (31, name_at),                     // AT_EXECFN
        (33, VDSO_USER),                   // AT_SYSINFO_EHDR
        (0, 0),                            // AT_NULL
    ];
    words.extend(auxiliary.iter().flat_map(|&(kind, value)| [kind, value]));
    let start = (random_offset - words.len() * 8) & !15;
    for (slot, word) in bytes[start..].chunks_exact_mut(8).zip(&words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    (page + start as u64, bytes, random_offset as u64)
}

/// A user page-table entry.
fn user(frame: u64, rights: Rights, extra: u64) -> u64 {
    frame | bits::PRESENT | bits::RESERVED | bits::FRAME | rights.bits() | extra
}

impl Builder<'_> {
    fn take(&mut self, size: u64) -> u64 {
        let frame = self.frames;
        self.frames += size.next_multiple_of(LARGE);
        frame
    }

    /// Copies the microkernel into its pages.
    fn kernel_image(&mut self, kernel: &Program, image: &[u8]) -> Result<ImageHeader, LaunchError> {
        let base = KERNEL_VIRTUAL + KERNEL_PHYSICAL;
        let end = kernel
            .segments
            .last()
            .map_or(0, |last| last.address + last.size);
        let first = kernel.segments.first().ok_or(LaunchError::Microkernel)?;
        let header = image
            .get(first.file.clone())
            .and_then(|bytes| ImageHeader::read_from_prefix(bytes).ok())
            .map(|(header, _)| header)
            .filter(|header| header.magic == boot::IMAGE_MAGIC)
            .ok_or(LaunchError::Microkernel)?;
        if first.address != base || end <= base || end - KERNEL_VIRTUAL > LAUNCH_END {
            return Err(LaunchError::Microkernel);
        }
        while self.pages.end() < end - KERNEL_VIRTUAL {
            self.pages.allocate();
        }
        for segment in &kernel.segments {
            self.pages.write(
                segment.address - KERNEL_VIRTUAL,
                &image[segment.file.clone()],
            );
        }
        Ok(header)
    }

    /// Kernel half: image by its rights, stacks, exit memory, direct map; and the user pages.
    fn map_kernel(&mut self, kernel: &Program, header: &ImageHeader) {
        for segment in &kernel.segments {
            let mut address = segment.address - segment.address % PAGE;
            while address < segment.address + segment.size {
                let rights = (if segment.write { bits::WRITE } else { 0 })
                    | (if segment.execute { 0 } else { bits::NO_EXECUTE });
                let entry = (address - KERNEL_VIRTUAL) | bits::PRESENT | rights;
                self.pages.map(self.root, address, 1, entry);
                address += PAGE;
            }
        }
        let (level, step, end) = if self.parameters.huge_pages {
            (3, HUGE, DIRECT_MAP_SIZE)
        } else {
            (2, LARGE, self.parameters.shared)
        };
        let mut physical = 0;
        while physical < end {
            let rights = bits::PRESENT | bits::WRITE | bits::LARGE | bits::NO_EXECUTE;
            self.pages
                .map(self.root, DIRECT_MAP + physical, level, physical | rights);
            physical += step;
        }
        for page in 0..EXIT_MEMORY_SIZE as u64 / PAGE {
            let physical = self.parameters.shared + self.parameters.sallyport + page * PAGE;
            let entry = physical | bits::PRESENT | bits::WRITE | bits::NO_EXECUTE;
            self.pages
                .map(self.root, EXIT_VIRTUAL + page * PAGE, 1, entry);
        }
        let code = header.user_code - KERNEL_VIRTUAL;
        let data = header.user_data - KERNEL_VIRTUAL;
        let pinned = bits::PINNED;
        self.pages.map(
            self.root,
            VDSO_USER,
            1,
            user(code, Rights::ReadExecute, pinned),
        );
        self.pages.map(
            self.root,
            VDSO_USER + PAGE,
            1,
            user(data, Rights::ReadWrite, pinned),
        );
    }

    /// GDT, TSSs, IDT and kernel stacks.
    fn cpu_tables(&mut self, header: &ImageHeader) -> State {
        let gdt_page = self.pages.allocate();
        // Null, kernel code, kernel data, user data, user code (AMD64 APM volume 2, section 4.8).
        let gdt: [u64; 5] = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
        ];
        self.pages.write(gdt_page, gdt.as_bytes());
        let idt_page = self.pages.allocate();
        for vector in 0..boot::VECTORS {
            let handler = header.vectors + vector * boot::VECTOR_STRIDE;
            // 64-bit interrupt gate, DPL 0, IST1, kernel code segment.
            let low = (handler & 0xffff)
                | (0x08 << 16)
                | (1 << 32)
                | (0x8e << 40)
                | (((handler >> 16) & 0xffff) << 48);
            self.pages.write_u64(idt_page + vector * 16, low);
            self.pages
                .write_u64(idt_page + vector * 16 + 8, handler >> 32);
        }
        let state = State {
            rip: header.entry,
            cr3: self.root,
            gdt: (DIRECT_MAP + gdt_page, 39),
            idt: (DIRECT_MAP + idt_page, IDT_LIMIT),
            tss: 0,
            lstar: if self.parameters.syscall_by_ud {
                VDSO_USER + boot::SYSCALL_OFFSET
            } else {
                header.syscall_entry
            },
        };
        let vcpus = self.parameters.vcpus;
        let tss_start = self.pages.end();
        while self.pages.end() < tss_start + u64::from(vcpus) * TSS_STRIDE {
            self.pages.allocate();
        }
        let state = State {
            tss: DIRECT_MAP + tss_start,
            ..state
        };
        for vcpu in 0..vcpus {
            let top = state.rsp(vcpu);
            let tss = tss_start + u64::from(vcpu) * TSS_STRIDE;
            // RSP0 and IST1; the I/O map base lies beyond the limit.
            self.pages.write_u64(tss + 4, top);
            self.pages.write_u64(tss + 36, top);
            self.pages.write(tss + 102, &(TSS_LIMIT + 1).to_le_bytes());
            let bottom = stack_bottom(vcpu.into());
            let mut page = 0;
            for offset in (0..KERNEL_STACK).step_by(4096) {
                page = self.pages.allocate();
                let entry = page | bits::PRESENT | bits::WRITE | bits::NO_EXECUTE;
                self.pages.map(self.root, bottom + offset, 1, entry);
            }
            // The stack record: where the SYSCALL entry finds the stack.
            self.pages.write_u64(page + PAGE - STACK_RECORD, top);
        }
        state
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

    /// The first stack: its top 2 MiB have a frame, the rest gets frames on first touch, and so does the
    /// alternate signal stack.
    fn user_stack(&mut self, frame: u64) {
        let top = STACK_TOP - LARGE;
        self.pages.map(
            self.root,
            top,
            2,
            user(frame, Rights::ReadWrite, bits::LARGE),
        );
        let untouched = bits::RESERVED | Rights::ReadWrite.bits();
        let mut address = STACK_TOP - STACK_SIZE;
        while address < top {
            self.pages.map(self.root, address, 2, untouched);
            address += LARGE;
        }
        self.pages.map(self.root, SIGNAL_STACK, 2, untouched);
    }

    fn heap(&mut self, start: u64) {
        for offset in (0..HEAP_MAPPED).step_by(2 << 20) {
            let frame = self.take(LARGE);
            let entry = user(frame, Rights::ReadWrite, bits::LARGE);
            self.pages.map(self.root, start + offset, 2, entry);
        }
    }

    /// The sallyport region, at its user address.
    fn shared(&mut self) {
        for offset in (0..self.parameters.sallyport).step_by(2 << 20) {
            let entry = user(
                self.parameters.shared + offset,
                Rights::ReadWrite,
                bits::LARGE | bits::PINNED,
            );
            self.pages.map(self.root, SALLYPORT_USER + offset, 2, entry);
        }
    }
}
