// SPDX-License-Identifier: Apache-2.0

//! The yardstick runs what a Keep runs. (Because it has such a test, `cargo test --workspace` also builds
//! the command, for the tests that compare Keeps with it.)

use std::process::Command;

#[test]
fn runs_modules_and_components() {
    for (program, expected) in [
        ("hello.wasm", "Hello, world!\n"),
        ("hello-component.wasm", "Hello, component!\n"),
    ] {
        let path = format!("{}/../../examples/{program}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(env!("CARGO_BIN_EXE_native-wasmtime"))
            .arg(path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(output.status.code(), Some(0));
    }
}
