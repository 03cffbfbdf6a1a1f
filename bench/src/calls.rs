// SPDX-License-Identifier: Apache-2.0

//! Single calls, by the clock that the program sees: of a file in a directory of the host, and for more memory.

use std::fs;

use crate::error::Error;
use crate::measure::{self, Job};
use crate::plan::Plan;
use crate::statistics::ratio;
use crate::turns::Turns;

/// Calls of `bench/kernels/files.c`, and what each is.
const CALLS: [(&str, &str); 5] = [
    ("read", "read 4 KiB of a file, anywhere"),
    ("write", "write 4 KiB of a file, anywhere"),
    ("stat", "attributes of an open file"),
    ("path", "attributes of a path"),
    ("open", "open a path, and close it"),
];
/// How often each is made, and with `--quick`.
const COUNT: (u32, u32) = (20_000, 5_000);
/// Bytes of the file.
const LENGTH: usize = 4 << 20;
/// Steps of 64 KiB by which memory grows: 640 MiB in all, of the 1 GiB that a Keep has. With `--quick`.
const STEPS: (u32, u32) = (10_000, 2_000);

/// Measures every call, and prints the table.
pub fn print(plan: &Plan) -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(Error::system("no temporary directory"))?;
    fs::write(folder.path().join("file"), vec![7; LENGTH])
        .map_err(Error::system("the file could not be written"))?;
    let of = |(many, few): (u32, u32)| if plan.quick { few } else { many };
    let file = |(name, what): (&str, &'static str)| {
        let job = Job::kernel("files", &name)
            .with_argument(&"/data/file")
            .with_argument(&of(COUNT))
            .with_directory(folder.path().into());
        (what, job, of(COUNT))
    };
    let grow = Job::kernel("grow", &of(STEPS));
    let grow = (
        "memory.grow by 64 KiB, which are written to",
        grow,
        of(STEPS),
    );
    let mut table = plan.head("a call", "µs", "× native");
    for (what, job, count) in CALLS.into_iter().map(file).chain([grow]) {
        let turns = Turns::take(&plan.sides, 1, plan.runs, |side| {
            let run = measure::run(&plan.programs, side, &job)?;
            let nanoseconds: Result<f64, _> = run.stdout.trim().parse();
            nanoseconds
                .map(|all| all / 1e3 / f64::from(count))
                .map_err(|_| Error::Wrong(format!("{what}, {side}: printed {:?}", run.stdout)))
        })?;
        let cells = turns.cells(|microseconds| *microseconds, 1, ratio);
        table.row(std::iter::once(what.to_owned()).chain(cells));
    }
    table.print("Single calls, by the clock that the program sees");
    Ok(())
}
