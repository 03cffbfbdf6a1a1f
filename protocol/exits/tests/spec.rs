// SPDX-License-Identifier: Apache-2.0

//! SPEC.md agrees with the code: every marked table is compared with it.

use core::mem::offset_of;

use enarx_documents::{number, plain_table};
use enarx_exits::exit_code::{FAILURE, FAULT, TIMED_OUT, TRAP, UNWRITTEN, USAGE};
use enarx_exits::process::{DOORBELL_FD, REGION_FD};
use enarx_exits::{
    BootCheck, COUNTERS_OFFSET, CpuidCheck, ExitFunction, FACTS_OFFSET, GHCB_OFFSET, HostFacts,
    KICK_VECTOR, LOG_BYTES, MEMORY_THERE_OFFSET, MESSAGE_OFFSET, PORT, RECORD_SIZE, Reason,
};

const SPEC: &str = include_str!("../SPEC.md");

const SECURITY: &str = include_str!("../../../SECURITY.md");

fn table(marker: &str) -> Vec<Vec<String>> {
    plain_table(SPEC, marker)
}

/// The first two cells of every row.
fn numbered(marker: &str) -> Vec<(u64, String)> {
    let rows = table(marker);
    rows.iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect()
}

fn named<const N: usize>(rows: [(u64, &str); N]) -> Vec<(u64, String)> {
    rows.map(|(number, name)| (number, name.to_owned())).into()
}

#[test]
fn the_layout_table_is_the_layout() {
    let layout = [
        (0, "RECORDS"),
        (FACTS_OFFSET as u64, "FACTS_OFFSET"),
        (COUNTERS_OFFSET as u64, "COUNTERS_OFFSET"),
        (MEMORY_THERE_OFFSET as u64, "MEMORY_THERE_OFFSET"),
        (GHCB_OFFSET as u64, "GHCB_OFFSET"),
        (MESSAGE_OFFSET as u64, "MESSAGE_OFFSET"),
    ];
    assert_eq!(numbered("<!-- layout:"), named(layout));
    for constant in [
        format!("`RECORD_SIZE` = {RECORD_SIZE} bytes"),
        format!("I/O port {PORT:#06x}"),
        format!("by vector {KICK_VECTOR},"),
        format!("at most {LOG_BYTES} bytes"),
        format!("sallyport as descriptor {REGION_FD}"),
        format!("as descriptor {DOORBELL_FD},"),
    ] {
        assert!(SPEC.contains(&constant), "{constant}");
    }
}

#[test]
fn the_table_of_functions_lists_every_function() {
    let known: Vec<_> = ExitFunction::ALL
        .iter()
        .map(|function| (u64::from(*function as u32), function.name().to_owned()))
        .collect();
    assert_eq!(numbered("<!-- functions:"), known);
}

#[test]
fn the_table_of_facts_lists_every_field() {
    let fields = [
        (offset_of!(HostFacts, tsc_khz) as u64, "tsc_khz"),
        (offset_of!(HostFacts, wall_ns) as u64, "wall_ns"),
        (offset_of!(HostFacts, memory_end) as u64, "memory_end"),
        (offset_of!(HostFacts, vcpus) as u64, "vcpus"),
        (offset_of!(HostFacts, processors) as u64, "processors"),
    ];
    assert_eq!(numbered("<!-- facts:"), named(fields));
    assert_eq!(size_of::<HostFacts>(), fields.len() * 8);
}

#[test]
fn the_table_of_reasons_lists_every_reason_and_its_text() {
    let listed: Vec<_> = table("<!-- reasons:")
        .iter()
        .map(|row| (number(&row[0]), row[1].clone(), row[3].clone()))
        .collect();
    let known: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| {
            let text = reason.text().to_owned();
            (*reason as u64, reason.name().to_owned(), text)
        })
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_tables_of_checks_list_every_check() {
    let boot: Vec<_> = BootCheck::ALL
        .iter()
        .map(|check| (*check as u64, format!("{check:?}")))
        .collect();
    assert_eq!(numbered("<!-- boot checks:"), boot);
    let cpuid: Vec<_> = CpuidCheck::ALL
        .iter()
        .map(|check| (*check as u64, format!("{check:?}")))
        .collect();
    assert_eq!(numbered("<!-- cpuid checks:"), cpuid);
}

#[test]
fn the_security_page_lists_every_reason_and_its_text() {
    let listed: Vec<_> = plain_table(SECURITY, "<!-- reasons:")
        .iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    let known: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| (*reason as u64, reason.text().to_owned()))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_table_of_exit_codes_lists_every_code() {
    let codes = [
        (FAILURE, "FAILURE"),
        (USAGE, "USAGE"),
        (FAULT, "FAULT"),
        (UNWRITTEN, "UNWRITTEN"),
        (TIMED_OUT, "TIMED_OUT"),
        (TRAP, "TRAP"),
    ];
    let codes = codes.map(|(code, name)| (code.into(), name));
    assert_eq!(numbered("<!-- codes:"), named(codes));
}
