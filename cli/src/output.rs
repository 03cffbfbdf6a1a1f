// SPDX-License-Identifier: Apache-2.0

//! Everything that this command prints: results on standard output, everything else on standard error.
//!
//! Nothing here panics, and no message changes an exit code. A message that cannot be written is lost; so
//! is the rest of a result whose reader has closed the pipe (`enarx verify … | head -1`). A result that
//! cannot be written for another reason is a failure, because the user does not get it.
//!
//! Text of evidence, of manifests and names of files is hostile: nothing that acts on a terminal leaves here.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread;
use std::time::{Duration, Instant};

use enarx_attestation::printable::{printable, printable_json, printable_lines};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::colour;
use crate::failure::{Exit, Failure};

/// How long after the time limit a message may wait for its reader, and one of the log at any time.
const PATIENCE: Duration = Duration::from_millis(250);

/// Messages that may wait to be written.
const WAITING: usize = 64;

/// Time after which work is said to take long.
const LONG: Duration = Duration::from_secs(2);

/// Bytes for which there must be room where a file will be written: more than a receipt or a ticket
/// needs.
const ROOM: usize = 64 << 10;

/// The time at which this command must have ended.
static LIMIT: OnceLock<Instant> = OnceLock::new();

/// The writer of a command with a time limit that has several threads anyway.
static WRITER: OnceLock<Writer> = OnceLock::new();

/// True if standard error is in the middle of a line of the program.
static UNFINISHED: AtomicBool = AtomicBool::new(false);

/// A thread that writes messages. The descriptor is shared with other programs, so it cannot be made non-blocking; a thread
/// can be left behind.
struct Writer(SyncSender<Message>);

/// A message, and the thread that waits until it is written.
struct Message {
    text: String,
    done: Sender<io::Result<()>>,
}

impl Writer {
    /// A thread that ends with this.
    fn start() -> Self {
        let (messages, to_be_written) = sync_channel::<Message>(WAITING);
        // Without it, the thread with a message writes it.
        let _ = thread::Builder::new().spawn(move || {
            for Message { text, done } in to_be_written {
                let _ = done.send(io::stderr().write_all(text.as_bytes()));
            }
        });
        Self(messages)
    }

    /// Has a text written, and waits for that until `until`.
    fn write(&self, text: String, until: Instant) -> io::Result<()> {
        let (done, written) = channel();
        match self.0.try_send(Message { text, done }) {
            Ok(()) => taken(&written, until),
            Err(TrySendError::Full(_)) => Err(ErrorKind::TimedOut.into()),
            Err(TrySendError::Disconnected(message)) => {
                io::stderr().write_all(message.text.as_bytes())
            }
        }
    }
}

/// Has a text written by a thread of its own, and waits for that until `until`, or for [`PATIENCE`] from the moment on at which
/// the thread begins to write: on a busy machine it may come late.
fn write_apart(text: &str, until: Instant) -> io::Result<()> {
    let (begins, begun) = channel();
    let (done, written) = channel();
    let own = text.to_owned();
    let started = thread::Builder::new().spawn(move || {
        let _ = begins.send(());
        let _ = done.send(io::stderr().write_all(own.as_bytes()));
    });
    if started.is_err() {
        return io::stderr().write_all(text.as_bytes());
    }
    // Fails when the thread is gone, and then nothing is written either.
    let _ = begun.recv();
    taken(&written, until.max(Instant::now() + PATIENCE))
}

/// Waits until a message is written, or until `until`.
fn taken(written: &Receiver<io::Result<()>>, until: Instant) -> io::Result<()> {
    written
        .recv_timeout(until.saturating_duration_since(Instant::now()))
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// From now on no message waits longer than a moment after `end` for a reader who does not read.
pub fn limit(end: Instant) {
    LIMIT.get_or_init(|| end);
}

/// As [`limit`], also for the log, by a thread that stays: for commands that have several anyway.
pub fn limit_all(end: Instant) {
    limit(end);
    WRITER.get_or_init(Writer::start);
}

/// Notes whether the program has written a part of a line to where messages go: the next message begins a new one.
pub fn in_line(unfinished: bool) {
    UNFINISHED.store(unfinished, Ordering::Relaxed);
}

/// Writes a message to standard error, and waits for its reader as long as the time limit allows.
fn tell(text: &str) -> io::Result<()> {
    let text = begun(text);
    let Some(end) = LIMIT.get() else {
        return io::stderr().write_all(text.as_bytes());
    };
    let until = (*end).max(Instant::now()) + PATIENCE;
    match WRITER.get() {
        Some(writer) => writer.write(text, until),
        None => write_apart(&text, until),
    }
}

/// A message at the beginning of a line.
fn begun(text: &str) -> String {
    let start = if UNFINISHED.swap(false, Ordering::Relaxed) {
        "\n"
    } else {
        ""
    };
    format!("{start}{text}")
}

/// Prints a part of the result. Ends the command when it cannot be written.
pub fn print(text: Arguments<'_>) {
    write(&printable_lines(&text.to_string()));
}

/// Prints a result with words that state an outcome, in colour if wanted. Ends the command when it cannot
/// be written.
pub fn print_states(text: &str) {
    let text = printable_lines(text);
    if colour::are_enabled() {
        write(&colour::coloured(&text));
    } else {
        write(&text);
    }
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
    let failure = Failure::of(
        Exit::Output,
        format!("standard output could not be written: {error}: give it more room"),
    );
    failure.say();
    process::exit(i32::from(failure.code()));
}

/// The name of a file, as one line.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// A path with a further extension, after those that it has.
pub fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Replaces or creates a file; nobody else can read it.
///
/// # Errors
/// The system's; and where there is anything but a regular file: a device, a pipe or a link is not to be replaced, and not
/// to be followed.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes).map_err(unnamed)?;
    file.persist(path)?;
    Ok(())
}

/// Checks that [`create`] could create a file there now, and changes nothing.
///
/// # Errors
/// As [`create`].
pub fn check(path: &Path) -> io::Result<()> {
    beside(path)?.write_all(&vec![0; ROOM]).map_err(unnamed)
}

/// A new file in the folder of this path, which will replace it.
///
/// # Errors
/// As [`create`].
pub fn beside(path: &Path) -> io::Result<NamedTempFile> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("it exists and is not a regular file"));
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(unnamed)
}

/// An error without the name of a temporary file, which is no use to readers.
pub fn unnamed(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path") {
        Some((words, _)) => io::Error::new(error.kind(), words.to_owned()),
        None => error,
    }
}

/// Prints an error as JSON, with its name and the exit code.
pub fn print_error(failure: &Failure) {
    let mut document = json!({
        "error": printable(&failure.sentence),
        "code": failure.name(),
        "exit_code": failure.code(),
    });
    if !failure.checks().is_empty() {
        document["checks"] = json!(failure.checks());
    }
    print_json(&document);
}

impl Failure {
    /// Says it in one line on standard error.
    pub fn say(&self) {
        complain(&self.sentence);
    }

    /// Says it: in one line on standard error and, where JSON was asked for, as an object on standard output.
    pub fn report(self, json: bool) -> ExitCode {
        if json {
            print_error(&self);
        }
        self.say();
        self.exit().into()
    }
}

/// Prints an error in one line on standard error.
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
        let text = begun(&text);
        // From any thread, also from one that may start no other.
        let _ = match WRITER.get() {
            Some(writer) => writer.write(text, Instant::now() + PATIENCE),
            None => io::stderr().write_all(text.as_bytes()),
        };
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a message and the end of its line on standard error; it may have several lines.
pub fn say(text: Arguments<'_>) {
    // Nobody can be told that it was not written.
    let _ = tell(&(printable_lines(&text.to_string()) + "\n"));
}

/// A line on the terminal about work that takes long, until this is dropped.
pub struct Progress {
    /// Ends the work by being dropped.
    work: Option<Sender<()>>,
    /// Closed once the line is gone.
    gone: Receiver<()>,
}

impl Progress {
    /// Begins work to which the line refers. Nothing is shown if standard error is not a terminal, or
    /// before the work has taken long.
    pub fn begin(line: &str) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let line = printable(line);
        let (work, ended) = channel::<()>();
        let (gone_again, gone) = channel::<()>();
        thread::Builder::new()
            .spawn(move || {
                let _gone_again = gone_again;
                if ended.recv_timeout(LONG) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                // Without the lock of standard error: a stopped terminal must delay nobody else.
                let write = |text: &str| rustix::io::write(io::stderr(), text.as_bytes());
                if write(&line).is_ok() {
                    let _ = ended.recv();
                    // Moves to the beginning of the line, and clears the rest.
                    let _ = write("\r\x1b[K");
                }
            })
            .ok()?;
        let work = Some(work);
        Some(Self { work, gone })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.work = None;
        // A terminal that takes nothing is not waited for.
        let _ = self.gone.recv_timeout(PATIENCE);
    }
}

/// Writes a part of the result as a line to standard error.
///
/// # Errors
/// When it cannot be written, or nobody takes it in time.
pub fn result_line(text: &str) -> io::Result<()> {
    tell(&format!("{text}\n"))
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
