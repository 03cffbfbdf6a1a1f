// SPDX-License-Identifier: Apache-2.0

//! Values on the command line: sizes, durations, numbers, addresses, directories, variables.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use enarx_contract::MAX_VCPUS;
use enarx_session::time::MAX_GRACE;

use crate::failure::Failure;

/// A size: a number of bytes, or with `K`, `M`, `G` or `T` (powers of 1024; `KiB` and `KB` mean the same).
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => {
            return Err(format!(
                "unknown unit `{unit}`: write a size as 64M, 2G or in bytes"
            ));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a size as 64M, 2G or in bytes".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "the size is too large".to_owned())
}

/// A duration: seconds, or with a unit of `ns`, `us`, `ms`, `s`, `m` or `h`; fractions are allowed.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_none(text)?;
    if duration.is_zero() {
        return Err("the duration must be more than zero".to_owned());
    }
    Ok(duration)
}

/// The time in which begun work may finish: a duration, or 0 for none at all.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    const SYNTAX_HINT: &str = "write a duration as 10, 10s, 500ms or 2m";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == 'µ');
    let unit = &text[digits.len()..];
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: {SYNTAX_HINT}")),
    };
    let number: f64 = digits.parse().map_err(|_| SYNTAX_HINT.to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| SYNTAX_HINT.to_owned())
}

/// The time that a deployed program has to finish: as [`duration_or_none`], at most 10 minutes.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn grace(text: &str) -> Result<Duration, String> {
    let grace = duration_or_none(text)?;
    if grace > Duration::from_millis(MAX_GRACE.into()) {
        return Err("at most 10 minutes".to_owned());
    }
    Ok(grace)
}

/// A whole number of a range.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| match *range.end() {
        u32::MAX => format!("write a number, at least {}", range.start()),
        end => format!("write a number from {} to {end}", range.start()),
    })
}

// A Keep on this machine may have as many as a contract may ask for.
const _: () = assert!(enarx_vmm::MAX_PROCESSORS == MAX_VCPUS);

/// A number of virtual CPUs.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn vcpus(text: &str) -> Result<u32, String> {
    number(text, 1..=MAX_VCPUS)
}

/// A number of things of which there is at least one.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn count(text: &str) -> Result<u32, String> {
    number(text, 1..=u32::MAX)
}

/// An address of this machine or of a host, with a port.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.trim_start_matches(':').parse::<u16>();
        let example = port.map_or_else(
            |_| "127.0.0.1:8080".to_owned(),
            |port| format!("127.0.0.1:{port}"),
        );
        format!(
            "write an address in digits and a port, as in {example} for this machine only, or with 0.0.0.0 for every address"
        )
    })
}

/// A host directory and the name the application sees for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub host: PathBuf,
    pub guest: String,
    pub read_only: bool,
    /// Bytes by which the application may make it fuller.
    pub quota: Option<u64>,
}

/// `host::guest`, or `host` alone; `:ro` at the end makes it read-only, `:quota=` and a size sets a bound.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn directory(text: &str) -> Result<Directory, String> {
    const WITHOUT_QUOTA: &str = "a directory that refuses changes needs no quota: write :ro alone";
    let (text, quota) = match text.rsplit_once(":quota=") {
        Some((_, bytes)) if bytes.ends_with(":ro") => return Err(WITHOUT_QUOTA.to_owned()),
        Some((text, bytes)) => (text, Some(size(bytes)?)),
        None => (text, None),
    };
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    if let Some((_, "RO" | "RW" | "Ro" | "Rw")) = paths.rsplit_once(':') {
        return Err("write :ro or :rw in small letters".to_owned());
    }
    let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
    if host.is_empty() || guest.is_empty() {
        return Err(
            "write a directory as HOST or HOST::GUEST, with :ro at the end to refuse changes"
                .to_owned(),
        );
    }
    if read_only && quota.is_some() {
        return Err(WITHOUT_QUOTA.to_owned());
    }
    Ok(Directory {
        host: host.into(),
        guest: guest.to_owned(),
        read_only,
        quota,
    })
}

/// The parts of `NAME=VALUE`, whose value may have more `=`; no value where there is none.
pub fn pair(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    }
}

/// `NAME=VALUE`, or `NAME` alone for the value that this command has itself.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn variable(text: &str) -> Result<(String, String), String> {
    use std::env::VarError;

    let (name, value) = pair(text);
    if name.is_empty() {
        return Err("write a variable as NAME=VALUE".to_owned());
    }
    let value = match value {
        Some(value) => value.to_owned(),
        None => std::env::var(name).map_err(|error| match error {
            VarError::NotPresent => {
                format!("the variable {name} is not set here: write {name}=VALUE")
            }
            VarError::NotUnicode(_) => format!(
                "the value of the variable {name} is not UTF-8, as WASI requires: write {name}=VALUE"
            ),
        })?,
    };
    Ok((name.to_owned(), value))
}

/// Refuses what no variable can be: its name is not empty and has no `=`, and neither name nor value has NUL (POSIX.1 section
/// 8.1).
///
/// # Errors
/// The reason, for the sentence of the caller.
pub fn check_variable(name: &str, value: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the name of a variable cannot be empty");
    }
    if name.contains('=') {
        return Err("the name of a variable cannot have =");
    }
    if name.contains('\0') || value.contains('\0') {
        return Err("a variable cannot have NUL");
    }
    Ok(())
}

/// The place that a path names, whether there is something or not, the same for all ways to write it.
pub fn place(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// A verifier's nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(pub Vec<u8>);

/// Bytes of the longest nonce.
const MAX_NONCE: usize = 64;
/// Bytes of the shortest nonce: a shorter one can be guessed, or repeats (RFC 9711, section 4.1).
const MIN_NONCE: usize = 8;

/// The bytes that hexadecimal digits stand for; `None` for anything else.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    base16ct::mixed::decode_vec(text).ok()
}

/// A nonce: 8 to 64 bytes in hexadecimal.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn nonce(text: &str) -> Result<Nonce, String> {
    hex(text.trim())
        .filter(|bytes| (MIN_NONCE..=MAX_NONCE).contains(&bytes.len()))
        .map(Nonce)
        .ok_or_else(|| format!("write {MIN_NONCE} to {MAX_NONCE} bytes in hexadecimal"))
}

/// The text of a variable of the environment; empty where it is not set.
///
/// # Errors
/// [`crate::failure::Exit::Usage`] for one that is not text: if it were ignored, nobody would notice.
pub fn environment(variable: &str) -> Result<String, Failure> {
    let value = std::env::var_os(variable).unwrap_or_default();
    value.into_string().map_err(|_| {
        Failure::usage(format!(
            "{variable}: it is not text in UTF-8: set it again, or unset it"
        ))
    })
}

/// The values of flags, or else the lines of a variable.
///
/// # Errors
/// [`crate::failure::Exit::Usage`], with the variable's name.
pub fn given_or_from_environment<T: Clone>(
    given: &[T],
    variable: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    environment(variable)?
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).map_err(|error| Failure::usage(format!("{variable}: {error}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), ("a", Some("b=c")));
        assert_eq!(pair("a="), ("a", Some("")));
        assert_eq!(pair("=b"), ("", Some("b")));
        assert_eq!(pair("a"), ("a", None));
    }

    #[test]
    fn nonces() {
        // Fewer bytes can be tried one after the other; a report binds no more.
        for (bytes, good) in [
            (0, false),
            (1, false),
            (7, false),
            (8, true),
            (64, true),
            (65, false),
        ] {
            assert_eq!(nonce(&"0a".repeat(bytes)).is_ok(), good, "{bytes}");
        }
        assert!(nonce("no hexadecimal d").is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("1KiB"), Ok(1024));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "M", "1.5G", "-1", "1X", "99999999999T", "1 M"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "1x", "s", "nan", "inf", "1e400"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for none in ["0", "0s", "0ms"] {
            assert_eq!(duration_or_none(none), Ok(Duration::ZERO), "{none}");
        }
        assert_eq!(duration_or_none("2m"), Ok(Duration::from_mins(2)));
        assert!(duration_or_none("-1").is_err());
        assert_eq!(grace("0"), Ok(Duration::ZERO));
        assert_eq!(grace("10m"), Ok(Duration::from_mins(10)));
        assert!(grace("601").is_err() && grace("-1").is_err());
    }

    #[test]
    fn numbers_and_addresses() {
        assert_eq!(number("62", 1..=62), Ok(62));
        for wrong in ["", "0", "63", "-1", "two", "1.0"] {
            let error = number(wrong, 1..=62).unwrap_err();
            assert_eq!(error, "write a number from 1 to 62", "{wrong}");
        }
        assert_eq!(count("4294967295"), Ok(u32::MAX));
        assert_eq!(count("0").unwrap_err(), "write a number, at least 1");
        assert_eq!(address("[::]:1"), Ok(SocketAddr::from(([0_u16; 8], 1))));
        for (wrong, example) in [
            ("8081", "127.0.0.1:8081"),
            (":8081", "127.0.0.1:8081"),
            ("localhost:80", "127.0.0.1:8080"),
            ("127.0.0.1", "127.0.0.1:8080"),
            ("", "127.0.0.1:8080"),
        ] {
            let error = address(wrong).unwrap_err();
            assert!(error.contains(example), "{wrong}: {error}");
        }
    }

    #[test]
    fn directories() {
        let parsed = |text| directory(text).map(|d| (d.host, d.guest, d.read_only));
        assert_eq!(parsed("a::/b:ro"), Ok(("a".into(), "/b".into(), true)));
        assert_eq!(parsed("a::/b"), Ok(("a".into(), "/b".into(), false)));
        assert_eq!(parsed("a"), Ok(("a".into(), "a".into(), false)));
        assert_eq!(parsed("a:ro"), Ok(("a".into(), "a".into(), true)));
        for wrong in ["", "::b", "a::", ":ro", "a:RO", "a::/b:RW"] {
            assert!(directory(wrong).is_err(), "{wrong}");
        }
        let quota = |text| directory(text).map(|d| (d.host, d.guest, d.quota));
        let bytes = Some(10 << 20);
        assert_eq!(
            quota("a::/b:quota=10M"),
            Ok(("a".into(), "/b".into(), bytes))
        );
        assert_eq!(quota("a:rw:quota=10M"), Ok(("a".into(), "a".into(), bytes)));
        assert_eq!(quota("a"), Ok(("a".into(), "a".into(), None)));
        for wrong in ["a:quota=", "a:quota=x", ":quota=1M"] {
            assert!(directory(wrong).is_err(), "{wrong}");
        }
        for both in ["a:ro:quota=1M", "a:quota=1M:ro"] {
            let error = directory(both).unwrap_err();
            assert!(error.contains("needs no quota"), "{both}: {error}");
        }
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        for nameless in ["", "=b", "="] {
            let error = variable(nameless).unwrap_err();
            assert_eq!(error, "write a variable as NAME=VALUE");
        }
        let error = variable("ENARX_TEST_SURELY_NOT_SET").unwrap_err();
        assert!(error.contains("is not set here"), "{error}");
        let (name, value) = variable("PATH").unwrap();
        assert_eq!((name.as_str(), value.is_empty()), ("PATH", false));
    }
}
