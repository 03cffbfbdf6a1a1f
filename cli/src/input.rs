// SPDX-License-Identifier: Apache-2.0

//! The input of the command: files of a bounded length, standard input, the clock, and times as they are written. None
//! of it is trusted: its users check it.

use std::io;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use enarx_attestation::{AmdEndorsements, Timestamp, container};
use enarx_collateral::file;

use crate::failure::{Exit, Failure};
use crate::output;

/// Stands for standard input.
const STDIN: &str = "-";
/// Bytes of the largest program, application and configuration of a Keep.
pub const MAX_PROGRAM_LEN: u64 = 1 << 30;

/// Reads a regular file with evidence, certificates, a policy or a key; `-` is standard input.
///
/// # Errors
/// [`Exit::Input`].
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_up_to(path, file::MAX_LEN)
}

/// Reads evidence, and takes it out of the form in which it was delivered; which one it was is said on standard error.
/// Certificates that came with it are given, too.
///
/// # Errors
/// As [`read`].
pub fn read_evidence(path: &Path) -> Result<(Vec<u8>, AmdEndorsements), Failure> {
    let bytes = read(path)?;
    let found = container::extract(&bytes);
    if !found.containers.is_empty() {
        let containers: Vec<_> = found.containers.iter().map(ToString::to_string).collect();
        output::complain(format_args!(
            "{} is {}; the report is extracted from it",
            path.display(),
            containers.join(", and in it ")
        ));
    }
    Ok((found.evidence.into_owned(), found.certificates))
}

/// Reads a regular file of at most `max` bytes; `-` is standard input.
///
/// # Errors
/// [`Exit::Input`].
pub fn read_up_to(path: &Path, max: u64) -> Result<Vec<u8>, Failure> {
    let bytes = if is_stdin(path) {
        file::read_bounded(io::stdin().lock(), max)
    } else {
        file::read_up_to(path, max)
    };
    bytes.map_err(|error| unreadable(path, &error))
}

/// Reads a program: a file, a pipe or standard input for `-`.
///
/// # Errors
/// [`Exit::Input`].
pub fn read_program(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if is_stdin(path) {
        file::read_bounded(io::stdin().lock(), MAX_PROGRAM_LEN)
    } else {
        std::fs::File::open(path).and_then(|file| file::read_bounded(file, MAX_PROGRAM_LEN))
    };
    bytes.map_err(|error| unreadable(path, &error))
}

/// Reads a file with `read`, and gives up at `end` if there is one: a pipe or standard input can block a reader
/// forever.
///
/// # Errors
/// The failures of `read`; [`Exit::TimedOut`].
pub fn in_time<T: Send + 'static>(
    path: &Path,
    end: Option<Instant>,
    read: impl FnOnce(&Path) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    // A path that cannot be looked at gives its error at once.
    let waits = is_stdin(path) || std::fs::metadata(path).is_ok_and(|found| !found.is_file());
    let Some(end) = end.filter(|_| waits) else {
        return read(path);
    };
    let (done, found) = channel();
    let own = path.to_owned();
    // The thread is left behind if nothing comes.
    thread::Builder::new()
        .spawn(move || drop(done.send(read(&own))))
        .map_err(|error| {
            let remedy = enarx_confine::process::remedy(&error);
            Failure::of(Exit::Unavailable, format!("{error}{remedy}"))
        })?;
    let left = end.saturating_duration_since(Instant::now());
    found.recv_timeout(left).unwrap_or_else(|_| {
        Err(Failure::of(
            Exit::TimedOut,
            format!(
                "the time limit was reached before {} had been read, and nothing was sent",
                path.display()
            ),
        ))
    })
}

/// The name of an input in a sentence.
pub fn shown(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// True if a path stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// Reads a text file as [`read`].
///
/// # Errors
/// [`Exit::Input`], or [`Exit::Data`] when it is not text.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::data(format!("{} is not text in UTF-8", path.display())))
}

/// A file that cannot be read.
pub fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => ": check the path",
        io::ErrorKind::IsADirectory => ": name a file in it",
        io::ErrorKind::PermissionDenied => ": have its owner let you read it",
        _ => "",
    };
    let path = shown(path);
    Failure::of(Exit::Input, format!("cannot read {path}: {error}{remedy}"))
}

/// The clock of this computer.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

/// A time on the command line: seconds since 1970 or RFC 3339.
///
/// # Errors
/// The remedy, for the end of a usage error.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let Ok(seconds) = text.parse() else {
        return text.parse::<Timestamp>().map_err(|_| {
            "neither seconds since 1970 nor RFC 3339, such as 2027-01-31T12:00:00Z".to_owned()
        });
    };
    let time = Timestamp(seconds);
    // As seconds, eight digits mean a time from 1970 to 1973, which nobody intends.
    if text.len() == 8 && (19_700_101..=99_991_231).contains(&seconds) {
        let [year, month, day] = [&text[..4], &text[4..6], &text[6..]];
        return Err(format!(
            "it reads as a date, and would be {time}: write {year}-{month}-{day}T00:00:00Z"
        ));
    }
    if time > Timestamp::LAST_DATE {
        return Err("after the year 9999: give seconds since 1970, not milliseconds".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for good in [
            "1736460861",
            "2025-01-09T22:14:21Z",
            "2025-01-09T23:14:21+01:00",
        ] {
            assert_eq!(time(good), Ok(Timestamp(1_736_460_861)), "{good}");
        }
        assert_eq!(time("0"), Ok(Timestamp(0)));
        assert_eq!(time("253402300799"), Ok(Timestamp::LAST_DATE));
        for bad in [
            "",
            "-1",
            "yesterday",
            "2025-01-09",
            "1969-12-31T23:59:59Z",
            "20260330",
            "1793491200000",
            "253402300800",
            "18446744073709551615",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
