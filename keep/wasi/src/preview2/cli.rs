// SPDX-License-Identifier: Apache-2.0

//! `wasi:cli`: environment, exit, standard streams, terminals.

use wasmtime::component::Resource;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::bindings::wasi::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use super::io::StandardOutput;
use super::state::Preview2;
use super::terminal::Terminal;
use crate::Exit;

impl environment::Host for Preview2 {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.context.environment.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.context.arguments.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl exit::Host for Preview2 {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(Exit(i32::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(Exit(i32::from(code)).into())
    }
}

impl stdin::Host for Preview2 {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(self.context.stdin.clone());
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for Preview2 {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(StandardOutput::new(self.context.stdout.clone()));
        Ok(self.table.push(stream)?)
    }
}

impl stderr::Host for Preview2 {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(StandardOutput::new(self.context.stderr.clone()));
        Ok(self.table.push(stream)?)
    }
}

impl terminal_input::Host for Preview2 {}
impl terminal_input::HostTerminalInput for Preview2 {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::Host for Preview2 {}
impl terminal_output::HostTerminalOutput for Preview2 {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl Preview2 {
    fn terminal(&mut self, is_terminal: bool) -> wasmtime::Result<Option<Resource<Terminal>>> {
        if !is_terminal {
            return Ok(None);
        }
        Ok(Some(self.table.push(Terminal)?))
    }
}

impl terminal_stdin::Host for Preview2 {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(self.context.terminals.stdin)
    }
}

impl terminal_stdout::Host for Preview2 {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(self.context.terminals.stdout)
    }
}

impl terminal_stderr::Host for Preview2 {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(self.context.terminals.stderr)
    }
}
