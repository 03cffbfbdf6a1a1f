// SPDX-License-Identifier: Apache-2.0

//! Measures the session's TLS in memory, both ends in one thread: `cargo run --release -p enarx-tls --example measure`.
#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a program for whoever measures"
)]

use enarx_tls::{Connection, Key, TlsError};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HANDSHAKES: u32 = 1000;
const BYTES: usize = 512 << 20;

/// Time that each end spent, and the bytes that each sent.
#[derive(Default)]
struct Sums {
    tenant: Duration,
    keep: Duration,
    up: usize,
    down: usize,
}

fn main() -> Result<(), TlsError> {
    let key = timed("a key", || {
        for _ in 1..HANDSHAKES {
            Key::generate()?;
        }
        Key::generate()
    })?;
    timed("a signature", || {
        (0..HANDSHAKES).try_for_each(|_| key.sign(b"message").map(drop))
    })?;
    let mut sums = Sums::default();
    for _ in 0..HANDSHAKES {
        connect(&key, &mut sums)?;
    }
    let each = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(HANDSHAKES);
    println!(
        "a handshake: {:.0} us tenant, {:.0} us Keep, {} bytes up, {} down",
        each(sums.tenant),
        each(sums.keep),
        sums.up / HANDSHAKES as usize,
        sums.down / HANDSHAKES as usize
    );
    let (mut tenant, mut keep) = connect(&key, &mut sums)?;
    for size in [16 << 10, 64 << 10, 256 << 10] {
        throughput(&mut tenant, &mut keep, size)?;
    }
    Ok(())
}

fn timed<T>(name: &str, run: impl FnOnce() -> Result<T, TlsError>) -> Result<T, TlsError> {
    let start = Instant::now();
    let result = run()?;
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(HANDSHAKES);
    println!("{name}: {each:.0} us");
    Ok(result)
}

fn connect(key: &Key, sums: &mut Sums) -> Result<(Connection, Connection), TlsError> {
    let start = Instant::now();
    let mut tenant = Connection::tenant(key)?;
    sums.tenant += start.elapsed();
    let start = Instant::now();
    let mut keep = Connection::keep(key, Arc::new(|_| true))?;
    sums.keep += start.elapsed();
    let mut buffer = vec![0; 64 << 10];
    while keep.facts().is_none() {
        let start = Instant::now();
        let up = tenant.outgoing(&mut buffer);
        sums.tenant += start.elapsed();
        let start = Instant::now();
        keep.receive(&mut &buffer[..up])?;
        let down = keep.outgoing(&mut buffer);
        sums.keep += start.elapsed();
        let start = Instant::now();
        tenant.receive(&mut &buffer[..down])?;
        sums.tenant += start.elapsed();
        sums.up += up;
        sums.down += down;
    }
    Ok((tenant, keep))
}

/// Sends [`BYTES`] from the tenant to the Keep in writes of `size` bytes.
fn throughput(tenant: &mut Connection, keep: &mut Connection, size: usize) -> Result<(), TlsError> {
    let plaintext = vec![7; size];
    let mut wire = vec![0; size + (size >> 4)];
    let mut buffer = vec![0; 64 << 10];
    let (mut sealing, mut opening, mut received) = (Duration::ZERO, Duration::ZERO, 0);
    while received < BYTES {
        let start = Instant::now();
        tenant.write(&plaintext);
        let count = tenant.outgoing(&mut wire);
        sealing += start.elapsed();
        let start = Instant::now();
        let mut input = &wire[..count];
        while !input.is_empty() {
            keep.receive(&mut input)?;
            loop {
                match keep.read(&mut buffer) {
                    0 => break,
                    read => received += read,
                }
            }
        }
        opening += start.elapsed();
    }
    let rate = |time: Duration| received as f64 / time.as_secs_f64() / 1e9;
    println!(
        "writes of {} KiB: {:.2} GB/s sealed, {:.2} GB/s opened",
        size >> 10,
        rate(sealing),
        rate(opening)
    );
    Ok(())
}
