// SPDX-License-Identifier: Apache-2.0

//! The standard streams of this command, as the ends of a deployed program's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use enarx_agent::Streams;
use rustix::fs::fstat;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::output;
use crate::workload::Stream;

/// The streams of this command that stand for a program's.
pub type Ends = Streams<
    Box<dyn AsyncRead + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
    Box<dyn AsyncWrite + Send + Unpin>,
>;

/// The ends of these streams at this command.
pub fn streams([stdin, stdout, stderr]: [Stream; 3]) -> Ends {
    let output = |stream| -> Box<dyn AsyncWrite + Send + Unpin> {
        match stream {
            Stream::Stdout if share_one_file() => Box::new(Lines(tokio::io::stdout())),
            Stream::Stdout => Box::new(tokio::io::stdout()),
            Stream::Stderr => Box::new(Lines(tokio::io::stderr())),
            Stream::Null | Stream::Stdin => Box::new(tokio::io::sink()),
        }
    };
    Streams {
        stdin: match stdin {
            Stream::Stdin => Box::new(tokio::io::stdin()),
            _ => Box::new(tokio::io::empty()),
        },
        stdout: output(stdout),
        stderr: output(stderr),
    }
}

/// True if standard output and standard error are the same file: a terminal, mostly.
fn share_one_file() -> bool {
    let file = |found: rustix::fs::Stat| (found.st_dev, found.st_ino);
    match (fstat(io::stdout()), fstat(io::stderr())) {
        (Ok(stdout), Ok(stderr)) => file(stdout) == file(stderr),
        _ => false,
    }
}

/// An output that shares its destination with messages, and records for them where lines end.
struct Lines<W>(W);

impl<W: AsyncWrite + Unpin> AsyncWrite for Lines<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.0).poll_write(context, bytes))?;
        if let Some(last) = count.checked_sub(1).and_then(|last| bytes.get(last)) {
            output::in_line(*last != b'\n');
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
