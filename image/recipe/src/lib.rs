// SPDX-License-Identifier: Apache-2.0

//! How the measured programs are built: nested cargo calls with the flags that each program needs,
//! into folders of the target directory. For build scripts.
//!
//! The result depends only on the sources, the lock file and the compiler: paths are remapped, nothing of
//! the environment is passed on, and there is no build id or time stamp.
#![forbid(unsafe_code)]

mod pack;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

pub use pack::pack;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A measured program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The package, whose binary has the same name.
    pub package: &'static str,
    /// The name of the built program.
    pub name: &'static str,
    /// Cargo features.
    pub features: &'static str,
    /// Cargo profile.
    pub profile: &'static str,
    /// Compiler flags; `{workspace}` stands for the root of the workspace.
    pub flags: &'static [&'static str],
    /// Compiler flags of the program itself, where all its crates are optimised together.
    pub last_flags: &'static [&'static str],
    /// Its sources besides the lock file, relative to the root of the workspace.
    pub sources: &'static [&'static str],
}

const MICROKERNEL_FLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Ccode-model=kernel",
    "-Cno-redzone=yes",
    "-Cforce-frame-pointers=no",
    // No SSE at CPL0: the user's registers stay in the CPU during system calls.
    "-Ctarget-feature=-sse,-sse2,-sse3,-ssse3,-sse4.1,-sse4.2,-avx,-avx2",
    "--cfg=aes_backend=\"soft\"",
    "--cfg=polyval_backend=\"soft\"",
    "--cfg=chacha20_backend=\"soft\"",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none,-z,max-page-size=4096,-z,norelro,--gc-sections",
    "-Clink-arg=-Wl,-T,{workspace}/keep/microkernel/kernel.ld",
];
const MICROKERNEL_SOURCES: &[&str] = &[
    "keep/bare",
    "keep/microkernel",
    "keep/syscall",
    "protocol/boot",
    "protocol/exits",
    "protocol/snp",
];

/// The microkernel for SEV-SNP.
pub const MICROKERNEL: Program = Program {
    package: "enarx-microkernel",
    name: "enarx-microkernel",
    features: "kernel",
    profile: "keep",
    flags: MICROKERNEL_FLAGS,
    last_flags: &[],
    sources: MICROKERNEL_SOURCES,
};

/// The microkernel for plain KVM.
pub const MICROKERNEL_PLAIN: Program = Program {
    name: "enarx-microkernel-plain",
    features: "kernel,plain",
    ..MICROKERNEL
};

/// The microkernel for the simulated platform.
pub const MICROKERNEL_SIMULATED: Program = Program {
    name: "enarx-microkernel-simulated",
    features: "kernel,simulated",
    ..MICROKERNEL
};

/// The loader of a measured Keep.
pub const LOADER: Program = Program {
    package: "enarx-loader",
    name: "enarx-loader",
    features: "loader",
    profile: "keep",
    flags: &[
        "-Crelocation-model=static",
        "-Clink-arg=-nostartfiles",
        "-Clink-arg=-nostdlib",
        "-Clink-arg=-static",
        "-Clink-arg=-no-pie",
        "-Clink-arg=-Wl,--build-id=none,-z,max-page-size=4096,-z,norelro,--gc-sections",
        "-Clink-arg=-Wl,-T,{workspace}/keep/loader/loader.ld",
    ],
    last_flags: &[],
    sources: &[
        "keep/bare",
        "keep/loader",
        "keep/syscall",
        "protocol/boot",
        "protocol/exits",
        "protocol/snp",
    ],
};

/// The runtime.
pub const RUNTIME: Program = Program {
    package: "enarx-runtime",
    name: "enarx-runtime",
    features: "",
    profile: "keep-runtime",
    flags: &[
        "-Ctarget-feature=+crt-static",
        "-Crelocation-model=static",
        // Random numbers by the system call itself, for whatever part of the runtime asks for them: the
        // crate's default looks the C library's function up by name, which fails in a static program,
        // and then opens /dev/urandom, which no Keep has. Versions 0.3 and 0.4 know this setting; 0.2
        // makes the system call anyway.
        "--cfg=getrandom_backend=\"linux_raw\"",
        // Segments begin on 2 MiB boundaries, so that the Keep maps them by large pages.
        "-Clink-arg=-Wl,--build-id=none,-z,max-page-size=0x200000,-z,separate-code",
        // Functions of the same instructions are one: no part of Rust gives a function an address of its own.
        "-Clink-arg=-Wl,--icf=all",
    ],
    last_flags: &[
        // The profile compiles this package for speed, so that loops over bytes become loops over vectors: Wasmtime copies
        // lists of bytes by such loops. LLVM would then inline and unroll what the profile keeps small.
        "-Cllvm-args=-inline-threshold=30",
        "-Cllvm-args=-unroll-runtime=false",
        "-Cno-vectorize-slp",
    ],
    sources: &[
        "keep/http",
        "keep/runtime",
        "keep/session",
        "keep/syscall",
        "keep/tls",
        "keep/wasi",
        "keep/wasm",
        "protocol/boot",
        "protocol/configuration",
        "protocol/contract",
        "protocol/evidence",
        "protocol/exits",
        "protocol/network",
        "protocol/sallyport",
        "protocol/session",
        "protocol/snp",
    ],
};

/// Builds `program` into the build script's `OUT_DIR`, under its name, and writes the SHA-256 of its file to
/// `NAME.sha256` beside it: 32 bytes.
///
/// # Panics
/// When it cannot be built: a build script has no better way to say so.
#[expect(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]
pub fn build(program: &Program) {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("the package lies two folders below the workspace");
    // .../target/<profile>/build/<package>/out
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = out
        .ancestors()
        .nth(4)
        .expect("cargo's layout of OUT_DIR")
        .join("keep")
        // A folder for each set of flags, because cargo rebuilds shared crates when the flags change.
        .join(program.package);
    for source in ["Cargo.toml", "Cargo.lock"].iter().chain(program.sources) {
        // Seen from the package, so that a checkout that is moved or copied with its target folder watches its own files.
        println!("cargo:rerun-if-changed=../../{source}");
    }
    let built = call(workspace, &target, program);
    let linked =
        fs::read(&built).unwrap_or_else(|error| panic!("cannot read {}: {error}", built.display()));
    let bytes = pack(&linked).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    write(
        &out.join(format!("{}.sha256", program.name)),
        &Sha256::digest(&bytes),
    );
    write(&out.join(program.name), &bytes);
}

fn write(to: &Path, bytes: &[u8]) {
    fs::write(to, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", to.display()));
}

fn call(workspace: &Path, target: &Path, program: &Program) -> PathBuf {
    let status = command(workspace, target, program)
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "building {} failed", program.package);
    built(target, program)
}

/// Where [`command`] puts the program.
#[must_use]
pub fn built(target: &Path, program: &Program) -> PathBuf {
    target
        .join(TARGET)
        .join(program.profile)
        .join(program.package)
}

/// The cargo call that builds `program` in the workspace into the folder `target`.
#[must_use]
pub fn command(workspace: &Path, target: &Path, program: &Program) -> Command {
    let root = workspace.display().to_string();
    let mut flags: Vec<String> = program
        .flags
        .iter()
        .map(|flag| flag.replace("{workspace}", &root))
        .collect();
    flags.push(format!(
        "--remap-path-prefix={}=/enarx",
        workspace.display()
    ));
    // Sources that build scripts generate; the folder may lie outside of the workspace. Of several
    // prefixes that fit, rustc takes the last.
    flags.push(format!(
        "--remap-path-prefix={}=/enarx/target/keep",
        target.display()
    ));
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
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
        .args(["rustc", "--locked", "--target", TARGET])
        .args(["--profile", program.profile])
        .args(["--package", program.package, "--bin", program.package])
        .arg("--target-dir")
        .arg(target)
        // Set in the environment or in the user's configuration, it would change the code.
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if !program.features.is_empty() {
        cargo.args(["--features", program.features]);
    }
    cargo.arg("--").args(program.last_flags);
    cargo
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
