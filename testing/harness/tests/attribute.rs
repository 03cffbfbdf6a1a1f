// SPDX-License-Identifier: Apache-2.0

//! The attribute, in a program without libtest.

#[macro_use]
extern crate enarx_harness;

use std::process::{Command, ExitCode};

use enarx_harness::needs;

fn main() -> ExitCode {
    enarx_harness::main()
}

/// Runs this program with other arguments; returns its output.
fn this(arguments: &[&str]) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_test_is_registered_and_listed() {
    assert_eq!(
        this(&["--list"]),
        "a_module::a_test: test\n\
         every_kind_of_keep_is_tried: test\n\
         every_test_is_registered_and_listed: test\n\
         panics_as_expected: test\n\
         takes_too_long: test\n"
    );
}

mod a_module {
    #[test]
    fn a_test() {
        assert_eq!(std::thread::current().name(), Some("a_module::a_test"));
    }
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn panics_as_expected() {
    let empty: [u8; 0] = [];
    let _ = std::hint::black_box(&empty[..])[0];
}

#[test]
#[ignore = "an example of one that is left out"]
fn takes_too_long() {}

#[test]
fn every_kind_of_keep_is_tried() {
    // Without KVM this ends as ignored.
    let kinds: Vec<_> = needs::kinds(&["kvm"], &["process"]).collect();
    assert_eq!(kinds, ["kvm", "process"]);
}
