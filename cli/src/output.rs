//! Standard output. Whoever reads it may stop early (`enarx measure | head`): that is no failure of
//! ours, and no panic.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process;

/// Prints; ends the command when nobody reads any more, or when the output cannot be written.
pub fn print(text: Arguments<'_>) {
    let Err(error) = io::stdout().lock().write_fmt(text) else {
        return;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        eprintln!("enarx: standard output could not be written: {error}: give it more room");
    }
    process::exit(i32::from(crate::EXIT_FAILURE));
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
