// SPDX-License-Identifier: Apache-2.0

//! Panics in a Keep that a tenant has delivered to.

use std::io::Write as _;
use std::process::Command;

/// Set in the process that panics.
const CHILD: &str = "ENARX_TEST_PANICS";

#[test]
fn a_panic_reveals_no_delivered_data_to_the_host() {
    if std::env::var_os(CHILD).is_some() {
        enarx_keep_session::report_panic_locations_only(|text| {
            std::io::stderr().write_all(text.as_bytes()).unwrap();
        });
        let delivered = String::from("ä secret");
        std::hint::black_box(&delivered[1..]);
        return;
    }
    let name = "a_panic_reveals_no_delivered_data_to_the_host";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{output:?}");
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(all).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let said = "enarx-runtime: a defect of the runtime at keep/session/tests/panics.rs:";
    assert!(text.contains(said), "{text}");
}
