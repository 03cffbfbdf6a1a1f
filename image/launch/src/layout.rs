// SPDX-License-Identifier: Apache-2.0

//! The contents of a launch, and the parts that every kind of launch is built from.

use std::ops::Range;

use enarx_boot::address::{CBit, Gpa, PhysAddr};
use enarx_boot::boot_page::{self, BootInfo, ImageHeader};
use enarx_boot::first_state::{CpuTables, FirstState, TSS_STRIDE, TaskState};
use enarx_boot::layout::{
    DIRECT_MAP, EXIT_PHYSICAL, EXIT_VIRTUAL, KERNEL_PHYSICAL, KERNEL_STACK, KERNEL_VIRTUAL, LARGE,
    LAUNCH_END, MAX_VCPUS, PAGE, SALLYPORT_SIZE, SALLYPORT_USER, SHARED_END, SHARED_PHYSICAL,
    SIGNAL_STACK, STACK_RECORD, STACK_SIZE, STACK_TOP, VDSO_USER, round_up, stack_bottom,
};
use enarx_boot::page_table::{Pte, PteFlags, Rights};
use enarx_snp::launch::PageType;
use zerocopy::{FromBytes, IntoBytes};

use crate::elf::{ElfError, Program};
use crate::tables::Pages;

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

/// A part of the runtime image that is put into the Keep's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Bytes of the image.
    pub file: Range<usize>,
}

/// Everything a launch loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The ordered page list.
    pub pages: Vec<Page>,
    /// Where the runtime image goes: private memory under plain KVM, shared memory otherwise.
    pub runtime: Vec<Placement>,
    /// End of the loaded memory; the memory of the Keep must reach beyond it.
    pub end: u64,
    /// First state of the vCPU that boots; under plain KVM the others differ in number and task state
    /// segment alone.
    pub state: FirstState,
    /// Ranges of guest physical memory that the Keep shares with the host.
    pub shared: Vec<Range<u64>>,
}

/// The reason why there is no launch.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// An image is not loadable.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The microkernel image is not one of ours.
    #[error("the microkernel image is not of this version")]
    Microkernel,
    /// The loader image is not one of ours.
    #[error("the loader image is not of this version")]
    Loader,
    /// An image does not fit where it must lie.
    #[error("{0} does not fit into the launch area")]
    TooLarge(&'static str),
    /// Parameters out of range.
    #[error("{0}")]
    Parameters(&'static str),
    /// The runtime is a program that no Keep can have.
    #[error("{0}")]
    Runtime(&'static str),
}

/// Refuses a number of vCPUs that no Keep can have.
pub(crate) fn check_vcpus(vcpus: u32) -> Result<(), LaunchError> {
    if vcpus == 0 || vcpus as usize > MAX_VCPUS {
        return Err(LaunchError::Parameters(
            "the number of vCPUs is out of range",
        ));
    }
    Ok(())
}

/// A launch under construction.
pub(crate) struct Builder {
    pub pages: Pages,
    pub root: u64,
    /// The C-bit of private pages.
    pub c_bit: CBit,
    /// Next free 2 MiB frame.
    pub frames: u64,
}

/// First address of the heap: after the runtime, on a 2 MiB boundary.
pub(crate) fn heap_start(program: &Program) -> Result<u64, LaunchError> {
    program
        .segments
        .last()
        .and_then(|last| round_up(last.address + last.size, LARGE))
        .ok_or(LaunchError::TooLarge("the runtime"))
}

/// Name of the runtime.
const NAME: &str = "enarx-runtime";

/// Environment of the runtime. It spares calls of its C library: the first memory that it asks for is as
/// large as the runtime sets it later, and it does not ask for restartable sequences, which a Keep does not
/// have.
///
/// The sizes of caches are those of EPYC CPUs, wherever it runs. The C library would take them from CPUID leaves that a
/// host may omit from its page, so the host would control them; and if a copy of less than two pages counts as large,
/// memmove(3) of glibc 2.36 never ends.
const ENVIRONMENT: &str = concat!(
    "GLIBC_TUNABLES=glibc.malloc.top_pad=4194304:glibc.pthread.rseq=0",
    ":glibc.cpu.x86_data_cache_size=32768:glibc.cpu.x86_shared_cache_size=33554432",
    ":glibc.cpu.x86_non_temporal_threshold=25165824",
);

/// The first stack page as Linux lays it out (System V AMD64 ABI, section 3.4.1): its bytes, the
/// stack pointer, and the offset of the 16 random bytes in the page.
pub(crate) fn first_stack(program: &Program) -> Result<(u64, Box<[u8; 4096]>, u64), LaunchError> {
    let mut bytes = Box::new([0u8; 4096]);
    let page = STACK_TOP - PAGE;
    // The argument says where the sallyport is.
    let argument = format!("keep:{SALLYPORT_USER:#x}");
    let strings = format!("{NAME}\0{argument}\0{ENVIRONMENT}\0");
    let strings_offset = 4096 - strings.len();
    bytes[strings_offset..].copy_from_slice(strings.as_bytes());
    let random_offset = (strings_offset - 16) & !15;
    let name_at = page + strings_offset as u64;
    let (table, size, count) = program
        .headers
        .ok_or(ElfError::Unsupported("program headers outside of it"))?;
    let argument_at = name_at + NAME.len() as u64 + 1;
    let environment_at = argument_at + argument.len() as u64 + 1;
    let mut words = vec![2, name_at, argument_at, 0, environment_at, 0];
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
    Ok((page + start as u64, bytes, random_offset as u64))
}

/// A user page-table entry.
pub(crate) fn user(page: PhysAddr, rights: Rights, extra: PteFlags) -> Pte {
    let flags = PteFlags::PRESENT | PteFlags::RESERVED | PteFlags::FRAME;
    Pte::new(page, flags | rights.flags() | extra)
}

impl Builder {
    pub fn new(c_bit: CBit) -> Self {
        Self {
            pages: Pages::new(KERNEL_PHYSICAL, c_bit),
            root: 0,
            c_bit,
            frames: SHARED_END,
        }
    }

    /// The address of a private page of the Keep, for entries and CR3.
    pub fn private(&self, gpa: u64) -> PhysAddr {
        self.c_bit.private(Gpa::new(gpa))
    }

    pub fn take(&mut self, size: u64) -> u64 {
        let frame = self.frames;
        self.frames += size.next_multiple_of(LARGE);
        frame
    }

    /// Copies the microkernel into its pages.
    ///
    /// # Errors
    /// [`LaunchError::Microkernel`].
    pub fn kernel_image(
        &mut self,
        kernel: &Program,
        image: &[u8],
    ) -> Result<ImageHeader, LaunchError> {
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
            .filter(|header| header.magic == boot_page::IMAGE_MAGIC)
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

    /// Kernel half: image by its rights, exit memory; and the user pages of the image.
    pub fn map_kernel(&mut self, kernel: &Program, header: &ImageHeader) {
        for segment in &kernel.segments {
            let mut address = segment.address - segment.address % PAGE;
            while address < segment.address + segment.size {
                let mut flags = PteFlags::PRESENT;
                flags.set(PteFlags::WRITE, segment.write);
                flags.set(PteFlags::NO_EXECUTE, !segment.execute);
                let entry = Pte::new(self.private(address - KERNEL_VIRTUAL), flags);
                self.pages.map(self.root, address, 1, entry);
                address += PAGE;
            }
        }
        let exit = PhysAddr::shared(Gpa::new(EXIT_PHYSICAL));
        let entry = Pte::new(exit, PteFlags::KERNEL_DATA | PteFlags::LARGE);
        self.pages.map(self.root, EXIT_VIRTUAL, 2, entry);
        let code = self.private(header.user_code - KERNEL_VIRTUAL);
        let data = self.private(header.user_data - KERNEL_VIRTUAL);
        let code = user(code, Rights::ReadExecute, PteFlags::PINNED);
        let data = user(data, Rights::ReadWrite, PteFlags::PINNED);
        self.pages.map(self.root, VDSO_USER, 1, code);
        self.pages.map(self.root, VDSO_USER + PAGE, 1, data);
    }

    /// GDT, IDT, and the task state segments, [`TSS_STRIDE`] apart, and kernel stacks of `vcpus` vCPUs;
    /// the tables of the first.
    pub fn cpu_tables(&mut self, header: &ImageHeader, vcpus: u64) -> CpuTables {
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
        for vector in 0..boot_page::VECTORS {
            let handler = header.vectors + vector * boot_page::VECTOR_STRIDE;
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
        let tss_start = self.pages.end();
        while self.pages.end() < tss_start + vcpus * TSS_STRIDE {
            self.pages.allocate();
        }
        for vcpu in 0..vcpus {
            let tss = TaskState::new(vcpu);
            self.pages
                .write(tss_start + vcpu * TSS_STRIDE, tss.as_bytes());
        }
        for vcpu in 0..vcpus {
            let bottom = stack_bottom(vcpu);
            let mut page = 0;
            for offset in (0..KERNEL_STACK).step_by(4096) {
                page = self.pages.allocate();
                let entry = Pte::new(self.private(page), PteFlags::KERNEL_DATA);
                self.pages.map(self.root, bottom + offset, 1, entry);
            }
            // The stack record: where the SYSCALL entry finds the stack.
            let top = bottom + KERNEL_STACK - STACK_RECORD;
            self.pages.write_u64(page + PAGE - STACK_RECORD, top);
        }
        CpuTables {
            gdt: DIRECT_MAP + gdt_page,
            idt: DIRECT_MAP + idt_page,
            tss: DIRECT_MAP + tss_start,
        }
    }

    /// The sallyport region, at its user address.
    pub fn sallyport(&mut self) {
        for offset in (0..SALLYPORT_SIZE).step_by(2 << 20) {
            let page = PhysAddr::shared(Gpa::new(SHARED_PHYSICAL + offset));
            let entry = user(page, Rights::ReadWrite, PteFlags::LARGE | PteFlags::PINNED);
            self.pages.map(self.root, SALLYPORT_USER + offset, 2, entry);
        }
    }

    /// Address space of the first stack below `top`, and of the alternate signal stack, that gets
    /// frames on first touch.
    pub fn reserve_stack(&mut self, top: u64) {
        let untouched = Pte::reserved(Rights::ReadWrite);
        let mut address = STACK_TOP - STACK_SIZE;
        while address < top {
            self.pages.map(self.root, address, 2, untouched);
            address += LARGE;
        }
        self.pages.map(self.root, SIGNAL_STACK, 2, untouched);
    }

    /// Writes the boot page, and ends the construction: the page list.
    ///
    /// # Errors
    /// [`LaunchError::TooLarge`].
    pub fn finish(
        mut self,
        header: &ImageHeader,
        boot: &BootInfo,
    ) -> Result<Vec<Page>, LaunchError> {
        self.pages
            .write(header.boot_page - KERNEL_VIRTUAL, boot.as_bytes());
        if self.pages.end() > LAUNCH_END {
            return Err(LaunchError::TooLarge(
                "the microkernel, with the tables and data that go with it,",
            ));
        }
        let page = |(gpa, bytes): (u64, Box<[u8; 4096]>)| Page {
            gpa,
            kind: if bytes.iter().all(|&byte| byte == 0) {
                PageType::Zero
            } else {
                PageType::Normal
            },
            bytes,
        };
        Ok(self.pages.into_pages().map(page).collect())
    }
}
