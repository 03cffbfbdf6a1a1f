// SPDX-License-Identifier: Apache-2.0

//! The network: one TCP connection between a component and this process, which counts the bytes and the time from the
//! moment at which the component has connected. Its start is no part of that.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crate::error::Error;
use crate::measure::{self, Job, Side};
use crate::plan::Plan;
use crate::statistics::ratio;
use crate::turns::Turns;

/// MiB that are sent; with `--quick`.
const MIB: (u32, u32) = (256, 64);
/// Bytes that this process sends and receives at a time.
const PIECE: usize = 1 << 16;

/// The directions of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
    Echo,
}

impl Direction {
    /// Its name in the table, and for the component.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Down => ("down, to the component", "down"),
            Self::Up => ("up, from the component", "up"),
            Self::Echo => ("echo, to it and back", "echo"),
        }
    }
}

/// Sends so many bytes, and that no more follow.
fn send(mut peer: &TcpStream, length: u64) -> io::Result<()> {
    let piece = vec![7; PIECE];
    let mut left = usize::try_from(length).map_err(io::Error::other)?;
    while left > 0 {
        let count = left.min(PIECE);
        peer.write_all(piece.get(..count).unwrap_or_default())?;
        left -= count;
    }
    peer.shutdown(Shutdown::Write)
}

/// Receives until the other end sends no more; how many bytes came.
fn receive(mut peer: &TcpStream) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut all = 0;
    loop {
        match peer.read(&mut piece)? {
            0 => return Ok(all),
            count => all += count as u64,
        }
    }
}

/// Accepts the component, and exchanges with it what is to be measured: the bytes that came back, and the seconds.
fn exchange(listener: &TcpListener, way: Direction, length: u64) -> io::Result<(u64, f64)> {
    let (peer, _) = listener.accept()?;
    let begin = Instant::now();
    let received = thread::scope(|scope| {
        let sent = (way != Direction::Up).then(|| scope.spawn(|| send(&peer, length)));
        let received = receive(&peer);
        // It panics nowhere.
        let sent = sent.and_then(|sent| sent.join().ok());
        sent.unwrap_or(Ok(())).and(received)
    })?;
    Ok((received, begin.elapsed().as_secs_f64()))
}

/// Runs the component once; MiB in a second.
fn run(plan: &Plan, side: Side, way: Direction, mib: u32) -> Result<f64, Error> {
    let failed = Error::system("the connection of the measurement");
    let listener = TcpListener::bind("127.0.0.1:0");
    let port = listener.as_ref().ok().and_then(|it| it.local_addr().ok());
    let (listener, port) = match (listener, port) {
        (Ok(listener), Some(address)) => (listener, address.port()),
        (Err(error), _) => return Err(failed(error)),
        (Ok(_), None) => return Err(Error::Wrong("a listener without an address".to_owned())),
    };
    let (_, name) = way.names();
    let job = Job::kernel("network", &port)
        .with_argument(&name)
        .with_argument(&mib)
        .with_network();
    let length = u64::from(mib) << 20;
    thread::scope(|scope| {
        let peer = scope.spawn(|| exchange(&listener, way, length));
        let ran = measure::run(&plan.programs, side, &job);
        if ran.is_err() {
            // A thread that waits for a component that never came is given this.
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        ran?;
        let (received, seconds) = match peer.join() {
            Ok(exchanged) => exchanged.map_err(failed)?,
            Err(_) => return Err(Error::Wrong("the peer was lost".to_owned())),
        };
        let expected = if way == Direction::Down { 0 } else { length };
        if received != expected {
            return Err(Error::Wrong(format!(
                "{name}, {side}: {received} bytes came, and not {expected}"
            )));
        }
        Ok(f64::from(mib) / seconds)
    })
}

/// Measures one connection in every direction, and prints the table.
pub fn print(plan: &Plan) -> Result<(), Error> {
    let mib = if plan.quick { MIB.1 } else { MIB.0 };
    let mut table = plan.head(
        &format!("{mib} MiB over one TCP connection"),
        "MiB/s",
        "× native",
    );
    for way in [Direction::Down, Direction::Up, Direction::Echo] {
        let turns = Turns::take(&plan.sides, 1, plan.runs, |side| run(plan, side, way, mib))?;
        let cells = turns.cells(|rate| *rate, 0, ratio);
        let (name, _) = way.names();
        table.row(std::iter::once(name.to_owned()).chain(cells));
    }
    table.print("Network, from the connection to its end");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_counts_what_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for way in [Direction::Down, Direction::Up, Direction::Echo] {
            let other = thread::spawn(move || {
                let peer = TcpStream::connect(address).unwrap();
                let got = if way == Direction::Up {
                    0
                } else {
                    receive(&peer).unwrap()
                };
                let back = match way {
                    Direction::Down => 0,
                    Direction::Up => 100_000,
                    Direction::Echo => got,
                };
                send(&peer, back).unwrap();
                got
            });
            let (received, _) = exchange(&listener, way, 300_000).unwrap();
            let expected = match way {
                Direction::Down => (0, 300_000),
                Direction::Up => (100_000, 0),
                Direction::Echo => (300_000, 300_000),
            };
            assert_eq!((received, other.join().unwrap()), expected, "{way:?}");
        }
    }
}
