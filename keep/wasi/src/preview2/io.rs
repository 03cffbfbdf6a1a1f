// SPDX-License-Identifier: Apache-2.0

//! `wasi:io`: the host side of `wasmtime-wasi-io`, driven by the port instead of fibers; and our
//! streams for it.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bindings::wasi::io::{poll as async_poll, streams as async_streams};
use wasmtime_wasi_io::poll::{DynPollable, Pollable};
use wasmtime_wasi_io::streams::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, StreamError, StreamResult,
};

use super::bindings::wasi::io::{poll, streams};
use super::state::Preview2;
use crate::error::Errno;
use crate::fs::Descriptor;
use crate::port::MAX_TRANSFER;
use crate::stream::{Ended, Input, Output};

/// Most bytes that the Keep allocates for one read of a file, as in the engine's own WASI.
pub const READ_MAX: usize = 64 * 1024;

/// The table of a store, for the interface that needs nothing else.
pub struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

impl poll::Host for Preview2 {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let port = self.context.port.clone();
        port.block_on(async_poll::Host::poll(&mut self.table, pollables))
    }
}

impl poll::HostPollable for Preview2 {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let port = self.context.port.clone();
        port.block_on(async_poll::HostPollable::ready(&mut self.table, pollable))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let port = self.context.port.clone();
        port.block_on(async_poll::HostPollable::block(&mut self.table, pollable))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(&mut self.table, pollable)
    }
}

impl streams::Host for Preview2 {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        use async_streams::StreamError as Converted;
        Ok(
            match async_streams::Host::convert_stream_error(&mut self.table, error)? {
                Converted::LastOperationFailed(error) => {
                    streams::StreamError::LastOperationFailed(error)
                }
                Converted::Closed => streams::StreamError::Closed,
            },
        )
    }
}

use async_streams::{HostInputStream as AsyncInput, HostOutputStream as AsyncOutput};

impl streams::HostInputStream for Preview2 {
    fn read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        AsyncInput::read(&mut self.table, stream, length)
    }

    fn blocking_read(
        &mut self,
        stream: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<Vec<u8>> {
        let port = self.context.port.clone();
        port.block_on(AsyncInput::blocking_read(&mut self.table, stream, length))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        AsyncInput::skip(&mut self.table, stream, length)
    }

    fn blocking_skip(
        &mut self,
        stream: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        let port = self.context.port.clone();
        port.block_on(AsyncInput::blocking_skip(&mut self.table, stream, length))
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynInputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        AsyncInput::subscribe(&mut self.table, stream)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        let port = self.context.port.clone();
        port.block_on(AsyncInput::drop(&mut self.table, stream))
    }
}

impl streams::HostOutputStream for Preview2 {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        AsyncOutput::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        AsyncOutput::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let port = self.context.port.clone();
        port.block_on(AsyncOutput::blocking_write_and_flush(
            &mut self.table,
            stream,
            bytes,
        ))
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        AsyncOutput::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let port = self.context.port.clone();
        port.block_on(AsyncOutput::blocking_flush(&mut self.table, stream))
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        AsyncOutput::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        AsyncOutput::write_zeroes(&mut self.table, stream, length)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        length: u64,
    ) -> StreamResult<()> {
        let port = self.context.port.clone();
        port.block_on(AsyncOutput::blocking_write_zeroes_and_flush(
            &mut self.table,
            stream,
            length,
        ))
    }

    fn splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        AsyncOutput::splice(&mut self.table, stream, source, length)
    }

    fn blocking_splice(
        &mut self,
        stream: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        let port = self.context.port.clone();
        port.block_on(AsyncOutput::blocking_splice(
            &mut self.table,
            stream,
            source,
            length,
        ))
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        let port = self.context.port.clone();
        port.block_on(AsyncOutput::drop(&mut self.table, stream))
    }
}

fn failed(errno: Errno) -> StreamError {
    StreamError::LastOperationFailed(errno.into())
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        std::future::poll_fn(|context| {
            if self.poll_ready_for(context) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read_available(size).map(Bytes::from).map_err(ended)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read_some(size).await.map(Bytes::from).map_err(ended)
    }
}

fn ended(end: Ended) -> StreamError {
    match end {
        Ended::End => StreamError::Closed,
        Ended::Failed(errno) => failed(errno),
    }
}

/// Standard output or error. An error is reported once, then the stream is closed.
pub struct StandardOutput {
    output: Output,
    closed: bool,
}

impl StandardOutput {
    /// The stream, of which there may be several views.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            closed: false,
        }
    }

    fn open(&self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for StandardOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for StandardOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.open()?;
        self.output.write_all(&bytes).map_err(|errno| {
            self.closed = true;
            failed(errno)
        })
    }

    /// C libraries implement write(2) with it, so it waits no longer than a preview 1 write, although WASI and Wasmtime
    /// wait: nothing is held back here, and a later error is reported by the next call or, if there is none, by the
    /// command. Waiting for each write would make output several times slower. Files wait.
    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write(bytes)
    }

    /// As a write, it waits by itself.
    fn flush(&mut self) -> StreamResult<()> {
        self.open()?;
        self.output.flush().map_err(|errno| {
            self.closed = true;
            failed(errno)
        })
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.open().map(|()| MAX_TRANSFER)
    }
}

/// Reading a file from a position on. An error is reported once, then the stream is closed.
pub struct FileInput {
    file: Arc<Descriptor>,
    /// Where the next read happens.
    position: u64,
    closed: bool,
}

impl FileInput {
    /// The bytes of a file from `position` on.
    pub fn new(file: Arc<Descriptor>, position: u64) -> Self {
        Self {
            file,
            position,
            closed: false,
        }
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; size.min(READ_MAX)];
        let read = self.file.read_at(self.position, &mut bytes);
        self.closed = !matches!(read, Ok(1..));
        let read = read.map_err(failed)?;
        if read == 0 {
            return Err(StreamError::Closed);
        }
        self.position = self.position.saturating_add(read as u64);
        bytes.truncate(read);
        Ok(bytes.into())
    }
}

/// Writing a file. An error is reported once, then the stream is closed.
pub struct FileOutput {
    file: Arc<Descriptor>,
    /// Where the next write happens; `None` is the end.
    position: Option<u64>,
    closed: bool,
}

impl FileOutput {
    /// Writes from `position` on, or always at the end.
    pub fn new(file: Arc<Descriptor>, position: Option<u64>) -> Self {
        Self {
            file,
            position,
            closed: false,
        }
    }

    fn open(&self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        Ok(())
    }

    /// Writes all of it. A write of nothing fails where any other would.
    fn write_all(&mut self, mut rest: &[u8]) -> crate::error::Result<()> {
        loop {
            let written = match self.position {
                Some(position) => self.file.write_at(position, rest),
                None => self.file.append(rest),
            }?;
            if written == 0 && !rest.is_empty() {
                return Err(Errno::NoSpace);
            }
            if let Some(position) = &mut self.position {
                *position = position.saturating_add(written as u64);
            }
            rest = rest.get(written..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.open()?;
        self.write_all(&bytes).map_err(|errno| {
            self.closed = true;
            failed(errno)
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.open()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.open().map(|()| READ_MAX)
    }
}
