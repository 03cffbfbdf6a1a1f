// SPDX-License-Identifier: Apache-2.0

//! SPEC.md agrees with the code: offsets of the layout, numbers and names of the calls, statuses.

use enarx_documents::{number, plain_table};
use enarx_sallyport::Status;
use enarx_sallyport::call::Operation;
use enarx_sallyport::layout;

const SPEC: &str = include_str!("../../SPEC.md");

fn table(marker: &str) -> Vec<Vec<String>> {
    plain_table(SPEC, marker)
}

#[test]
fn the_layout_table_is_the_layout() {
    let constants = [
        ("MAGIC_AT", layout::MAGIC_AT.offset() as u64),
        ("VERSION_AT", layout::VERSION_AT.offset() as u64),
        ("TSC_KHZ_AT", layout::TSC_KHZ_AT.offset() as u64),
        ("VCPUS_AT", layout::VCPUS_AT.offset() as u64),
        ("WALL_NS_AT", layout::WALL_NS_AT.offset() as u64),
        ("SQ_TAIL", layout::SQ_TAIL.offset() as u64),
        ("SQ_HEAD", layout::SQ_HEAD.offset() as u64),
        ("CQ_TAIL", layout::CQ_TAIL.offset() as u64),
        ("CQ_HEAD", layout::CQ_HEAD.offset() as u64),
        ("HOST_STATE", layout::HOST_STATE.offset() as u64),
        ("SUBMISSION_RING", layout::SUBMISSION_RING.into()),
        ("COMPLETION_RING", layout::COMPLETION_RING.into()),
        ("REQUEST_TABLE", layout::REQUEST_TABLE.into()),
        ("BUFFERS", layout::BUFFERS.into()),
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
        .map(|operation| (u64::from(operation.to_wire()), format!("{operation:?}")))
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
        .map(|status| (u64::from(status.to_wire()), format!("{status:?}")))
        .collect();
    assert_eq!(listed, known);
}
