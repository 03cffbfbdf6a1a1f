//! The output of this command. A reader may stop early (`enarx verify … | head`): that is no failure of ours, no panic,
//! and changes no exit code. Text of evidence, manifests and names of files is hostile: nothing that acts on a terminal leaves here.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process;

use enarx_attestation::printable::{printable, printable_json, printable_lines};
use serde_json::Value;

/// Prints; ends the command when the output cannot be written, unless nobody reads it any more.
pub fn print(text: Arguments<'_>) {
    write(&printable_lines(&text.to_string()));
}

/// Prints a value as JSON.
pub fn print_json(value: &Value) {
    write(&printable_json(&format!("{value:#}\n")));
}

fn write(text: &str) {
    let Err(error) = io::stdout().lock().write_all(text.as_bytes()) else {
        return;
    };
    if error.kind() == ErrorKind::BrokenPipe {
        return;
    }
    complain(
        "enarx",
        format_args!("standard output could not be written: {error}: give it more room"),
    );
    process::exit(i32::from(crate::EXIT_FAILURE));
}

/// The name of a file, as one line.
pub fn shown(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// Says what is wrong, in one line on standard error and, where JSON was asked for, as its member `error`.
pub fn fail(json: bool, what: impl Display) {
    let what = what.to_string();
    if json {
        print_json(&serde_json::json!({ "error": printable(&what) }));
    }
    complain("error", what);
}

/// Says in one line on standard error what is wrong.
pub fn complain(who: &str, what: impl Display) {
    // Where nobody can be told, the exit code says it.
    let _ = writeln!(io::stderr(), "{who}: {}", printable(&what.to_string()));
}

/// As [`complain`], for messages of several lines, such as those that show the place in a program's text.
pub fn complain_at_length(who: &str, what: impl Display) {
    let _ = writeln!(
        io::stderr(),
        "{who}: {}",
        printable_lines(&what.to_string())
    );
}

/// `print!` for this command.
macro_rules! out {
    ($($argument:tt)*) => {
        crate::output::print(format_args!($($argument)*))
    };
}

/// `println!` for this command.
macro_rules! outln {
    ($($argument:tt)*) => {{
        crate::output::print(format_args!($($argument)*));
        crate::output::print(format_args!("\n"));
    }};
}
