// SPDX-License-Identifier: Apache-2.0

//! The measurements: one table a section.

use std::fs;

use clap::ValueEnum;

use crate::build::workspace;
use crate::calls;
use crate::deploy;
use crate::error::Error;
use crate::http;
use crate::measure::{self, Job, Output, Run, Side};
use crate::measured;
use crate::network;
use crate::plan::Plan;
use crate::programs;
use crate::statistics::{median, ratio};
use crate::table::{Table, number};
use crate::timings::Timings;
use crate::turns::Turns;

/// Kernels of `bench/kernels`, what each is for, and a count that takes about a second natively.
const KERNELS: [(&str, &str, u32); 10] = [
    ("sieve", "memory", 60),
    ("matmul", "f64 matrices", 80),
    ("sha256", "integers", 6000),
    ("simd", "128-bit vectors", 15_000),
    ("bulk", "memory.copy, memory.fill", 15_000),
    ("calls", "calls, call_indirect", 300),
    ("sort", "branches", 100),
    ("nbody", "f64, square roots", 10_000),
    ("mandelbrot", "f32, branches", 120),
    ("map", "pointers, heap", 60),
];
/// `--quick` divides the counts by this.
const QUICK_DIVISOR: u32 = 5;
/// MiB written and read.
const THROUGHPUT_MIB: u32 = 64;

/// A table of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Start to end of small programs
    Hello,
    /// Where the time of a start goes, and what is counted
    Split,
    /// The launch of a measured Keep, on the simulated platform
    Sim,
    /// Compute-bound programs
    Kernels,
    /// Real programs, compilation included, on two virtual CPUs
    Programs,
    /// Standard output and files
    Throughput,
    /// Single calls of files, and growth of memory
    Calls,
    /// One TCP connection of a component
    Network,
    /// Servers
    Http,
    /// Deployments on the simulated platform
    Deploy,
}

impl Section {
    /// Every section, in the order in which they are printed.
    pub const ALL: [Self; 10] = [
        Self::Hello,
        Self::Split,
        Self::Sim,
        Self::Kernels,
        Self::Programs,
        Self::Throughput,
        Self::Calls,
        Self::Network,
        Self::Http,
        Self::Deploy,
    ];

    /// Measures the section and prints its table.
    pub fn print(self, plan: &Plan) -> Result<(), Error> {
        match self {
            Self::Hello => plan.hello(),
            Self::Split => plan.split(),
            Self::Sim => plan.simulated(),
            Self::Kernels => plan.kernels(),
            Self::Programs => programs::print(plan),
            Self::Throughput => plan.throughput(),
            Self::Calls => calls::print(plan),
            Self::Network => network::print(plan),
            Self::Http => http::print(plan),
            Self::Deploy => deploy::print(plan),
        }
    }
}

/// True if this many bytes arrived in a run.
type Arrived = fn(&Run, u64) -> bool;

impl Plan {
    /// Runs a job on every side in turns, after one turn that does not count.
    fn turns(&self, job: &Job) -> Result<Turns<Run>, Error> {
        Turns::take(&self.sides, 1, self.runs, |side| {
            measure::run(&self.programs, side, job)
        })
    }

    /// The head of a table: the yardstick, then every Keep with its ratio.
    pub fn head(&self, first: &str, unit: &str, compared: &str) -> Table {
        let mut head = vec![first.to_owned(), format!("native, {unit}")];
        for side in self.sides.iter().filter(|side| **side != Side::Native) {
            head.push(format!("{side}, {unit}"));
            head.push(compared.to_owned());
        }
        Table::new(head)
    }

    fn hello(&self) -> Result<(), Error> {
        let mut table = self.head("a start", "ms", "× native");
        let mut memory = self.head("memory of a start", "MiB", "× native");
        let mut faults = self.head("page faults of the host", "number", "× native");
        for (what, file) in [
            ("hello (module)", "hello.wasm"),
            ("hello (component)", "hello-component.wasm"),
        ] {
            let turns = self.turns(&Job::new(workspace().join("examples").join(file)))?;
            let row = |name: &str, cells: Vec<String>| {
                std::iter::once(format!("{what}{name}"))
                    .chain(cells)
                    .collect::<Vec<_>>()
            };
            let wall = turns.cells(|run| run.usage.wall / 1e3, 1, ratio);
            table.row(row(", wall time", wall));
            let cpu = turns.cells(|run| run.usage.cpu / 1e3, 1, ratio);
            table.row(row(", CPU time", cpu));
            let resident = turns.cells(|run| run.usage.resident / 1024.0, 1, ratio);
            memory.row(row("", resident));
            faults.row(row("", turns.cells(|run| run.usage.faults, 0, ratio)));
        }
        table.print("Start to end of hello");
        memory.print("Largest resident set of a process of hello");
        faults.print("Page faults of the host during hello");
        Ok(())
    }

    fn split(&self) -> Result<(), Error> {
        for side in self.sides.iter().filter(|side| **side != Side::Native) {
            self.split_of(*side)?;
        }
        Ok(())
    }

    fn split_of(&self, side: Side) -> Result<(), Error> {
        let job = Job::new(workspace().join("examples/hello.wasm")).with_timings();
        let mut runs = Vec::new();
        for _ in 0..self.runs {
            let run = measure::run(&self.programs, side, &job)?;
            runs.push((run.usage.wall, run.timings));
        }
        print_split(side, &runs);
        Ok(())
    }

    /// Not one of the sides of the other tables: its time on real hardware would differ.
    fn simulated(&self) -> Result<(), Error> {
        let job = Job::new(workspace().join("examples/hello.wasm"));
        // The first run of all makes the keys of the simulated machine; it does not count.
        if let Err(error) = measure::run(&self.programs, Side::Simulated, &job) {
            println!("The simulated Keep is not measured: {error}\n");
            return Ok(());
        }
        self.split_of(Side::Simulated)?;
        measured::print(&self.programs)
    }

    fn kernels(&self) -> Result<(), Error> {
        let mut table = self.head("kernel", "ms", "native / Keep");
        let mut cpu = self.head("kernel", "ms", "native / Keep");
        for (name, what, count) in KERNELS {
            let count = if self.quick {
                (count / QUICK_DIVISOR).max(1)
            } else {
                count
            };
            let turns = self.turns(&Job::kernel(name, &count))?;
            same_checksums(name, &turns)?;
            let label = format!("{name}: {what}");
            let value = |run: &Run| kernel_line(name, &run.stdout).map_or(f64::NAN, |(_, ms)| ms);
            let speed = |keep: &[f64], native: &[f64]| ratio(native, keep);
            let row = |cells: Vec<String>| std::iter::once(label.clone()).chain(cells);
            table.row(row(turns.cells(value, 1, speed)));
            cpu.row(row(turns.cells(|run| run.usage.cpu / 1e3, 1, speed)));
        }
        table.print("Compute: the kernel itself, by the clock that it sees");
        cpu.print("Compute: CPU time from start to end, by the host's count");
        Ok(())
    }

    fn throughput(&self) -> Result<(), Error> {
        let mut all = self.head("64 MiB", "MiB/s", "× native");
        let mut alone = self.head("64 MiB", "MiB/s", "× native");
        let folder = tempfile::tempdir().map_err(Error::system("no temporary directory"))?;
        let length = u64::from(THROUGHPUT_MIB) << 20;
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        fs::write(folder.path().join("input"), bytes)
            .map_err(Error::system("the file to read could not be written"))?;
        let write = |count: u32| Job::kernel("write", &count);
        let read = Job::kernel("read", &"/data/input").with_directory(folder.path().into());
        let ways: [(&str, Job, Arrived); 3] = [
            (
                "written to /dev/null",
                write(THROUGHPUT_MIB).with_output(Output::Null),
                |_, _| true,
            ),
            (
                "written through a pipe",
                write(THROUGHPUT_MIB),
                |run, length| run.length == length,
            ),
            ("read from a --dir file", read, |run, length| {
                run.stdout.trim() == length.to_string()
            }),
        ];
        for (what, job, all_arrived) in ways {
            let turns = Turns::take(&self.sides, 1, self.runs, |side| {
                let run = measure::run(&self.programs, side, &job)?;
                if !all_arrived(&run, length) {
                    return Err(Error::Wrong(format!(
                        "{what}, {side}: not all bytes arrived"
                    )));
                }
                let nanoseconds: Result<f64, _> = run.stderr.trim().parse();
                nanoseconds
                    .map(|own| (run.usage.wall, own / 1e3))
                    .map_err(|_| Error::Wrong(format!("{what}, {side}: said {:?}", run.stderr)))
            })?;
            let rate = |microseconds: f64| f64::from(THROUGHPUT_MIB) / (microseconds / 1e6);
            let row = |cells: Vec<String>| std::iter::once(what.to_owned()).chain(cells);
            all.row(row(turns.cells(|(wall, _)| rate(*wall), 0, ratio)));
            alone.row(row(turns.cells(|(_, own)| rate(*own), 0, ratio)));
        }
        all.print("Throughput, start of the program included");
        alone.print("Throughput, by the clock that the program sees");
        Ok(())
    }
}

/// An error unless every run of a kernel came to the same checksum.
fn same_checksums(name: &str, turns: &Turns<Run>) -> Result<(), Error> {
    let mut expected = None;
    for (side, run) in turns.all() {
        let (sum, _) = kernel_line(name, &run.stdout)
            .ok_or_else(|| Error::Wrong(format!("{name}, {side}: printed {:?}", run.stdout)))?;
        if *expected.get_or_insert(sum) != sum {
            return Err(Error::Wrong(format!(
                "{name}, {side}: the checksum {sum} is not the one before"
            )));
        }
    }
    Ok(())
}

/// Checksum and milliseconds of a kernel's only line: name, checksum, nanoseconds.
fn kernel_line<'a>(name: &str, line: &'a str) -> Option<(&'a str, f64)> {
    let mut words = line.split_whitespace();
    let found = words.next()?;
    let (sum, nanoseconds) = (words.next()?, words.next()?.parse::<f64>().ok()?);
    (found == name && words.next().is_none()).then_some((sum, nanoseconds / 1e6))
}

/// Prints the phases of a start so that they add up to the wall time, then the counts.
fn print_split(side: Side, runs: &[(f64, Timings)]) {
    let milliseconds = |value: &dyn Fn(f64, &Timings) -> f64| {
        let all: Vec<f64> = runs.iter().map(|(wall, run)| value(*wall, run)).collect();
        number(median(&all).map(|microseconds| microseconds / 1e3), 2)
    };
    let Some((_, first)) = runs.first() else {
        return;
    };
    // The last phase of the VMM is the one in which the Keep runs.
    let vmm: Vec<&str> = names(&first.phases, "vmm ");
    let Some((inside, before)) = vmm.split_last() else {
        return;
    };
    let mut table = Table::new([format!("hello in a {side}"), "ms".to_owned()]);
    table.row([
        "the command's process, before and after".to_owned(),
        milliseconds(&|wall, run| wall - run.total("vmm ")),
    ]);
    for phase in before {
        table.row([
            (*phase).to_owned(),
            milliseconds(&|_, run| run.phase(phase).unwrap_or(0.0)),
        ]);
    }
    let outside = match side {
        Side::Simulated => "microkernel, loader, and end of the Keep",
        Side::Kvm => "microkernel, and end of the Keep",
        Side::Native | Side::Process => "start and end of the process",
    };
    table.row([
        outside.to_owned(),
        milliseconds(&|_, run| run.phase(inside).unwrap_or(0.0) - run.total("runtime ")),
    ]);
    for phase in names(&first.phases, "runtime ") {
        table.row([
            phase.to_owned(),
            milliseconds(&|_, run| run.phase(phase).unwrap_or(0.0)),
        ]);
    }
    table.row(["all".to_owned(), milliseconds(&|wall, _| wall)]);
    table.print(&format!("Where the time goes: {side}"));

    if first.counts.is_empty() {
        return;
    }
    let mut table = Table::new([format!("hello in a {side}"), "number".to_owned()]);
    for (name, _) in &first.counts {
        let all: Vec<f64> = runs
            .iter()
            .map(|(_, run)| run.count(name).unwrap_or(0.0))
            .collect();
        table.row([name.clone(), number(median(&all), 0)]);
    }
    table.print(&format!("Counts: {side}"));
}

/// The names that begin so, in their order.
fn names<'a>(all: &'a [(String, f64)], prefix: &str) -> Vec<&'a str> {
    all.iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_line_is_read() {
        let line = "sieve 00000000000000ff 1500000\n";
        assert_eq!(kernel_line("sieve", line), Some(("00000000000000ff", 1.5)));
        assert_eq!(kernel_line("sort", line), None);
        assert_eq!(kernel_line("sieve", "sieve 00"), None);
        assert_eq!(kernel_line("sieve", "sieve 00 1 2"), None);
        assert_eq!(kernel_line("sieve", ""), None);
    }

    #[test]
    fn every_kernel_is_built() {
        for (name, ..) in KERNELS {
            let file = workspace().join(format!("bench/kernels/{name}.wasm"));
            let bytes = fs::read(&file).unwrap();
            assert!(bytes.starts_with(b"\0asm"), "{name}");
        }
    }
}
