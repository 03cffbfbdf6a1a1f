// SPDX-License-Identifier: Apache-2.0

//! The log of the libraries: `-v`, `-vv` and ENARX_LOG decide which events are shown. Nothing is printed
//! twice: everything that a user must know is a message of the command itself, at any verbosity.

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::failure::Failure;
use crate::output::Log;
use crate::values::environment;

/// The variable with directives such as `enarx_collateral=debug`, in the form of `tracing`'s `EnvFilter`.
pub const VARIABLE: &str = "ENARX_LOG";

/// One line for each event: `enarx: [info] …`.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(writer, "enarx: [{level}] ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// From now on events that the flags or the variable ask for go to standard error.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) when the variable cannot be understood.
pub fn start(verbosity: u8) -> Result<(), Failure> {
    let set = environment(VARIABLE)?;
    let directives = match (set.as_str(), verbosity) {
        ("", 0) => return Ok(()),
        ("", 1) => "warn,enarx=info",
        ("", 2) => "info,enarx=debug",
        ("", _) => "debug,enarx=trace",
        (directives, _) => directives,
    };
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}: {error}: write it as in enarx=debug, or give -v"
        ))
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Line)
        .with_writer(|| Log)
        .finish();
    // It fails only where one is set already, and nobody but us sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
