// SPDX-License-Identifier: Apache-2.0

//! Servers: the same component behind `enarx serve` and `wasmtime serve`, asked by h2load over connections that stay.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::build::workspace;
use crate::error::Error;
use crate::measure::Side;
use crate::plan::Plan;
use crate::statistics::{median, ratio};
use crate::table::{Table, number};
use crate::timings::Timings;
use crate::turns::Turns;

/// Connections, each with one request at a time.
const CONNECTIONS: u32 = 64;
/// Seconds of one measurement, after one that does not count; with `--quick`.
const SECONDS: (u32, u32) = (5, 2);
/// The seconds that do not count: instances and the generator's connections are made.
const WARM_UP_SECONDS: u32 = 1;
/// Longest time for a server's start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, which ends with this.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// A server of this side, which writes its report to a file if there is one.
    fn start(
        plan: &Plan,
        side: Side,
        wasmtime: &Path,
        component: &Path,
        report: Option<&Path>,
    ) -> Result<Self, Error> {
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(Error::system("no free port"))?;
        let mut command = match side.backend() {
            None => {
                let mut command = Command::new(wasmtime);
                command.args(["serve", "-S", "cli=y"]);
                command
            }
            Some(backend) => {
                let mut command = Command::new(&plan.programs.enarx);
                command.args(["serve", "--quiet", "--backend", backend]);
                if let Some(report) = report {
                    command.arg("--timings").arg("--report-to").arg(report);
                }
                command
            }
        };
        let process = command
            .args(["--addr", &address.to_string()])
            .arg(component)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::system(format!("the server ({side})")))?;
        let server = Self { process, address };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                return Err(Error::Wrong(format!("the server ({side}) does not listen")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Ends it in order: it has written its report then.
    fn end(mut self) -> Result<(), Error> {
        let failed = || Error::system("the end of the server");
        let id = i32::try_from(self.process.id()).map(Pid::from_raw);
        if let Ok(id) = id {
            kill(id, Signal::SIGTERM).map_err(|errno| failed()(errno.into()))?;
        }
        let status = self.process.wait().map_err(failed())?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Wrong(format!("the server ended with {status}")))
    }

    /// Asks it for so many seconds: as fast as it answers, or so often a second on each connection.
    fn ask(&self, seconds: u32, rate: Option<u32>) -> Result<Load, Error> {
        let log = NamedTempFile::new().map_err(Error::system("no temporary file"))?;
        let mut command = Command::new("h2load");
        command
            .args(["--h1", "--threads=1"])
            .arg(format!("--clients={CONNECTIONS}"))
            .arg(format!("--duration={}", WARM_UP_SECONDS + seconds))
            .arg(format!("--log-file={}", log.path().display()));
        if let Some(rate) = rate {
            command.arg(format!("--rps={rate}"));
        }
        let output = command
            .arg(format!("http://{}/hello", self.address))
            .output()
            .map_err(Error::system("h2load"))?;
        if !output.status.success() {
            return Err(Error::Failed {
                command: format!("{command:?}"),
                code: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        let text = fs::read_to_string(log.path()).map_err(Error::system("h2load's log"))?;
        Load::read(&text, seconds).ok_or_else(|| {
            Error::Wrong(format!(
                "{}: requests failed, or there were none",
                self.address
            ))
        })
    }
}

/// The answers of a measurement.
struct Load {
    /// Requests in all, also those that do not count otherwise.
    requests: f64,
    /// Requests a second.
    rate: f64,
    /// The time within which 99 of 100 were answered, in microseconds.
    p99: f64,
}

impl Load {
    /// Reads h2load's log: in each line the time of a request's start in microseconds, its status, and the microseconds
    /// until its answer. `None` if there is none that counts, or one has another status than 200.
    fn read(log: &str, seconds: u32) -> Option<Self> {
        let requests: Vec<(u64, u64)> = log
            .lines()
            .map(|line| {
                let mut columns = line.split('\t');
                let start = columns.next()?.parse().ok()?;
                (columns.next()? == "200").then_some(())?;
                Some((start, columns.next()?.parse().ok()?))
            })
            .collect::<Option<_>>()?;
        let all = u32::try_from(requests.len()).ok()?;
        let first = requests.iter().map(|&(start, _)| start).min()?;
        let from = first + u64::from(WARM_UP_SECONDS) * 1_000_000;
        let counted = from..from + u64::from(seconds) * 1_000_000;
        let mut times: Vec<u64> = requests
            .into_iter()
            .filter(|&(start, time)| counted.contains(&(start + time)))
            .map(|(_, time)| time)
            .collect();
        times.sort_unstable();
        let count = u32::try_from(times.len()).ok()?;
        let p99 = times.get(times.len() * 99 / 100)?;
        Some(Self {
            requests: f64::from(all),
            rate: f64::from(count) / f64::from(seconds),
            p99: f64::from(u32::try_from(*p99).ok()?),
        })
    }
}

/// Measures servers, where there is what this takes.
pub fn print(plan: &Plan) -> Result<(), Error> {
    let component = workspace().join("target/programs/server.wasm");
    let lacking = if plan.wasmtime.is_none() {
        Some("give the `wasmtime` command of the same version by --wasmtime PATH".to_owned())
    } else if Command::new("h2load").arg("--version").output().is_err() {
        Some("h2load is missing (Debian: nghttp2-client)".to_owned())
    } else if !component.exists() {
        Some(format!(
            "{} is built by tests/programs/build",
            component.display()
        ))
    } else {
        None
    };
    if let Some(lacking) = lacking {
        println!("### Servers\n\nThey are not measured: {lacking}.\n");
        return Ok(());
    }
    let wasmtime = plan.wasmtime.clone().unwrap_or_default();
    let seconds = if plan.quick { SECONDS.1 } else { SECONDS.0 };
    let start =
        |side, report: Option<&Path>| Server::start(plan, side, &wasmtime, &component, report);
    let rates = Turns::take(&plan.sides, 0, plan.runs, |side| {
        Ok(start(side, None)?.ask(seconds, None)?.rate)
    })?;
    let sides = plan.sides.iter();
    let slowest = sides.filter_map(|side| median(&rates.of(*side, |rate| *rate)));
    let half = slowest.fold(f64::INFINITY, f64::min) / 2.0;
    // The generator takes whole requests a second for each connection.
    let each = (1..10_000)
        .take_while(|each| f64::from(each * CONNECTIONS) <= half)
        .last()
        .unwrap_or(1);
    let times = Turns::take(&plan.sides, 0, plan.runs, |side| {
        Ok(start(side, None)?.ask(seconds, Some(each))?.p99 / 1e3)
    })?;

    let what = format!("hello over {CONNECTIONS} connections");
    let mut table = plan.head(&what, "requests/s", "Keep / native");
    let rates = rates.cells(|rate| *rate, 0, ratio);
    table.row(std::iter::once("as fast as they are answered".to_owned()).chain(rates));
    table.print("Servers: requests");
    let mut table = plan.head(&what, "ms", "Keep / native");
    let times = times.cells(|time| *time, 2, ratio);
    let at = format!("p99 at {} requests/s", each * CONNECTIONS);
    table.row(std::iter::once(at).chain(times));
    table.print("Servers: time until the answer");

    let mut table = Table::new([what, "exits to the VMM for a request".to_owned()]);
    for side in plan.sides.iter().filter(|side| **side == Side::Kvm) {
        let report = NamedTempFile::new().map_err(Error::system("no temporary file"))?;
        let server = start(*side, Some(report.path()))?;
        let load = server.ask(seconds, None)?;
        server.end()?;
        let report = fs::read(report.path()).map_err(Error::system("the server's report"))?;
        let exits = Timings::read(&report, "")?.occurred("exits ");
        table.row([side.to_string(), number(Some(exits / load.requests), 3)]);
    }
    table.print("Servers: exits, those of the start and the end included");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_counted_after_its_first_second() {
        let line = |start: u64, time: u64| format!("{start}\t200\t{time}\n");
        let mut log = line(5_000_000, 10);
        for number in 0..100 {
            log += &line(6_000_000 + number * 10_000, number);
        }
        // After the end.
        log += &line(7_000_000, 5);
        let load = Load::read(&log, 1).unwrap();
        assert_eq!((load.requests, load.rate, load.p99), (102.0, 100.0, 99.0));
        assert!(Load::read("", 1).is_none());
        assert!(Load::read("5\t503\t10\n", 1).is_none());
        assert!(Load::read(&line(5_000_000, 10), 1).is_none());
    }
}
