//! Builds the measured programs by nested cargo calls, each with the flags it needs, into the
//! same target directory as everything else.
//!
//! The result depends on the sources, the lock file and the compiler alone: paths are remapped,
//! nothing of the environment is passed on, and no build id or time stamp goes in.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

struct Program {
    package: &'static str,
    features: &'static str,
    flags: Vec<String>,
}

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("keep/image lies in the workspace");
    // .../target/<profile>/build/<package>/out
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = out
        .ancestors()
        .nth(4)
        .expect("cargo's layout of OUT_DIR")
        .join("keep");

    for folder in [
        "Cargo.toml",
        "Cargo.lock",
        "keep/microkernel",
        "keep/runtime",
        "keep/wasi",
        "keep/wasm",
        "protocol/contract",
        "protocol/sallyport",
    ] {
        println!(
            "cargo:rerun-if-changed={}",
            workspace.join(folder).display()
        );
    }

    let script = workspace.join("keep/microkernel/kernel.ld");
    let mut microkernel: Vec<String> = [
        "-Crelocation-model=static",
        "-Ccode-model=kernel",
        "-Cno-redzone=yes",
        "-Cforce-frame-pointers=no",
        // No SSE at CPL0: the user's registers stay in the CPU during system calls.
        "-Ctarget-feature=-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        "-Clink-arg=-Wl,--build-id=none,-z,max-page-size=4096,-z,norelro,--gc-sections",
    ]
    .map(String::from)
    .to_vec();
    microkernel.push(format!("-Clink-arg=-Wl,-T,{}", script.display()));
    let runtime = [
        "-Ctarget-feature=+crt-static",
        "-Crelocation-model=static",
        // Segments begin on 2 MiB boundaries, so that the Keep maps them by large pages.
        "-Clink-arg=-Wl,--build-id=none,-z,max-page-size=0x200000,-z,separate-code",
    ]
    .map(String::from)
    .to_vec();

    for program in [
        Program {
            package: "enarx-microkernel",
            features: "kernel",
            flags: microkernel,
        },
        Program {
            package: "enarx-runtime",
            features: "",
            flags: runtime,
        },
    ] {
        let built = build(workspace, &target, &program);
        let to = out.join(program.package);
        std::fs::copy(&built, &to)
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", built.display()));
    }
}

fn build(workspace: &Path, target: &Path, program: &Program) -> PathBuf {
    let mut flags = program.flags.clone();
    flags.push(format!(
        "--remap-path-prefix={}=/enarx",
        workspace.display()
    ));
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    let mut cargo = Command::new(variable("CARGO"));
    // Settings of the outer build must not reach the measured image.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let build_setting = [
            "CARGO_PROFILE_",
            "CARGO_BUILD_",
            "CARGO_TARGET_",
            "CARGO_FEATURE_",
            "CARGO_CFG_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix));
        if build_setting
            || ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].contains(&&*name)
        {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "keep", "--target", TARGET])
        .args(["--package", program.package, "--target-dir"])
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if !program.features.is_empty() {
        cargo.args(["--features", program.features]);
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "building {} failed", program.package);
    target.join(TARGET).join("keep").join(program.package)
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
