// SPDX-License-Identifier: Apache-2.0

//! Everything that this command prints: results on standard output, everything else on standard error.
//!
//! Nothing here panics, and no message changes an exit code. A message that nobody takes is lost; so is
//! the rest of a result whose reader has seen enough (`enarx verify … | head -1`). A result that cannot be
//! written for another reason is a failure, because whoever asked for it does not have it.
//!
//! Text of evidence, of manifests and names of files is hostile: nothing that acts on a terminal leaves here.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use enarx_attestation::printable::{printable, printable_json, printable_lines};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::failure::Exit;

/// How long after the time limit a message may wait for its reader.
const PATIENCE: Duration = Duration::from_millis(250);

/// The time at which this command is to have ended.
static LIMIT: OnceLock<Instant> = OnceLock::new();

/// From now on no message waits longer than a moment after `end` for a reader who does not read.
pub fn limit(end: Instant) {
    LIMIT.get_or_init(|| end);
}

/// Prints a part of the result. Ends the command when it cannot be written.
pub fn print(text: Arguments<'_>) {
    write(&printable_lines(&text.to_string()));
}

/// Prints a value as JSON. Ends the command when it cannot be written.
pub fn print_json(value: &Value) {
    write(&printable_json(&format!("{value:#}\n")));
}

fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    drop(stdout);
    printed(written);
}

/// Ends the command when a part of the result could not be written.
pub fn printed(written: io::Result<()>) {
    let Err(error) = written else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        return;
    }
    say(format_args!(
        "enarx: standard output could not be written: {error}: give it more room"
    ));
    process::exit(i32::from(Exit::Output.code()));
}

/// The name of a file, as one line.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// Puts a new file into the place of an older one, or where nothing is; nobody else can read it.
///
/// # Errors
/// The system's; and where there is anything but a regular file: a device, a pipe or a link is not to be replaced, and not
/// to be followed.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(
            "something else than a regular file is there; name another place",
        ));
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// Prints what is wrong as JSON, with the exit code.
pub fn print_error(what: &str, code: u8) {
    print_json(&serde_json::json!({ "error": printable(what), "exit_code": code }));
}

/// Says in one line on standard error what is wrong.
pub fn complain(what: impl Display) {
    say(format_args!("enarx: {}", printable(&what.to_string())));
}

/// The log of the libraries, an event at a time, on standard error: see [`crate::log`].
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Write for Log {
    /// Takes everything: a message that cannot be written is lost.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = printable_lines(&String::from_utf8_lossy(event));
        // From any thread, also from one that may start no other: so not by `say`.
        let _ = io::stderr().write_all(text.as_bytes());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a message and the end of its line on standard error; it may have several lines.
pub fn say(text: Arguments<'_>) {
    let text = printable_lines(&text.to_string()) + "\n";
    // Nobody can be told that it was not written.
    let write = |text: String| drop(io::stderr().write_all(text.as_bytes()));
    let Some(limit) = LIMIT.get() else {
        return write(text);
    };
    let (done, written) = channel();
    // The descriptor is shared with other programs, so it cannot be made non-blocking; a thread can be
    // left behind.
    let writer = thread::Builder::new().spawn(move || {
        write(text);
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = written.recv_timeout(limit.saturating_duration_since(Instant::now()) + PATIENCE);
    }
}

/// `print!` for results.
macro_rules! out {
    ($($argument:tt)*) => {
        crate::output::print(format_args!($($argument)*))
    };
}

/// `println!` for results.
macro_rules! outln {
    ($($argument:tt)*) => {
        crate::output::print(format_args!("{}\n", format_args!($($argument)*)))
    };
}

/// `eprintln!` for messages.
macro_rules! say {
    ($($argument:tt)*) => {
        crate::output::say(format_args!($($argument)*))
    };
}
