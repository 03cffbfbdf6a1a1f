// SPDX-License-Identifier: Apache-2.0

//! Passes on the bytes of a session between a client and the door of its Keep. They are ciphertext, and neither end is
//! trusted: memory and time are bounded.

use crate::keep::Keep;
use crate::metrics::Metrics;
use enarx_manager_api::{KeepState, limit};
use prometheus_client::metrics::counter::Counter;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};

/// Buffer of one direction, in bytes.
const BUFFER: usize = 64 << 10;

/// Bytes from the client after which a Keep seems to have an application: handshake, ATTEST and RELEASE are fewer.
const PROVISIONED: u64 = 64 << 10;

/// Time without a byte in either direction after which the connection is cut.
const IDLE: Duration = Duration::from_secs(limit::IDLE_SECONDS);

/// The same once the Keep has said all that it has to say.
const IDLE_AT_END: Duration = Duration::from_secs(10);

/// How long a Keep may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The moment at which silence has lasted too long.
struct Patience {
    state: Mutex<(Instant, Duration)>,
}

impl Patience {
    fn new() -> Self {
        Self {
            state: Mutex::new((Instant::now(), IDLE)),
        }
    }

    fn with<T>(&self, with: impl FnOnce(&mut (Instant, Duration)) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A byte has passed.
    fn renew(&self) {
        self.with(|(last, _)| *last = Instant::now());
    }

    /// From now on less patience is enough.
    fn shorten(&self) {
        self.with(|state| *state = (Instant::now(), IDLE_AT_END));
    }

    /// Waits until silence has lasted too long.
    async fn lost(&self) {
        loop {
            let end = self.with(|(last, limit)| *last + *limit);
            if end <= Instant::now() {
                return;
            }
            // It may become shorter in the meantime.
            sleep_until(end.min(Instant::now() + IDLE_AT_END)).await;
        }
    }
}

/// Passes on the bytes of a session until both directions have ended, or one end is silent for too long.
pub(crate) async fn relay<C>(client: C, keep: &Keep, metrics: &Metrics) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
{
    let door = timeout(CONNECT_LIMIT, UnixStream::connect(&keep.door)).await??;
    let (mut from_keep, mut to_keep) = door.into_split();
    let (mut from_client, mut to_client) = split(client);
    let patience = Patience::new();
    let mut sent = 0;
    let upwards = async {
        let bytes = metrics.bytes("to-keep");
        let seen = |length: u64| {
            sent += length;
            if sent > PROVISIONED {
                keep.advance(KeepState::Provisioned);
            }
        };
        // An error also counts as an end: remaining bytes from the Keep are still forwarded.
        let result = pump(&mut from_client, &mut to_keep, &bytes, &patience, seen).await;
        let _ = to_keep.shutdown().await;
        result
    };
    let downwards = async {
        let bytes = metrics.bytes("from-keep");
        let result = pump(&mut from_keep, &mut to_client, &bytes, &patience, |_| {}).await;
        let _ = timeout(IDLE_AT_END, to_client.shutdown()).await;
        patience.shorten();
        result
    };
    let both = async {
        let mut upwards = std::pin::pin!(upwards);
        let mut downwards = std::pin::pin!(downwards);
        tokio::select! {
            _ = &mut upwards => downwards.await,
            // Without a client that takes them, the Keep's bytes are lost.
            result = &mut downwards => match result {
                Ok(()) => upwards.await,
                error => error,
            },
        }
    };
    tokio::select! {
        result = both => result,
        () = patience.lost() => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Passes on the bytes of one direction until its end.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    counter: &Counter,
    patience: &Patience,
    mut seen: impl FnMut(u64),
) -> io::Result<()> {
    let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
    loop {
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        patience.renew();
        let length = buffer.len() as u64;
        while !buffer.is_empty() {
            to.write_buf(&mut buffer).await?;
            patience.renew();
        }
        // TLS keeps bytes back otherwise.
        to.flush().await?;
        counter.inc_by(length);
        seen(length);
        buffer.clear();
        buffer.reserve(BUFFER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_paused as run;
    use std::sync::Arc;
    use tokio::io::duplex;

    fn counter() -> Counter {
        Counter::default()
    }

    #[test]
    fn a_direction_passes_on_all_bytes_and_ends() {
        run(async {
            let (mut sender, mut from) = duplex(1000);
            let (mut to, mut receiver) = duplex(70);
            let sent: Vec<u8> = (0..200_000_u32)
                .map(|number| (number % 251) as u8)
                .collect();
            let expected = sent.clone();
            tokio::spawn(async move {
                sender.write_all(&sent).await.unwrap();
            });
            let counted = counter();
            let counted_there = counted.clone();
            let pump = tokio::spawn(async move {
                let patience = Patience::new();
                let result = pump(&mut from, &mut to, &counted_there, &patience, |_| {}).await;
                drop(to);
                result
            });
            let mut received = Vec::new();
            receiver.read_to_end(&mut received).await.unwrap();
            assert!(pump.await.unwrap().is_ok());
            assert_eq!(received, expected);
            assert_eq!(counted.get(), 200_000);
        });
    }

    #[test]
    fn patience_ends_after_silence_and_sooner_at_the_end() {
        run(async {
            let start = Instant::now();
            let patience = Arc::new(Patience::new());
            let other = patience.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(80)).await;
                other.renew();
            });
            patience.lost().await;
            let silent = start.elapsed().as_secs();
            assert!((170..=171).contains(&silent), "{silent}");
            let start = Instant::now();
            patience.renew();
            patience.shorten();
            patience.lost().await;
            assert_eq!(start.elapsed().as_secs(), IDLE_AT_END.as_secs());
        });
    }
}
