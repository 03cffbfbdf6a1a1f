// SPDX-License-Identifier: Apache-2.0

//! Linux loads and runs the packed form of a real executable (this test itself), and files that are not executables
//! are refused.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use enarx_recipe::pack;

#[test]
fn a_packed_executable_runs() {
    let linked = fs::read(env::current_exe().unwrap()).unwrap();
    let packed = pack(&linked).unwrap();
    assert!(packed.len() < linked.len());
    // A packed file has no holes.
    assert_eq!(pack(&packed).unwrap(), packed);

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("packed");
    fs::write(&program, packed).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let output = Command::new(program).arg("--list").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(
        listed.contains("a_packed_executable_runs: test"),
        "{listed}"
    );
}

#[test]
fn an_invalid_executable_is_refused() {
    let linked = fs::read(env::current_exe().unwrap()).unwrap();
    for length in [0, 63, 64, 100] {
        assert!(pack(&linked[..length]).is_err(), "{length}");
    }
}
