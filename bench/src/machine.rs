// SPDX-License-Identifier: Apache-2.0

//! The machine that the figures were measured on.

use std::fs;
use std::path::Path;

use crate::build::workspace;
use crate::plan::Plan;

/// Prints the machine, the versions and the number of turns.
pub fn print(plan: &Plan) {
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".into());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let wasmtime = locked(
        &fs::read_to_string(workspace().join("Cargo.lock")).unwrap_or_default(),
        "wasmtime",
    );
    println!(
        "{cpu}, {cores} cores, Linux {}, KVM: {}; Wasmtime {} on both sides; median of {}, in turns.\n",
        kernel.trim(),
        kvm_kind(),
        wasmtime.as_deref().unwrap_or("of unknown version"),
        plan.runs
    );
    print_load("at the start");
}

/// Prints how busy the machine is with other things.
pub fn print_load(when: &str) {
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(1).collect();
    println!("Load {when}: {}\n", load.join(" "));
}

/// The module of the host's KVM; the costs of privileged guest code depend on it.
fn kvm_kind() -> &'static str {
    ["kvm_amd", "kvm_intel", "kvm_pvm"]
        .into_iter()
        .find(|kind| Path::new("/sys/module").join(kind).exists())
        .unwrap_or("none")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The version of a package in a lock file.
fn locked(lock: &str, package: &str) -> Option<String> {
    let wanted = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != wanted).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?;
    Some(version.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_in_their_files() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("AMD EPYC"));
        assert_eq!(field(cpuinfo, "bogomips"), None);
        let lock = "[[package]]\nname = \"wasmtime-cache\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(locked(lock, "wasmtime").as_deref(), Some("48.0.8"));
        assert_eq!(locked(lock, "wasi"), None);
    }
}
