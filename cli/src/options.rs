// SPDX-License-Identifier: Apache-2.0

//! Options in groups, NAME[=VALUE] each: `-W`, `-S`, `--sev` and `--sim`. A name is a value of an enumeration or of a
//! table, so the help text, the parser and what is said of a wrong name cannot differ.

use std::fmt::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use enarx_configuration::Limits;
use enarx_launch::variant::{NoProperty, Property, Variant};
use enarx_simulator::KeyKind;
use enarx_snp::product::{self, Generation};
use enarx_snp::tcb::TcbVersion;

use crate::values;

/// Options of the engine, with the same meaning as in wasmtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WasmName {
    /// SIZE: largest linear memory
    MaxMemorySize,
    /// N: largest table
    MaxTableElements,
    /// SIZE: largest stack of the program
    MaxWasmStack,
    /// DURATION: the same as --timeout
    Timeout,
}

/// An option of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WasmOption {
    /// Bytes of the largest linear memory.
    MaxMemorySize(u64),
    /// Elements of the largest table.
    MaxTableElements(u64),
    /// Bytes of the largest stack.
    MaxWasmStack(u64),
    /// The time limit.
    Timeout(Duration),
}

/// Options of WASI, with the same meaning as in wasmtime; each is on without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WasiName {
    /// TCP and UDP
    InheritNetwork,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// look up names
    AllowIpNameLookup,
    /// all environment variables of this command
    InheritEnv,
}

/// Options of Wasmtime's `-S` that give what is always there.
const WASI_ALWAYS: &[&str] = &[
    "cli",
    "common",
    "inherit-stderr",
    "inherit-stdin",
    "inherit-stdout",
    "p3",
    "preview2",
];

/// Options of Wasmtime's `-W` for parts of WebAssembly that are always on.
const WASM_ALWAYS: &[&str] = &[
    "bulk-memory",
    "component-model",
    "component-model-async",
    "exceptions",
    "function-references",
    "gc",
    "memory64",
    "multi-memory",
    "multi-value",
    "reference-types",
    "relaxed-simd",
    "simd",
    "tail-call",
];

/// An option of WASI, and whether it is on.
pub type WasiOption = (WasiName, bool);

/// Properties of the simulated platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SimulatedName {
    /// milan (default), genoa, bergamo-siena or turin
    Generation,
    /// vcek (default), or vlek: sign reports with a cloud provider's key
    Key,
    /// HEX: firmware versions (TCB), as 8 bytes of a report
    Tcb,
    /// y: launch with the debug bit in the guest policy
    Debug,
    /// y (default), or n: simultaneous multithreading is off
    Smt,
    /// y: the vendor has revoked the key that signs
    Revoked,
    /// DURATION: let no report through for this time (or forever) from the launch on, or between two times: FROM..TO
    Busy,
    /// N: slow down time in Keeps by this factor, through the counter frequency that they are told
    Slow,
    /// DIR: where its keys are [default: ~/.local/state/enarx/simulated]
    State,
}

/// A property of the simulated platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimulatedOption {
    /// The generation of the CPU.
    Generation(&'static Generation),
    /// The key that signs.
    Key(KeyKind),
    /// The firmware versions.
    Tcb(TcbVersion),
    /// True if guests can be debugged.
    Debug(bool),
    /// True if simultaneous multithreading is on.
    Smt(bool),
    /// True if the key that signs is revoked.
    Revoked(bool),
    /// When no report is let through, from the launch on; to [`Duration::MAX`] is for ever.
    Busy(Range<Duration>),
    /// How many times slower the time in Keeps goes.
    Slow(u32),
    /// Where the keys are.
    State(PathBuf),
}

/// An option of the engine.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn wasm(text: &str) -> Result<WasmOption, String> {
    let (name, value) = named(text).map_err(|error| always(text, WASM_ALWAYS).unwrap_or(error))?;
    let value = value.unwrap_or_default();
    Ok(match name {
        WasmName::MaxMemorySize => WasmOption::MaxMemorySize(values::size(value)?),
        WasmName::MaxTableElements => {
            let number = value.parse().map_err(|_| "write a number".to_owned())?;
            WasmOption::MaxTableElements(number)
        }
        WasmName::MaxWasmStack => WasmOption::MaxWasmStack(values::size(value)?),
        WasmName::Timeout => WasmOption::Timeout(values::duration(value)?),
    })
}

/// The limits among the options of the engine.
pub fn limits(options: &[WasmOption]) -> Limits {
    let mut limits = Limits::default();
    for option in options {
        match option {
            WasmOption::MaxMemorySize(size) => limits.max_memory = Some(*size),
            WasmOption::MaxTableElements(number) => limits.max_table_elements = Some(*number),
            WasmOption::MaxWasmStack(size) => limits.max_wasm_stack = Some(*size),
            WasmOption::Timeout(_) => {}
        }
    }
    limits
}

/// The time limit among the options of the engine.
pub fn timeout(options: &[WasmOption]) -> Option<Duration> {
    // The last counts, as of the other options.
    options.iter().rev().find_map(|option| match option {
        WasmOption::Timeout(limit) => Some(*limit),
        _ => None,
    })
}

/// An option of WASI.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn wasi(text: &str) -> Result<WasiOption, String> {
    if values::pair(text).0 == "http" {
        return Err(
            "wasi:http comes with the network, by inherit-network or --allow-connect: leave http out"
                .to_owned(),
        );
    }
    let (name, value) = named(text).map_err(|error| always(text, WASI_ALWAYS).unwrap_or(error))?;
    Ok((name, switch(value.unwrap_or("y"))?))
}

/// A property of the simulated platform.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn simulated(text: &str) -> Result<SimulatedOption, String> {
    let (name, value) = named(text)?;
    let value = value.unwrap_or_default();
    Ok(match name {
        SimulatedName::Generation => {
            let generation = product::by_name(value);
            SimulatedOption::Generation(
                generation.ok_or("use milan, genoa, bergamo-siena or turin")?,
            )
        }
        SimulatedName::Key => SimulatedOption::Key(match value {
            "vcek" => KeyKind::Vcek,
            "vlek" => KeyKind::Vlek,
            _ => return Err("use vcek or vlek".to_owned()),
        }),
        SimulatedName::Tcb => {
            let bytes = values::hex(value).and_then(|bytes| bytes.try_into().ok());
            SimulatedOption::Tcb(TcbVersion(
                bytes.ok_or("write 8 bytes, 16 hexadecimal digits")?,
            ))
        }
        SimulatedName::Debug => SimulatedOption::Debug(switch(value)?),
        SimulatedName::Smt => SimulatedOption::Smt(switch(value)?),
        SimulatedName::Revoked => SimulatedOption::Revoked(switch(value)?),
        SimulatedName::Busy => SimulatedOption::Busy(busy(value)?),
        SimulatedName::Slow => match value.parse() {
            Ok(times @ 1..) => SimulatedOption::Slow(times),
            _ => return Err("write a number, at least 1".to_owned()),
        },
        SimulatedName::State if value.is_empty() => return Err("name a folder".to_owned()),
        SimulatedName::State => SimulatedOption::State(value.into()),
    })
}

/// A property of a measured launch, on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SevOption {
    property: Property,
    on: bool,
}

impl fmt::Display for SevOption {
    /// As it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = if self.on { "y" } else { "n" };
        write!(f, "{}={on}", self.property.bit().name)
    }
}

/// A property of a measured launch; it is on without a value.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn sev(text: &str) -> Result<SevOption, String> {
    let (name, value) = values::pair(text);
    let property = Property::named(name).map_err(|error| match error {
        NoProperty::Unknown => unknown(name, &sev_names()),
        refused @ NoProperty::Refused { .. } => refused.to_string(),
    })?;
    let on = switch(value.unwrap_or("y"))?;
    Ok(SevOption { property, on })
}

fn sev_names() -> Vec<String> {
    let names = Property::ALL.iter().map(|known| known.bit().name);
    names.map(str::to_owned).collect()
}

/// The launch with these properties; what is given last counts.
pub fn variant(options: &[SevOption]) -> Variant {
    options
        .iter()
        .fold(Variant::PLAIN, |variant, SevOption { property, on }| {
            variant.with(*property, *on)
        })
}

/// `TIME`, `forever`, or either after `TIME..`.
fn busy(value: &str) -> Result<Range<Duration>, String> {
    let (from, to) = match value.split_once("..") {
        Some((from, to)) => (values::duration(from)?, to),
        None => (Duration::ZERO, value),
    };
    let to = match to {
        "forever" => Duration::MAX,
        time => values::duration(time)?,
    };
    if from < to {
        Ok(from..to)
    } else {
        Err("the end is before the beginning: write FROM..TO".to_owned())
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "y" | "yes" | "true" => Ok(true),
        "n" | "no" | "false" => Ok(false),
        _ => Err("write y or n".to_owned()),
    }
}

/// The names of a group.
fn names<T: ValueEnum>() -> Vec<String> {
    let values = T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value);
    values.map(|value| value.get_name().to_owned()).collect()
}

/// A name of a group, and the value that follows it.
fn named<T: ValueEnum>(text: &str) -> Result<(T, Option<&str>), String> {
    let (name, value) = values::pair(text);
    let found = T::from_str(name, false).map_err(|_| unknown(name, &names::<T>()))?;
    Ok((found, value))
}

/// The sentence about an option of Wasmtime that is not needed.
fn always(text: &str, names: &[&str]) -> Option<String> {
    let (name, _) = values::pair(text);
    let is_always_on = names.contains(&name);
    is_always_on.then(|| format!("{name} is always on here: leave it out"))
}

/// The sentence about a name that a group does not have.
fn unknown(name: &str, known: &[String]) -> String {
    if name.is_empty() {
        return format!("name one of {}", known.join(", "));
    }
    let near = nearest(name, known).map_or_else(String::new, |n| format!("; did you mean {n}?"));
    format!("{name} is not known: use {}{near}", known.join(", "))
}

/// The known word that was meant, where one is near.
pub fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    /// Similarity from which on a word counts as meant; clap's own threshold.
    const MIN_SIMILARITY: f64 = 0.7;
    let similarity = |known: &str| strsim::jaro(word, known);
    known
        .iter()
        .map(|known| (similarity(known), known))
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.as_str())
}

/// The names of a group with their meanings, a line each after `flag`.
fn section<T: ValueEnum>(flag: &str, text: &mut String) {
    let values = T::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value);
    for value in values {
        let help = value
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let name = value.get_name();
        // Writing to a string does not fail.
        let _ = match help.split_once(": ") {
            Some((kind, meaning)) if kind.chars().all(|c| c.is_ascii_uppercase() || c == 'y') => {
                writeln!(text, "  {:<27} {meaning}", format!("{flag} {name}={kind}"))
            }
            _ => writeln!(text, "  {:<27} {help}", format!("{flag} {name}")),
        };
    }
}

/// The groups, for the help of `enarx run`.
pub fn help() -> String {
    let mut text = "Options with the same meaning as in wasmtime:\n".to_owned();
    section::<WasmName>("-W", &mut text);
    section::<WasiName>("-S", &mut text);
    text.push_str(
        "\nA measured launch (--backend snp or sim), NAME=y or NAME=n; the evidence shows the guest policy and the measurement:\n",
    );
    for property in Property::ALL {
        let bit = property.bit();
        let of = match property {
            Property::Policy(_) => "policy: ",
            Property::Feature(_) => "measured: ",
        };
        let name = format!("--sev {}", bit.name);
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<27} {of}{}", bit.meaning);
    }
    text.push_str(
        "\nThe simulated platform (--backend sim), for development; it protects nothing from this machine:\n",
    );
    section::<SimulatedName>("--sim", &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_typed() {
        assert_eq!(
            wasm("max-memory-size=1M"),
            Ok(WasmOption::MaxMemorySize(1 << 20))
        );
        assert_eq!(
            wasm("timeout=2s"),
            Ok(WasmOption::Timeout(Duration::from_secs(2)))
        );
        assert_eq!(wasi("tcp"), Ok((WasiName::Tcp, true)));
        assert_eq!(wasi("inherit-env=n"), Ok((WasiName::InheritEnv, false)));
        assert_eq!(
            simulated("key=vlek"),
            Ok(SimulatedOption::Key(KeyKind::Vlek))
        );
        assert_eq!(simulated("debug=y"), Ok(SimulatedOption::Debug(true)));
        assert_eq!(simulated("revoked=y"), Ok(SimulatedOption::Revoked(true)));
        let options = ["debug-swap", "smt=n", "single-socket=y", "single-socket=n"];
        let options = options.map(|text| sev(text).unwrap());
        assert_eq!(variant(&options).to_string(), "smt=n, debug-swap=y");
        let (three, seven) = (Duration::from_secs(3), Duration::from_secs(7));
        for (text, times) in [
            ("busy=3s", Duration::ZERO..three),
            ("busy=forever", Duration::ZERO..Duration::MAX),
            ("busy=3s..7s", three..seven),
            ("busy=3s..forever", three..Duration::MAX),
        ] {
            assert_eq!(simulated(text), Ok(SimulatedOption::Busy(times)));
        }
        assert_eq!(simulated("slow=3"), Ok(SimulatedOption::Slow(3)));
        for (error, words) in [
            (wasm("fuel=3").unwrap_err(), "use max-memory-size, "),
            (wasm("max-memory-size").unwrap_err(), "64M"),
            (
                wasm("max-memory-sze=1").unwrap_err(),
                "did you mean max-memory-size?",
            ),
            (wasi("tcp=maybe").unwrap_err(), "write y or n"),
            (wasi("threads").unwrap_err(), "inherit-network"),
            (wasi("http").unwrap_err(), "--allow-connect: leave http out"),
            (wasi("cli=y").unwrap_err(), "cli is always on here"),
            (wasm("gc").unwrap_err(), "gc is always on here"),
            (wasm("threads=y").unwrap_err(), "use max-memory-size, "),
            (wasm("").unwrap_err(), "name one of max-memory-size, "),
            (simulated("tcb=00").unwrap_err(), "16 hexadecimal digits"),
            (simulated("state=").unwrap_err(), "name a folder"),
            (simulated("busy=7s..3s").unwrap_err(), "FROM..TO"),
            (simulated("slow=0").unwrap_err(), "at least 1"),
            (simulated("colour=red").unwrap_err(), "generation, key"),
            (
                sev("single-sokcet").unwrap_err(),
                "did you mean single-socket?",
            ),
            (sev("secure-tsc").unwrap_err(), "GUEST_TSC_FREQ"),
            (sev("smt=maybe").unwrap_err(), "write y or n"),
        ] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_help_explains_every_option() {
        let help = help();
        for line in [
            "  -W max-memory-size=SIZE     largest",
            "  -S tcp   ",
            "  --sim state=DIR  ",
            "  --sev debug-swap            measured: ",
        ] {
            assert!(help.contains(line), "{line}: {help}");
        }
        let lines = help.lines().filter(|line| line.starts_with("  "));
        assert!(
            lines.clone().count() == 28 && lines.clone().all(|l| l.len() > 30),
            "{help}"
        );
    }
}
