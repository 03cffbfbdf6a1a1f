// SPDX-License-Identifier: Apache-2.0

//! `wasi:cli`: environment, exit, standard streams, terminals.

use wasmtime::component::{Access, FutureReader, Resource, StreamReader};

use super::bindings::wasi::cli::types::{self, ErrorCode};
use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use super::state::State;
use super::streams::{InputProducer, OutputConsumer, outcome};
use crate::error::Errno;
use crate::preview2::Preview2;
use crate::preview2::bindings::wasi::cli as of_0_2;
use crate::preview2::terminal::Terminal;
use crate::stream::Output;

/// The outcome of a standard stream: a future of it.
type Ended = FutureReader<Result<(), ErrorCode>>;

fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::Pipe => ErrorCode::Pipe,
        Errno::IllegalByteSequence => ErrorCode::IllegalByteSequence,
        _ => ErrorCode::Io,
    }
}

impl types::Host for Preview2 {}

impl environment::Host for Preview2 {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        of_0_2::environment::Host::get_environment(self)
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        of_0_2::environment::Host::get_arguments(self)
    }

    fn get_initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        of_0_2::environment::Host::initial_cwd(self)
    }
}

impl exit::Host for Preview2 {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        of_0_2::exit::Host::exit(self, status)
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        of_0_2::exit::Host::exit_with_code(self, code)
    }
}

impl stdin::Host for Preview2 {}
impl stdout::Host for Preview2 {}
impl stderr::Host for Preview2 {}

impl<U: 'static> stdin::HostWithStore<U> for State {
    fn read_via_stream(
        mut store: Access<'_, U, Self>,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let (result, future) = outcome(error_code);
        let context = store.get().context();
        let producer = InputProducer::new(context.stdin.clone(), result);
        let stream = StreamReader::new(&mut store, producer)?;
        Ok((stream, FutureReader::new(&mut store, future)?))
    }
}

/// Writes a stream to standard output or error.
fn written<U: 'static>(
    mut store: Access<'_, U, State>,
    output: Output,
    data: StreamReader<u8>,
) -> wasmtime::Result<Ended> {
    let (result, future) = outcome(error_code);
    data.pipe(&mut store, OutputConsumer::new(output, result))?;
    FutureReader::new(&mut store, future)
}

impl<U: 'static> stdout::HostWithStore<U> for State {
    fn write_via_stream(
        mut store: Access<'_, U, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        let output = store.get().context().stdout.clone();
        written(store, output, data)
    }
}

impl<U: 'static> stderr::HostWithStore<U> for State {
    fn write_via_stream(
        mut store: Access<'_, U, Self>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        let output = store.get().context().stderr.clone();
        written(store, output, data)
    }
}

impl terminal_input::Host for Preview2 {}
impl terminal_input::HostTerminalInput for Preview2 {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        of_0_2::terminal_input::HostTerminalInput::drop(self, terminal)
    }
}

impl terminal_output::Host for Preview2 {}
impl terminal_output::HostTerminalOutput for Preview2 {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        of_0_2::terminal_output::HostTerminalOutput::drop(self, terminal)
    }
}

impl terminal_stdin::Host for Preview2 {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        of_0_2::terminal_stdin::Host::get_terminal_stdin(self)
    }
}

impl terminal_stdout::Host for Preview2 {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        of_0_2::terminal_stdout::Host::get_terminal_stdout(self)
    }
}

impl terminal_stderr::Host for Preview2 {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        of_0_2::terminal_stderr::Host::get_terminal_stderr(self)
    }
}
