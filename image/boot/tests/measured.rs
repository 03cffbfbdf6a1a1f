// SPDX-License-Identifier: Apache-2.0

//! The launch of a measured Keep, with the built programs: what is measured, and what is reachable through
//! the first page tables.

mod laid_out;

use std::collections::{BTreeMap, BTreeSet};

use enarx_boot::boot_page::{self, BootInfo, ImageHeader};
use enarx_boot::first_state::{FirstState, TaskState};
use enarx_boot::image_info::{self, ImageInfo};
use enarx_boot::layout::{
    DIRECT_MAP, DIRECT_MAP_SIZE, EXIT_PHYSICAL, EXIT_VIRTUAL, IMAGE_USER, KERNEL_PHYSICAL,
    KERNEL_STACK, KERNEL_VIRTUAL, LARGE, LAUNCH_END, MAX_VCPUS, PAGE, SALLYPORT_SIZE,
    SALLYPORT_USER, SHARED_END, SHARED_PHYSICAL, STACK_STRIDE, STACK_TOP, STACKS_VIRTUAL, USER_END,
    VDSO_USER, stack_bottom,
};
use enarx_boot::page_table::{ADDRESS, Pte, PteFlags};
use enarx_boot_image::{LOADER, MICROKERNEL, MICROKERNEL_SIMULATED};
use enarx_launch::Runtime;
use enarx_launch::elf;
use enarx_launch::layout::{Launch, LaunchError, Page};
use enarx_launch::measured::{C_BIT, Images, Parameters, launch};
use enarx_launch::variant::{Property, Variant};
use enarx_snp::launch::{PageType, VMSA_GPA};
use enarx_snp::vmsa::Vmsa;
use laid_out::{Leaf, leaves, leaves_under, program};
use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, IntoBytes};

/// Most pages that a launch of eight vCPUs measures.
const MOST_PAGES: usize = 96;
const PRIVATE: u64 = 1 << C_BIT;

fn parameters(vcpus: u32, c_bit: u32) -> Parameters {
    Parameters {
        vcpus,
        c_bit,
        fault_addresses: false,
        variant: Variant::PLAIN,
    }
}

fn laid_out_with(microkernel: &[u8], runtime: &[u8], vcpus: u32, c_bit: u32) -> Launch {
    let images = Images {
        microkernel,
        loader: LOADER,
        runtime: Runtime::of(runtime),
    };
    launch(&images, &parameters(vcpus, c_bit)).unwrap()
}

fn laid_out(vcpus: u32) -> Launch {
    laid_out_with(MICROKERNEL, &program(), vcpus, C_BIT)
}

/// The pages that are loaded, by address.
fn loaded(launch: &Launch) -> BTreeMap<u64, &Page> {
    launch
        .pages
        .iter()
        .filter(|page| page.kind != PageType::Vmsa)
        .map(|page| (page.gpa, page))
        .collect()
}

fn only(launch: &Launch, kind: PageType) -> u64 {
    let mut pages = launch.pages.iter().filter(|page| page.kind == kind);
    let page = pages.next().unwrap();
    assert!(pages.next().is_none());
    page.gpa
}

fn header(launch: &Launch) -> ImageHeader {
    let (header, _) = ImageHeader::read_from_prefix(&launch.pages[0].bytes[..]).unwrap();
    assert_eq!(header.magic, boot_page::IMAGE_MAGIC);
    header
}

fn boot_info(launch: &Launch) -> BootInfo {
    let at = header(launch).boot_page - KERNEL_VIRTUAL;
    let page = loaded(launch)[&at];
    BootInfo::read_from_prefix(&page.bytes[..]).unwrap().0
}

/// The addresses of the pages in which two launches differ.
fn changed(one: &Launch, other: &Launch) -> Vec<u64> {
    let pairs = one.pages.iter().zip(&other.pages);
    let differing = pairs.filter(|(one, other)| one != other);
    differing.map(|(page, _)| page.gpa).collect()
}

#[test]
fn few_pages_are_measured() {
    for microkernel in [MICROKERNEL, MICROKERNEL_SIMULATED] {
        for vcpus in 1..=8 {
            let count = laid_out_with(microkernel, &program(), vcpus, C_BIT)
                .pages
                .len();
            assert!(count <= MOST_PAGES, "{count} pages for {vcpus} vCPUs");
        }
    }
}

#[test]
fn the_list_depends_only_on_images_c_bit_and_vcpus() {
    let one = laid_out(1);
    assert_eq!(one, laid_out(1));
    for vcpus in [2, 8, 64] {
        let more = laid_out(vcpus);
        let (pages, states) = more.pages.split_at(one.pages.len() - 1);
        assert_eq!(pages, &one.pages[..pages.len()], "only states are added");
        assert_eq!(states.len(), vcpus as usize);
        assert_eq!((more.end, &more.shared), (one.end, &one.shared));
    }
    // A byte of the runtime changes one page: the one with its digest.
    let mut runtime = program();
    runtime[0x1234] ^= 1;
    let other = laid_out_with(MICROKERNEL, &runtime, 1, C_BIT);
    assert_eq!(changed(&one, &other), [information(&one).0]);
    assert_eq!(other.pages.len(), one.pages.len());
    // Another C-bit changes tables, not contents.
    let other = laid_out_with(MICROKERNEL, &program(), 1, 47);
    assert_ne!(other, one);
    assert_eq!(other.pages.len(), one.pages.len());
    assert_ne!(
        laid_out_with(MICROKERNEL_SIMULATED, &program(), 1, C_BIT),
        one
    );
    // Addresses in fault reports change the boot page.
    let runtime = program();
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&runtime),
    };
    let with_addresses = Parameters {
        fault_addresses: true,
        ..parameters(1, C_BIT)
    };
    let other = launch(&images, &with_addresses).unwrap();
    assert_eq!(
        changed(&one, &other),
        [header(&one).boot_page - KERNEL_VIRTUAL]
    );
    let flags = boot_page::FLAG_SNP | boot_page::FLAG_FAULT_ADDRESSES;
    assert_eq!(boot_info(&other).flags, flags);
    // SEV features change the boot page and the state of every vCPU; the guest policy changes nothing.
    let of_variant = |name| Parameters {
        variant: Variant::PLAIN.with(Property::named(name).unwrap(), true),
        ..parameters(2, C_BIT)
    };
    let one = laid_out(2);
    let other = launch(&images, &of_variant("debug-swap")).unwrap();
    let boot_page = header(&one).boot_page - KERNEL_VIRTUAL;
    assert_eq!(changed(&one, &other), [boot_page, VMSA_GPA, VMSA_GPA]);
    for page in &other.pages[other.pages.len() - 2..] {
        let vmsa = Vmsa::read_from_bytes(&page.bytes[..]).unwrap();
        assert_eq!(vmsa.sev_features.get(), 0x21);
    }
    assert_eq!(boot_info(&other).sev_features, 0x21);
    assert_eq!(launch(&images, &of_variant("single-socket")).unwrap(), one);
}

#[test]
fn every_page_has_its_place_and_kind() {
    for vcpus in [1, 8, 64] {
        let launch = laid_out(vcpus);
        let boot = boot_info(&launch);
        let states = launch.pages.len() - vcpus as usize;
        for (index, page) in launch.pages[..states].iter().enumerate() {
            assert_eq!(page.gpa, KERNEL_PHYSICAL + index as u64 * PAGE);
            let zero = page.bytes.iter().all(|&byte| byte == 0);
            match page.kind {
                PageType::Normal => assert!(!zero),
                PageType::Zero | PageType::Cpuid | PageType::Secrets => assert!(zero),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(boot.launch_free, KERNEL_PHYSICAL + states as u64 * PAGE);
        assert!(boot.launch_free <= LAUNCH_END);
        assert_eq!(boot.cpuid_page, only(&launch, PageType::Cpuid));
        assert_eq!(boot.secrets_page, only(&launch, PageType::Secrets));
        for (number, page) in (0..).zip(&launch.pages[states..]) {
            assert_eq!((page.gpa, page.kind), (VMSA_GPA, PageType::Vmsa));
            if number == 0 {
                assert_eq!(page.bytes[..], launch.state.vmsa(0).as_bytes()[..]);
            }
        }
        assert_eq!(launch.state.cr3.get(), boot.root | PRIVATE);
        assert_eq!(launch.state.sev_features, 1);
        assert_eq!((boot.flags, boot.c_bit), (boot_page::FLAG_SNP, PRIVATE));
        assert_eq!(boot.sev_features, 1);
    }
}

/// A host can run a measured vCPU at any time, also while the guest runs one with that number, and
/// inject events before its first instruction.
#[test]
fn a_vcpu_started_only_by_the_host_reaches_nothing() {
    for microkernel in [MICROKERNEL, MICROKERNEL_SIMULATED] {
        let launch = laid_out_with(microkernel, &program(), 64, C_BIT);
        let entry = header(&launch).unexpected_vcpu_entry;
        let states = launch
            .pages
            .iter()
            .filter(|page| page.kind == PageType::Vmsa);
        for (number, page) in (0..).zip(states).skip(1) {
            let vmsa = Vmsa::read_from_bytes(&page.bytes[..]).unwrap();
            assert_eq!((vmsa.idtr.base.get(), vmsa.idtr.limit.get()), (0, 0));
            assert_eq!((vmsa.tr.base.get(), vmsa.tr.limit.get()), (0, 0));
            assert_eq!((vmsa.gdtr.base.get(), vmsa.gdtr.limit.get()), (0, 0));
            assert_eq!((vmsa.rsp.get(), vmsa.kernel_gs_base.get()), (0, 0));
            assert_eq!((vmsa.rip.get(), vmsa.lstar.get()), (entry, entry));
            let state = FirstState {
                rip: entry,
                cr3: Pte::from_bits(vmsa.cr3.get()).address(),
                tables: None,
                lstar: entry,
                ..launch.state
            };
            assert_eq!(page.bytes[..], state.vmsa(number).as_bytes()[..]);
            // Its tables map only the page of the entry.
            let root = vmsa.cr3.get();
            assert_ne!(root, launch.state.cr3.get());
            let (found, tables) = leaves_under(&launch, root, PRIVATE);
            let [leaf] = &found[..] else {
                panic!("{} pages are mapped", found.len());
            };
            assert_eq!(leaf.address, entry & !(PAGE - 1));
            let frame = (leaf.address - KERNEL_VIRTUAL) | PRIVATE;
            assert_eq!(leaf.entry, frame | PteFlags::PRESENT.bits());
            assert!(!tables.contains(&(launch.state.cr3.get() & !PRIVATE)));
        }
    }
}

/// The microkernel creates the task state segments of the others.
#[test]
fn only_the_first_vcpu_has_a_stack_in_the_launch() {
    let launch = laid_out(64);
    let tables = launch.state.tables.unwrap();
    let page = loaded(&launch)[&(tables.tss - DIRECT_MAP)];
    let own = TaskState::new(0);
    let (first, rest) = page.bytes.split_at(size_of_val(&own));
    assert_eq!(first, own.as_bytes());
    assert!(rest.iter().all(|&byte| byte == 0));
    let (found, _) = leaves(&launch, PRIVATE);
    let stacks = STACKS_VIRTUAL..STACKS_VIRTUAL + MAX_VCPUS as u64 * STACK_STRIDE;
    for leaf in found.iter().filter(|leaf| stacks.contains(&leaf.address)) {
        assert!((stack_bottom(0)..stack_bottom(0) + KERNEL_STACK).contains(&leaf.address));
    }
}

#[test]
fn the_runtime_lies_in_shared_memory() {
    let launch = laid_out(4);
    let boot = boot_info(&launch);
    let [placement] = &launch.runtime[..] else {
        panic!("one piece");
    };
    assert_eq!(placement.gpa, boot.image_start);
    assert_eq!(placement.file, 0..program().len());
    assert_eq!(
        launch.shared,
        [
            SHARED_PHYSICAL..SHARED_END,
            boot.image_start..boot.free_start
        ]
    );
    assert_eq!(launch.end, boot.free_start);
    assert!(boot.image_start >= SHARED_END && boot.free_start.is_multiple_of(LARGE));
    assert!(boot.free_start - boot.image_start >= program().len() as u64);
}

/// The loader's information page: its address and contents.
fn information(launch: &Launch) -> (u64, ImageInfo) {
    let (found, _) = leaves(launch, PRIVATE);
    let leaf = found
        .iter()
        .find(|leaf| leaf.address == image_info::ADDRESS)
        .unwrap();
    assert_eq!(
        leaf.entry & PteFlags::WRITE.bits(),
        0,
        "the information is writable"
    );
    let gpa = leaf.entry & ADDRESS & !PRIVATE;
    let page = loaded(launch)[&gpa];
    (gpa, ImageInfo::read_from_prefix(&page.bytes[..]).unwrap().0)
}

#[test]
fn the_loader_gets_the_digest_and_the_segments() {
    let (_, image) = information(&laid_out(1));
    let runtime = program();
    let parsed = elf::parse(&runtime).unwrap();
    assert_eq!(image.magic, image_info::MAGIC);
    assert_eq!(image.digest[..], Sha256::digest(&runtime)[..]);
    assert_eq!(
        (image.length, image.entry),
        (runtime.len() as u64, parsed.entry)
    );
    assert_eq!((image.shared, image.count), (IMAGE_USER, 2));
    let mut end = 0;
    for (told, segment) in image.segments.iter().zip(&parsed.segments) {
        assert_eq!(told.address, segment.address);
        assert_eq!(told.offset, segment.file.start as u64);
        assert_eq!(told.length, segment.file.len() as u64);
        assert!(told.start >= end && told.start <= told.address);
        end = told.start + told.size;
        assert!(end >= segment.address + segment.size);
        assert!(told.start.is_multiple_of(PAGE) && told.size.is_multiple_of(PAGE));
        let rights = told.rights & (image_info::WRITE | image_info::EXECUTE);
        assert_eq!(rights & image_info::WRITE != 0, segment.write);
        assert_eq!(rights & image_info::EXECUTE != 0, segment.execute);
    }
}

/// True if the user can access something of the launch area at the address.
fn is_user_accessible(address: u64) -> bool {
    let loader = elf::parse(LOADER).unwrap();
    [VDSO_USER, VDSO_USER + PAGE, STACK_TOP - PAGE].contains(&address)
        || loader
            .segments
            .iter()
            .any(|segment| (segment.address..segment.address + segment.size).contains(&address))
}

#[test]
fn user_code_reaches_only_its_own_pages_and_windows() {
    for (microkernel, vcpus) in [
        (MICROKERNEL, 1),
        (MICROKERNEL, 64),
        (MICROKERNEL_SIMULATED, 8),
    ] {
        let launch = laid_out_with(microkernel, &program(), vcpus, C_BIT);
        let boot = boot_info(&launch);
        let (found, tables) = leaves(&launch, PRIVATE);
        let mut frames = BTreeSet::new();
        for Leaf {
            address,
            size,
            entry,
            user,
        } in found
        {
            if address >= USER_END {
                assert!(!user, "the user reaches {address:#x}");
                continue;
            }
            assert!(user);
            let frame = entry & ADDRESS & !PRIVATE;
            assert!(frames.insert(frame), "{frame:#x} is mapped twice");
            let write = entry & PteFlags::WRITE.bits() != 0;
            let execute = entry & PteFlags::NO_EXECUTE.bits() == 0;
            if frame < LAUNCH_END {
                assert!(is_user_accessible(address) && size == PAGE, "{address:#x}");
            } else if frame < SHARED_END {
                assert!(frame + size <= EXIT_PHYSICAL, "the GHCBs are the kernel's");
                assert_eq!(address - SALLYPORT_USER, frame - SHARED_PHYSICAL);
                assert!(write && !execute && entry & PteFlags::PINNED.bits() != 0);
            } else {
                assert!((boot.image_start..boot.free_start).contains(&frame));
                assert_eq!(address - IMAGE_USER, frame - boot.image_start);
                assert!(!write && !execute && entry & PteFlags::PINNED.bits() != 0);
            }
        }
        let sallyport = frames.range(SHARED_PHYSICAL..SHARED_END).count() as u64;
        assert_eq!(sallyport, SALLYPORT_SIZE / LARGE);
        assert!(frames.contains(&boot.image_start));
        let kernel = elf::parse(microkernel).unwrap();
        let header = header(&launch);
        let user_pages = [header.user_code, header.user_data];
        for segment in &kernel.segments {
            let first = segment.address & !(PAGE - 1);
            for address in (first..segment.address + segment.size).step_by(4096) {
                let reached = frames.contains(&(address - KERNEL_VIRTUAL));
                assert_eq!(reached, user_pages.contains(&address), "{address:#x}");
            }
        }
        let of_map = |address: u64| (address - DIRECT_MAP) & !(PAGE - 1);
        for page in [
            boot.cpuid_page,
            boot.secrets_page,
            header.boot_page - KERNEL_VIRTUAL,
            of_map(boot.gdt),
            of_map(boot.idt),
            of_map(launch.state.tables.unwrap().tss),
        ] {
            assert!(!frames.contains(&page), "the user reaches {page:#x}");
        }
        assert!(frames.is_disjoint(&tables), "the user reaches page tables");
    }
}

#[test]
fn exactly_the_private_pages_have_the_c_bit() {
    for c_bit in [C_BIT, 47, 40] {
        let private = 1u64 << c_bit;
        let launch = laid_out_with(MICROKERNEL, &program(), 8, c_bit);
        // The walk checks the tables' own entries.
        let (found, _) = leaves(&launch, private);
        let mut windows = 0;
        for Leaf {
            address,
            size,
            entry,
            ..
        } in found
        {
            let frame = entry & ADDRESS & !private;
            let shared = launch
                .shared
                .iter()
                .any(|range| range.contains(&frame) && frame + size <= range.end);
            assert_eq!(entry & private == 0, shared, "{address:#x}");
            assert!(shared || frame + size <= LAUNCH_END);
            windows += u32::from(shared);
        }
        // Sallyport, exit memory and the image.
        assert_eq!(windows, 5 + 1 + 1);
    }
}

/// The pages that are never written after the launch, in addition to the microkernel's code and constants: the
/// CPU's tables, the CPUID page, the loader's code and constants, the tables of vCPUs that were not started.
fn constants(launch: &Launch) -> BTreeSet<u64> {
    let tables = launch.state.tables.unwrap();
    let mut constants: BTreeSet<u64> = [tables.gdt, tables.idt, tables.tss]
        .map(|address| address - DIRECT_MAP)
        .into();
    constants.insert(only(launch, PageType::Cpuid));
    let loader = elf::parse(LOADER).unwrap();
    let is_loaders = |address: u64| {
        let contains = |segment: &elf::Segment| {
            !segment.write && (segment.address..segment.address + segment.size).contains(&address)
        };
        loader.segments.iter().any(contains)
    };
    let (found, _) = leaves(launch, PRIVATE);
    let loaders = found.iter().filter(|leaf| is_loaders(leaf.address));
    constants.extend(loaders.map(|leaf| leaf.entry & ADDRESS & !PRIVATE));
    let unexpected = launch
        .pages
        .iter()
        .rfind(|page| page.kind == PageType::Vmsa);
    let vmsa = Vmsa::read_from_bytes(&unexpected.unwrap().bytes[..]).unwrap();
    constants.extend(leaves_under(launch, vmsa.cr3.get(), PRIVATE).1);
    assert!(constants.len() > 12, "{constants:x?}");
    constants
}

/// The boot page is among the microkernel's constants.
#[test]
fn the_boot_page_is_not_writable() {
    let launch = laid_out(1);
    let address = header(&launch).boot_page;
    let (found, _) = leaves(&launch, PRIVATE);
    let leaves: Vec<&Leaf> = found
        .iter()
        .filter(|leaf| leaf.entry & ADDRESS & !PRIVATE == address - KERNEL_VIRTUAL)
        .collect();
    assert_eq!(leaves.len(), 2, "at its address, and in the direct map");
    assert!(
        leaves
            .iter()
            .all(|leaf| leaf.entry & PteFlags::WRITE.bits() == 0)
    );
}

#[test]
fn the_direct_map_is_the_list_of_pages() {
    for microkernel in [MICROKERNEL, MICROKERNEL_SIMULATED] {
        let launch = laid_out_with(microkernel, &program(), 8, C_BIT);
        let kernel = elf::parse(microkernel).unwrap();
        let constants = constants(&launch);
        let (found, _) = leaves(&launch, PRIVATE);
        let mut mapped = BTreeSet::new();
        for leaf in found {
            if !(DIRECT_MAP..DIRECT_MAP + DIRECT_MAP_SIZE).contains(&leaf.address) {
                continue;
            }
            let gpa = leaf.address - DIRECT_MAP;
            assert_eq!(leaf.size, PAGE);
            let constant = kernel.segments.iter().any(|segment| {
                let end = segment.address + segment.size;
                !segment.write && (segment.address..end).contains(&(KERNEL_VIRTUAL + gpa))
            });
            let constant = constant || constants.contains(&gpa);
            let flags = PteFlags::from_bits_retain(leaf.entry ^ (gpa | PRIVATE));
            let rights = PteFlags::NO_EXECUTE | PteFlags::PRESENT;
            let written = PteFlags::WRITE | PteFlags::DIRTY;
            let expected = if constant { rights } else { rights | written };
            assert_eq!(flags, expected | PteFlags::ACCESSED, "{gpa:#x}");
            mapped.insert(gpa);
        }
        let listed: BTreeSet<u64> = loaded(&launch).into_keys().collect();
        assert_eq!(mapped, listed);
    }
}

#[test]
fn nothing_is_writable_and_executable() {
    for microkernel in [MICROKERNEL, MICROKERNEL_SIMULATED] {
        let launch = laid_out_with(microkernel, &program(), 8, C_BIT);
        let (found, _) = leaves(&launch, PRIVATE);
        let mut executed = BTreeSet::new();
        let mut written = BTreeSet::new();
        for Leaf { address, entry, .. } in &found {
            let frame = entry & ADDRESS & !PRIVATE;
            let (write, execute) = (
                entry & PteFlags::WRITE.bits() != 0,
                entry & PteFlags::NO_EXECUTE.bits() == 0,
            );
            assert!(!(write && execute), "{address:#x}");
            if execute && *address >= USER_END {
                assert!(*address >= KERNEL_VIRTUAL && *address < EXIT_VIRTUAL);
                executed.insert(frame);
            }
            if write {
                written.insert(frame);
            }
        }
        assert!(executed.len() > 2);
        assert!(
            executed.is_disjoint(&written),
            "kernel code is writable at another address"
        );
    }
}

#[test]
fn an_impossible_layout_is_refused() {
    let runtime = program();
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&runtime),
    };
    for (vcpus, c_bit) in [
        (0, 51),
        (65, 51),
        (u32::MAX, 51),
        (1, 39),
        (1, 52),
        (1, 200),
    ] {
        let error = launch(&images, &parameters(vcpus, c_bit)).unwrap_err();
        assert!(matches!(error, LaunchError::Parameters(_)), "{error}");
    }
    let parameters = parameters(1, C_BIT);
    // A runtime whose code is writable.
    let mut runtime = program();
    runtime[64 + 4] = 7;
    let other = Images {
        runtime: Runtime::of(&runtime),
        ..images
    };
    let error = launch(&other, &parameters).unwrap_err();
    assert!(matches!(error, LaunchError::Runtime(_)), "{error}");
    for images in [
        Images {
            microkernel: LOADER,
            ..images
        },
        Images {
            loader: MICROKERNEL,
            ..images
        },
        Images {
            loader: images.runtime.bytes(),
            ..images
        },
        Images {
            runtime: Runtime::of(b"none"),
            ..images
        },
    ] {
        let error = launch(&images, &parameters).unwrap_err();
        assert!(
            matches!(
                error,
                LaunchError::Microkernel | LaunchError::Loader | LaunchError::Elf(_)
            ),
            "{error}"
        );
    }
}
