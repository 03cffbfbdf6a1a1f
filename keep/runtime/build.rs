// SPDX-License-Identifier: Apache-2.0

//! Links the static program of a Keep without unwinding tables. Other builds, those of tests, keep
//! them.

fn main() {
    println!("cargo:rerun-if-changed=no-unwinding.ld");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/no-unwinding.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{script},--no-eh-frame-hdr");
    }
}
