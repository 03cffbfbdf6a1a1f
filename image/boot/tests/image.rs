// SPDX-License-Identifier: Apache-2.0

//! The built microkernel: its size, its instructions, and its layout by a launch on plain KVM.

mod laid_out;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use enarx_boot::first_state::CR4;
use enarx_boot::layout::{
    DIRECT_MAP, EXIT_PHYSICAL, EXIT_VIRTUAL, KERNEL_PHYSICAL, LARGE, LAUNCH_END, PAGE,
    SALLYPORT_SIZE, SALLYPORT_USER, SHARED_END, USER_END, USER_START, VDSO_USER,
};
use enarx_boot::page_table::{ADDRESS, PteFlags};
use enarx_boot_image::{MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED};
use enarx_documents::sources;
use enarx_exits::{COUNTERS_OFFSET, EXIT_MEMORY_SIZE};
use enarx_launch::layout::{Launch, Page};
use enarx_launch::plain::{Parameters, Plan};
use enarx_recipe::{self as recipe, command};
use laid_out::{DATA, Leaf, leaves, program};

/// Most bytes of the image file.
const MOST_BYTES: usize = 256 << 10;
/// Most lines of code: Rust without comments, blank lines and the tests in the sources.
const MOST_LINES: usize = 5400;
/// Most pages of a launch of four vCPUs, other than the runtime.
const MOST_PAGES: usize = 96;

const MEMORY: u64 = 256 << 20;

fn parameters(vcpus: u32, huge_pages: bool) -> Parameters {
    Parameters {
        vcpus,
        memory: MEMORY,
        huge_pages,
        syscall_by_ud: !huge_pages,
        cr4: CR4,
        xcr0: 7,
    }
}

fn laid_out(vcpus: u32, huge_pages: bool) -> Launch {
    let program = program();
    let plan = Plan::new(&program).unwrap();
    plan.launch(MICROKERNEL_PLAIN, &parameters(vcpus, huge_pages))
        .unwrap()
}

fn code_lines(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[test]
fn the_microkernel_is_small() {
    for image in [MICROKERNEL, MICROKERNEL_PLAIN, MICROKERNEL_SIMULATED] {
        assert!(image.len() <= MOST_BYTES, "{} bytes", image.len());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keep/microkernel/src");
    let files = sources(&folder, &[]);
    assert!(files.len() > 10);
    let lines: usize = files
        .iter()
        .map(|file| code_lines(&std::fs::read_to_string(file).unwrap()))
        .sum();
    assert!(lines > 1000);
    assert!(lines <= MOST_LINES, "{lines} lines");
}

/// Constants that a file defines (`NAME = number;`).
fn constants(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.trim().starts_with("//"))
        .flat_map(|line| line.split(';'))
        .filter_map(|definition| definition.split_once(" = "))
        .map(|(name, _)| name.trim())
        .filter(|name| !name.is_empty() && name.chars().all(is_constant_char))
        .collect()
}

fn is_constant_char(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// The compiler does not detect it, because the constants are public.
#[test]
fn every_constant_of_linux_is_used() {
    let keep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keep");
    let mut seen = 0;
    for (definitions, users) in [
        ("microkernel/src/linux.rs", &["microkernel"][..]),
        ("syscall/src/lib.rs", &["microkernel", "loader", "runtime"]),
    ] {
        let definitions = keep.join(definitions);
        let texts: Vec<String> = users
            .iter()
            .flat_map(|user| sources(&keep.join(user).join("src"), &[]))
            .filter(|file| *file != definitions)
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        for name in constants(&std::fs::read_to_string(&definitions).unwrap()) {
            seen += 1;
            let used = texts.iter().any(|text| {
                text.match_indices(name).any(|(at, _)| {
                    !text[..at].ends_with(is_constant_char)
                        && !text[at + name.len()..].starts_with(is_constant_char)
                })
            });
            assert!(used, "{name} is used nowhere");
        }
    }
    assert!(seen > 80, "{seen}");
}

/// The user's vector registers stay in the CPU during system calls, so the microkernel must not
/// touch them. Code of `core` that formats text is compiled beforehand and uses them; panics refer
/// to it, but the panic handler formats nothing.
#[test]
fn the_microkernel_leaves_vector_registers_alone() {
    for program in [
        &recipe::MICROKERNEL,
        &recipe::MICROKERNEL_PLAIN,
        &recipe::MICROKERNEL_SIMULATED,
    ] {
        let offenders = functions_using_vector_registers(program);
        assert!(offenders.is_empty(), "{}: {offenders:#?}", program.name);
    }
}

/// Under SEV-SNP the host is not trusted: no port, no instruction that it answers, no exception that counts as a
/// system call, no counter that it could watch. Plain KVM has them, which shows that this test would find them.
#[test]
fn the_genuine_microkernel_has_no_code_of_other_platforms() {
    let has = |text: &str| {
        let instruction = |name: &str| {
            text.lines().any(|line| {
                let mut words = line.split('\t').skip(1);
                words.any(|word| word.split_whitespace().next() == Some(name))
            })
        };
        // The counter of system calls and that of exceptions, by their addresses.
        let counters = [0, 8].map(|more| {
            let address = EXIT_VIRTUAL + COUNTERS_OFFSET as u64 + more;
            text.contains(&format!("{address:#x}"))
        });
        (
            instruction("out"),
            text.contains("<enarx_invalid_opcode>:"),
            counters.contains(&true),
            ["in", "cpuid", "hlt", "xgetbv", "rdpmc", "rdtscp"].map(instruction),
        )
    };
    let genuine = has(&disassembly(&recipe::MICROKERNEL));
    assert_eq!(genuine, (false, false, false, [false; 6]));
    let plain = has(&disassembly(&recipe::MICROKERNEL_PLAIN));
    assert_eq!(plain, (true, true, true, [false; 6]));
}

/// The instructions of `program`, with the names of its functions.
fn disassembly(program: &recipe::Program) -> String {
    // Programs of the same package are built in the same place.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = workspace.canonicalize().unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unstripped");
    let status = command(&workspace, &target, program)
        .env("CARGO_PROFILE_KEEP_STRIP", "none")
        .status()
        .unwrap();
    assert!(status.success());
    let output = Command::new("objdump")
        .args(["-d", "--demangle", "--no-show-raw-insn"])
        .arg(recipe::built(&target, program))
        .output()
        .expect("the tests need objdump (binutils)");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The functions of `program` that use vector registers, except those that format text.
fn functions_using_vector_registers(program: &recipe::Program) -> BTreeSet<String> {
    let text = disassembly(program);
    let mut function = "";
    let mut functions = BTreeSet::new();
    let mut offenders = BTreeSet::new();
    for line in text.lines() {
        if let Some((_, name)) = line
            .strip_suffix(">:")
            .and_then(|line| line.split_once('<'))
        {
            function = name;
            functions.insert(name);
        } else if ["%xmm", "%ymm", "%zmm", "%mm"]
            .iter()
            .any(|register| line.contains(register))
        {
            offenders.insert(function.to_owned());
        }
    }
    assert!(functions.iter().any(|name| name.contains("exception")));
    offenders.retain(|name| !name.contains("core::fmt") && !name.contains("core::str::"));
    offenders
}

#[test]
fn few_pages_are_loaded_in_addition_to_the_data() {
    for huge_pages in [false, true] {
        let data = usize::try_from((DATA.end - DATA.start) / PAGE).unwrap();
        let count = laid_out(4, huge_pages).pages.len() - data;
        assert!(count <= MOST_PAGES, "{count} pages");
    }
}

#[test]
fn the_page_list_is_the_same_every_time() {
    for vcpus in [1, 4, 64] {
        assert_eq!(laid_out(vcpus, true), laid_out(vcpus, true));
    }
}

#[test]
fn every_page_is_at_a_permitted_address() {
    for (vcpus, huge_pages) in [(1, true), (4, false), (64, true), (64, false)] {
        let launch = laid_out(vcpus, huge_pages);
        let mut seen = BTreeSet::new();
        for Page { gpa, bytes, kind } in &launch.pages {
            assert!(gpa.is_multiple_of(PAGE) && seen.insert(*gpa), "{gpa:#x}");
            assert!((KERNEL_PHYSICAL..launch.end).contains(gpa));
            let zero = bytes.iter().all(|&byte| byte == 0);
            assert_eq!(*kind == enarx_snp::launch::PageType::Zero, zero);
        }
        // Outside the launch area: only the last page of the first stack.
        // The ends of the first stack and of the first frame of the heap.
        assert_eq!(seen.range(LAUNCH_END..).count(), 2);
        for placement in &launch.runtime {
            let size = placement.file.len() as u64;
            assert!(placement.gpa >= LAUNCH_END && placement.gpa + size <= launch.end);
        }
        assert!(launch.end <= MEMORY && launch.end.is_multiple_of(LARGE));
    }
}

#[test]
fn user_code_reaches_no_page_of_the_kernel() {
    for (vcpus, huge_pages) in [(1, true), (4, false), (64, true)] {
        let launch = laid_out(vcpus, huge_pages);
        let mut user_frames = BTreeMap::new();
        for Leaf {
            address,
            size,
            entry,
            user,
        } in leaves(&launch, 0).0
        {
            let frame = entry & ADDRESS & !(size - 1);
            let write_and_execute =
                entry & PteFlags::WRITE.bits() != 0 && entry & PteFlags::NO_EXECUTE.bits() == 0;
            assert!(!write_and_execute, "W and X at {address:#x}");
            if address >= USER_END {
                assert!(!user, "the user reaches {address:#x}");
                assert!(address >= DIRECT_MAP);
                continue;
            }
            assert!(user && address >= USER_START, "{address:#x}");
            assert_eq!(
                user_frames.insert(frame, size),
                None,
                "mapped twice: {frame:#x}"
            );
            let pinned = entry & PteFlags::PINNED.bits() != 0;
            if frame < LAUNCH_END && pinned {
                // The vDSO and the clock page.
                assert!(address == VDSO_USER || address == VDSO_USER + PAGE);
                assert_eq!(entry & PteFlags::WRITE.bits() != 0, address != VDSO_USER);
            } else if frame < LAUNCH_END {
                // The runtime's writable data.
                assert!(DATA.contains(&address) && entry & PteFlags::WRITE.bits() != 0);
            } else if frame < SHARED_END {
                let sallyport = SALLYPORT_USER..SALLYPORT_USER + SALLYPORT_SIZE;
                assert!(pinned && sallyport.contains(&address));
                assert!(frame + size <= EXIT_PHYSICAL, "exit memory is the kernel's");
            } else {
                assert!(!pinned && frame + size <= launch.end);
            }
        }
        assert!(user_frames.len() > 4);
        // The user cannot access the tables or the exit memory.
        for page in &launch.pages {
            let inside = user_frames
                .iter()
                .any(|(&frame, &size)| (frame..frame + size).contains(&page.gpa));
            let kernel = page.gpa < LAUNCH_END && !user_frames.contains_key(&page.gpa);
            assert!(kernel || inside);
        }
        let exit_memory = EXIT_PHYSICAL..EXIT_PHYSICAL + EXIT_MEMORY_SIZE as u64;
        assert!(user_frames.keys().all(|frame| !exit_memory.contains(frame)));
    }
}

#[test]
fn kernel_code_is_never_writable_at_its_address() {
    let launch = laid_out(4, true);
    let code = leaves(&launch, 0)
        .0
        .into_iter()
        .filter(|leaf| leaf.address >= DIRECT_MAP && leaf.entry & PteFlags::NO_EXECUTE.bits() == 0)
        .inspect(|leaf| {
            assert_eq!(
                leaf.entry & PteFlags::WRITE.bits(),
                0,
                "{:#x}",
                leaf.address
            );
        })
        .count();
    assert!(code > 2);
}
