// SPDX-License-Identifier: Apache-2.0

//! The body of a message that is sent: a component's, or a sentence of the server.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_channel::oneshot;
use hyper::body::{Body, Frame, SizeHint};

use crate::account::Use;
use crate::body::outgoing::{SentBody, Unfinished};
use crate::traffic::Flight;

/// The body of a message.
pub struct Reply {
    source: Source,
    /// Held until it was sent.
    _flight: Option<Flight>,
    /// The same of a connection to a server.
    _use: Option<Use>,
}

enum Source {
    /// A sentence of the server; `None` once it was sent.
    Text(Option<Bytes>),
    /// A response that a component writes.
    Component {
        body: SentBody,
        /// Tells the component's task that the peer has all of it. If it is dropped before, the peer has gone.
        whole: Option<oneshot::Sender<()>>,
    },
}

impl From<Source> for Reply {
    fn from(source: Source) -> Self {
        Self {
            source,
            _flight: None,
            _use: None,
        }
    }
}

impl Reply {
    /// No body.
    pub fn none() -> Self {
        Source::Text(None).into()
    }

    /// A sentence.
    pub fn text(text: String) -> Self {
        Source::Text(Some(text.into())).into()
    }

    /// The body of a component; `whole` is notified when it was sent.
    pub fn body(body: SentBody, whole: oneshot::Sender<()>) -> Self {
        let whole = Some(whole);
        Source::Component { body, whole }.into()
    }

    /// The same, with what is held until it was sent.
    #[must_use]
    pub fn holding(self, flight: Flight) -> Self {
        Self {
            source: self.source,
            _flight: Some(flight),
            _use: None,
        }
    }

    /// The same, as it is sent over a connection.
    #[must_use]
    pub fn over(self, connection: Use) -> Self {
        Self {
            source: self.source,
            _flight: None,
            _use: Some(connection),
        }
    }

    /// The body of a request of a component's.
    pub fn request(body: SentBody) -> Self {
        let whole = None;
        Source::Component { body, whole }.into()
    }

    /// Takes the body to its end, or a little more of it than `most` bytes, and throws it away.
    pub async fn drained(mut self, most: usize) {
        let mut taken = 0_usize;
        while taken <= most {
            let frame = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context));
            let Some(Ok(frame)) = frame.await else {
                return;
            };
            taken = taken.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut self.source {
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Component { body, .. } => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_none(),
            Source::Component { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Source::Component { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Component { body, whole } = self
            && body.is_whole()
            && let Some(whole) = whole.take()
        {
            // The component may have ended before.
            let _ = whole.send(());
        }
    }
}
