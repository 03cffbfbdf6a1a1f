//! SPEC.md says what the code does: offsets of the layout, numbers and fields of the calls, statuses.

use enarx_sallyport::Status;
use enarx_sallyport::call::Operation;
use enarx_sallyport::layout;

const SPEC: &str = include_str!("../../SPEC.md");

/// The table after a marker: its rows' cells, without backticks.
fn table(marker: &str) -> Vec<Vec<String>> {
    let (_, after) = SPEC.split_once(marker).expect("the marker is there");
    after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect()
}

fn number(text: &str) -> usize {
    match text.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .expect("a number")
}

#[test]
fn the_layout_table_is_the_layout() {
    let constants = [
        ("MAGIC_AT", layout::MAGIC_AT.offset()),
        ("VERSION_AT", layout::VERSION_AT.offset()),
        ("TSC_KHZ_AT", layout::TSC_KHZ_AT.offset()),
        ("VCPUS_AT", layout::VCPUS_AT.offset()),
        ("WALL_NS_AT", layout::WALL_NS_AT.offset()),
        ("SQ_TAIL", layout::SQ_TAIL.offset()),
        ("SQ_HEAD", layout::SQ_HEAD.offset()),
        ("CQ_TAIL", layout::CQ_TAIL.offset()),
        ("CQ_HEAD", layout::CQ_HEAD.offset()),
        ("HOST_STATE", layout::HOST_STATE.offset()),
        ("SUBMISSION_RING", layout::SUBMISSION_RING as usize),
        ("COMPLETION_RING", layout::COMPLETION_RING as usize),
        ("REQUEST_TABLE", layout::REQUEST_TABLE as usize),
        ("BUFFERS", layout::BUFFERS as usize),
    ];
    let rows = table("<!-- layout:");
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row[2].as_str(), number(&row[0])))
        .collect();
    assert_eq!(rows, constants);
}

#[test]
fn the_table_of_calls_lists_every_call() {
    let rows = table("<!-- calls:");
    let listed: Vec<_> = rows
        .iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    let known: Vec<_> = Operation::ALL
        .iter()
        .map(|operation| (usize::from(operation.to_wire()), format!("{operation:?}")))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_table_of_statuses_lists_every_status() {
    let rows = table("<!-- statuses:");
    let listed: Vec<_> = rows
        .iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    let known: Vec<_> = Status::ALL
        .iter()
        .map(|status| (usize::from(status.to_wire()), format!("{status:?}")))
        .collect();
    assert_eq!(listed, known);
}
