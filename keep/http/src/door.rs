// SPDX-License-Identifier: Apache-2.0

//! The door of a server: the socket at which it accepts connections, and the signal to end. The host opens and ends a
//! door that it grants; a door that the Keep opens for its tenant stays open until the tenant ends it, whatever the
//! host wants.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use enarx_sallyport::{Call, Handle};
use enarx_wasi::error::Errno;
use enarx_wasi::port::Port;
use enarx_wasi::sockets::Socket;
use enarx_wasi::stream::Standard;

use crate::stream::Stream;

/// A door; it is shut when this is dropped, if the Keep has opened it.
pub struct Door {
    port: Port,
    own: Option<Socket>,
    streams: Standard,
}

impl Door {
    /// The door that the host grants.
    pub fn granted(port: &Port) -> Self {
        Self {
            port: port.clone(),
            own: None,
            streams: Standard::Host,
        }
    }

    /// A door that the Keep has opened; the other end of these streams closes it.
    pub fn own(port: &Port, socket: Socket, streams: &Standard) -> Self {
        Self {
            port: port.clone(),
            own: Some(socket),
            streams: streams.clone(),
        }
    }

    /// True if the Keep has opened it.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Waits for a peer.
    ///
    /// # Errors
    /// The host's.
    pub async fn accept(&self) -> Result<Stream, Errno> {
        let own = self.own.as_ref().map(Socket::handle);
        let call = Call::TcpAccept {
            handle: own.unwrap_or(Handle::LISTENER),
        };
        let mut operation = self.port.start(&call, &[])?;
        operation.ready().await;
        let answer = operation.take(&mut [])?;
        Ok(Stream::new(&self.port, self.port.handle(&answer)))
    }

    /// The result of `work`, unless the tenant has the server end before.
    ///
    /// # Errors
    /// The time within which it has to end.
    pub async fn before_end<T>(&self, work: impl Future<Output = T>) -> Result<T, Duration> {
        let mut work = pin!(work);
        let mut ending = pin!(self.streams.grace());
        std::future::poll_fn(|context| {
            if let Poll::Ready(left) = ending.as_mut().poll(context) {
                return Poll::Ready(Err(left));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }
}
