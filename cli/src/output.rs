//! Everything that this command prints: results on standard output, everything else on standard error.
//!
//! Nothing here panics, and no message changes an exit code. A message that nobody takes is lost; so is
//! the rest of a result whose reader has seen enough (`enarx verify … | head -1`). A result that cannot be
//! written for another reason is a failure: who asked for it does not have it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// How long after the time limit a message may wait for its reader.
const PATIENCE: Duration = Duration::from_millis(250);

/// When this command is to have ended.
static LIMIT: OnceLock<Instant> = OnceLock::new();

/// From now on no message waits for a reader who does not read, longer than a moment after this time.
pub fn limit(end: Instant) {
    LIMIT.get_or_init(|| end);
}

/// Prints a part of the result. Ends the command when it cannot be written.
pub fn print(text: Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_fmt(text).and_then(|()| stdout.flush());
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
    process::exit(i32::from(crate::EXIT_FAILURE));
}

/// Prints a message and the end of its line on standard error.
pub fn say(text: Arguments<'_>) {
    let text = format!("{text}\n");
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
