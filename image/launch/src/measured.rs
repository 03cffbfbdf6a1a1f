// SPDX-License-Identifier: Apache-2.0

//! The launch of a measured Keep (SEV-SNP, or the simulated platform): the secure processor measures
//! the pages of this list, in this order, and the first state of every vCPU. The list depends on the
//! images, the place of the C-bit, the number of vCPUs and their SEV features, and on nothing else: neither on
//! the Keep's memory nor on the model of the CPU.
//!
//! The runtime image lies in shared memory; its digest is part of the loader's measured pages.

use std::collections::BTreeSet;

use enarx_boot::address::{CBit, Gpa, PhysAddr};
use enarx_boot::boot_page::{self, BootInfo};
use enarx_boot::first_state::{CR4, CR4_MCE, FirstState, XCR0};
use enarx_boot::image_info::{self, ImageInfo, SEGMENTS};
use enarx_boot::layout::{
    DIRECT_MAP, IMAGE_USER, KERNEL_VIRTUAL, LARGE, PAGE, SHARED_END, SHARED_PHYSICAL, STACK_TOP,
    USER_START, round_up,
};
use enarx_boot::page_table::{Pte, PteFlags, Rights};
use enarx_snp::launch::{PageType, VMSA_GPA};
use zerocopy::{FromZeros, IntoBytes};

use crate::Runtime;
use crate::elf::{self, Program};
use crate::layout::{
    Builder, Launch, LaunchError, Page, Placement, check_vcpus, first_stack, heap_start, user,
};
use crate::variant::Variant;

/// The C-bit of every EPYC with SEV-SNP so far (CPUID 0x8000001f, EBX bits 5:0).
pub const C_BIT: u32 = 51;

/// The C-bit of the simulated platform: the highest that nested page tables of four levels reach.
pub const SIMULATED_C_BIT: u32 = 47;

/// vCPUs of a Keep beyond its processors: sleeping threads keep theirs.
pub const SPARE_VCPUS: u32 = 2;

/// The programs of a Keep.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The microkernel.
    pub microkernel: &'a [u8],
    /// The loader.
    pub loader: &'a [u8],
    /// The runtime.
    pub runtime: Runtime<'a>,
}

/// The parameters that may differ from launch to launch, and change the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// vCPUs, 1 to 64.
    pub vcpus: u32,
    /// Number of the C-bit, 40 to 51.
    pub c_bit: u32,
    /// Fault reports contain addresses, which reveal information about the application to the host: for
    /// development only.
    pub fault_addresses: bool,
    /// Its SEV features are those of every vCPU. The guest policy is in every report and not in the measurement.
    pub variant: Variant,
}

/// Lays out a measured Keep.
///
/// # Errors
/// [`LaunchError`] for images or parameters that cannot be laid out.
pub fn launch(images: &Images<'_>, parameters: &Parameters) -> Result<Launch, LaunchError> {
    check_vcpus(parameters.vcpus)?;
    let c_bit = c_bit(parameters.c_bit)?;
    let kernel = elf::parse(images.microkernel)?;
    let loader = elf::parse(images.loader)?;
    let program = elf::parse(images.runtime.bytes())?;
    let mut builder = Builder::new(c_bit);
    let header = builder.kernel_image(&kernel, images.microkernel)?;
    builder.root = builder.pages.allocate();
    builder.map_kernel(&kernel, &header);
    // The microkernel gives the other vCPUs theirs when it starts them.
    let tables = builder.cpu_tables(&header, 1);
    let [cpuid_page, secrets_page] = [(); 2].map(|()| builder.pages.allocate());
    let image = image_info(images.runtime, &program)?;
    let mut constants = builder.loader(&loader, images.loader, &image)?;
    let image_start = builder.take(image.length);
    builder.image_window(image_start, image.length);
    let heap_start = heap_start(&program)?;
    let (user_stack, stack_bytes, random_offset) = first_stack(&program)?;
    let stack_page = builder.first_stack_page(&stack_bytes);
    builder.sallyport();
    let unexpected_start = builder.pages.end();
    let unexpected_root = builder.unexpected_vcpu_tables(header.unexpected_vcpu_entry);
    constants.extend((unexpected_start..builder.pages.end()).step_by(4096));
    constants.insert(cpuid_page);
    constants.extend([tables.gdt, tables.idt, tables.tss].map(|address| address - DIRECT_MAP));
    builder.ledger(&kernel, &constants);
    let boot = BootInfo {
        magic: boot_page::MAGIC,
        flags: if parameters.fault_addresses {
            boot_page::FLAG_SNP | boot_page::FLAG_FAULT_ADDRESSES
        } else {
            boot_page::FLAG_SNP
        },
        reserved: 0,
        root: builder.root,
        launch_free: builder.pages.end(),
        free_start: builder.frames,
        user_entry: loader.entry,
        user_stack,
        random_bytes: stack_page + random_offset,
        heap_start,
        heap_mapped: heap_start,
        c_bit: c_bit.mask(),
        sev_features: parameters.variant.features(),
        cpuid_page,
        secrets_page,
        image_start,
        gdt: tables.gdt,
        idt: tables.idt,
        loader_end: loader_end(&loader, &program)?,
    };
    let state = FirstState {
        rip: header.entry,
        cr3: builder.private(builder.root),
        cr4: CR4 | CR4_MCE,
        cr2: 0,
        xcr0: XCR0,
        tables: Some(tables),
        lstar: header.syscall_entry,
        sev_features: parameters.variant.features(),
    };
    let mut pages = builder.finish(&header, &boot)?;
    for page in &mut pages {
        if page.gpa == cpuid_page {
            page.kind = PageType::Cpuid;
        } else if page.gpa == secrets_page {
            page.kind = PageType::Secrets;
        }
    }
    // The host can run a measured vCPU at any time, even in parallel with the vCPU of the same number that the guest
    // has started, and inject any event before its first instruction. It must not reach anything of the
    // other.
    let unexpected = FirstState {
        rip: header.unexpected_vcpu_entry,
        cr3: c_bit.private(Gpa::new(unexpected_root)),
        tables: None,
        lstar: header.unexpected_vcpu_entry,
        ..state
    };
    pages.push(vmsa(&state, 0));
    pages.extend((1..u64::from(parameters.vcpus)).map(|vcpu| vmsa(&unexpected, vcpu)));
    Ok(Launch {
        pages,
        runtime: vec![Placement {
            gpa: image_start,
            file: 0..images.runtime.bytes().len(),
        }],
        end: boot.free_start,
        state,
        shared: vec![SHARED_PHYSICAL..SHARED_END, image_start..boot.free_start],
    })
}

/// The C-bit with this number.
fn c_bit(number: u32) -> Result<CBit, LaunchError> {
    Some(number)
        .filter(|bit| (40..=51).contains(bit))
        .and_then(|bit| CBit::new(1 << bit))
        .ok_or(LaunchError::Parameters("the C-bit is out of range"))
}

/// The description of the runtime for the loader.
fn image_info(runtime: Runtime<'_>, program: &Program) -> Result<ImageInfo, LaunchError> {
    Ok(ImageInfo {
        magic: image_info::MAGIC,
        digest: runtime.sha256(),
        length: runtime.bytes().len() as u64,
        entry: program.entry,
        shared: IMAGE_USER,
        count: program.segments.len() as u64,
        segments: segments(program)?,
    })
}

/// The measured page with the first state of a vCPU.
fn vmsa(state: &FirstState, vcpu: u64) -> Page {
    let mut bytes = Box::new([0; 4096]);
    bytes.copy_from_slice(state.vmsa(vcpu).as_bytes());
    Page {
        gpa: VMSA_GPA,
        kind: PageType::Vmsa,
        bytes,
    }
}

/// Where the loader's address space ends, and the runtime's may begin.
fn loader_end(loader: &Program, runtime: &Program) -> Result<u64, LaunchError> {
    let end = loader
        .segments
        .last()
        .and_then(|last| round_up(last.address + last.size, LARGE))
        .ok_or(LaunchError::Loader)?;
    if runtime.segments.iter().any(|segment| segment.address < end) {
        return Err(LaunchError::Runtime(
            "the runtime lies where the loader does",
        ));
    }
    Ok(end)
}

/// The runtime's segments as described to the loader. A mapping ends on a 2 MiB boundary where nothing
/// else follows before it, so that one large page serves.
fn segments(program: &Program) -> Result<[image_info::Segment; SEGMENTS], LaunchError> {
    let mut segments = [image_info::Segment::new_zeroed(); SEGMENTS];
    if program.segments.len() > SEGMENTS {
        return Err(LaunchError::Runtime("the runtime has too many segments"));
    }
    for (index, (to, segment)) in segments.iter_mut().zip(&program.segments).enumerate() {
        if segment.write && segment.execute {
            return Err(LaunchError::Runtime("a runtime segment is W and X"));
        }
        let start = segment.address - segment.address % PAGE;
        let end = segment.address + segment.size;
        let next = program.segments.get(index + 1);
        let large =
            round_up(end, LARGE).filter(|&large| next.is_none_or(|next| next.address >= large));
        let end = large
            .or(round_up(end, PAGE))
            .ok_or(LaunchError::TooLarge("the runtime"))?;
        let write = if segment.write { image_info::WRITE } else { 0 };
        let execute = if segment.execute {
            image_info::EXECUTE
        } else {
            0
        };
        *to = image_info::Segment {
            address: segment.address,
            start,
            size: end - start,
            offset: segment.file.start as u64,
            length: segment.file.len() as u64,
            rights: write | execute,
        };
    }
    Ok(segments)
}

impl Builder {
    /// The loader's pages, the information page among them, mapped for the user; those that are never
    /// written.
    fn loader(
        &mut self,
        loader: &Program,
        image: &[u8],
        information: &ImageInfo,
    ) -> Result<BTreeSet<u64>, LaunchError> {
        let mut placed = false;
        let mut constants = BTreeSet::new();
        for segment in &loader.segments {
            let rights = match (segment.write, segment.execute) {
                (true, true) => return Err(LaunchError::Loader),
                (true, false) => Rights::ReadWrite,
                (false, true) => Rights::ReadExecute,
                (false, false) => Rights::Read,
            };
            let end = segment.address + segment.size;
            if !segment.address.is_multiple_of(PAGE) || segment.address < USER_START {
                return Err(LaunchError::Loader);
            }
            let mut bytes = image[segment.file.clone()].chunks(4096);
            for address in (segment.address..end).step_by(4096) {
                let page = self.pages.allocate();
                self.pages.write(page, bytes.next().unwrap_or(&[]));
                let entry = user(self.private(page), rights, PteFlags::empty());
                self.pages.map(self.root, address, 1, entry);
                if !segment.write {
                    constants.insert(page);
                }
                if address == image_info::ADDRESS {
                    self.pages.write(page, information.as_bytes());
                    placed = rights == Rights::Read;
                }
            }
        }
        if placed {
            Ok(constants)
        } else {
            Err(LaunchError::Loader)
        }
    }

    /// The shared pages with the runtime image, where the loader finds them.
    fn image_window(&mut self, start: u64, length: u64) {
        for offset in (0..length).step_by(2 << 20) {
            let page = PhysAddr::shared(Gpa::new(start + offset));
            let entry = user(page, Rights::Read, PteFlags::LARGE | PteFlags::PINNED);
            self.pages.map(self.root, IMAGE_USER + offset, 2, entry);
        }
    }

    /// The first stack: its top page is part of the launch, the rest gets frames on first touch.
    fn first_stack_page(&mut self, bytes: &[u8; 4096]) -> u64 {
        let page = self.pages.allocate();
        self.pages.write(page, bytes);
        let entry = user(self.private(page), Rights::ReadWrite, PteFlags::empty());
        self.pages.map(self.root, STACK_TOP - PAGE, 1, entry);
        let rest = Pte::reserved(Rights::ReadWrite);
        for address in (STACK_TOP - LARGE..STACK_TOP - PAGE).step_by(4096) {
            self.pages.map(self.root, address, 1, rest);
        }
        self.reserve_stack(STACK_TOP - LARGE);
        page
    }

    /// Tables that map the page with the entry of an unexpected vCPU and nothing else; the first of them.
    fn unexpected_vcpu_tables(&mut self, entry: u64) -> u64 {
        let root = self.pages.allocate();
        let page = entry - entry % PAGE;
        let code = Pte::new(self.private(page - KERNEL_VIRTUAL), PteFlags::PRESENT);
        self.pages.map(root, page, 1, code);
        root
    }

    /// The direct map of the pages of the launch, and of nothing else: it is the ledger of the
    /// private pages that are valid. The microkernel's code and constants are not writable there, nor are
    /// the pages of `constants`.
    fn ledger(&mut self, kernel: &Program, constants: &BTreeSet<u64>) {
        // Its tables are pages of the launch too: made before the list is complete.
        self.pages.map(self.root, DIRECT_MAP, 1, Pte::EMPTY);
        let constant = |gpa: u64| {
            let address = gpa + KERNEL_VIRTUAL;
            let contains = |segment: &&elf::Segment| {
                (segment.address..segment.address + segment.size).contains(&address)
            };
            let segment = kernel.segments.iter().find(contains);
            constants.contains(&gpa) || segment.is_some_and(|segment| !segment.write)
        };
        for gpa in (self.pages.start()..self.pages.end()).step_by(4096) {
            let flags = if constant(gpa) {
                PteFlags::KERNEL_CONSTANT
            } else {
                PteFlags::KERNEL_DATA
            };
            let entry = Pte::new(self.private(gpa), flags);
            self.pages.map(self.root, DIRECT_MAP + gpa, 1, entry);
        }
    }
}
