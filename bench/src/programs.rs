// SPDX-License-Identifier: Apache-2.0

//! Real programs from start to end, compilation included, on two virtual CPUs: what their users wait for and pay.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::build::workspace;
use crate::error::Error;
use crate::measure::{self, Job, Run};
use crate::plan::Plan;
use crate::statistics::ratio;
use crate::turns::Turns;

/// Virtual CPUs of the Keeps.
const VCPUS: u32 = 2;
/// Ends the part of a program's output that is the same in every run.
const RANDOM: &str = "\nrandom ";

/// A program that `tests/programs/build` makes, and its work.
struct Program {
    name: &'static str,
    file: &'static str,
    arguments: &'static [&'static str],
    /// Standard input.
    stdin: Source,
    /// A file that it finds as `/data/NAME`.
    given: Option<(&'static str, Source)>,
}

/// Where the content of a file comes from.
#[derive(Clone, Copy)]
enum Source {
    /// This text.
    Text(&'static str),
    /// A file of `tests/programs`.
    Ours(&'static str),
    /// A file that `tests/programs/build` puts beside the programs.
    Built(&'static str),
}

/// The programs that do what libraries do before `main`, and some ordinary things after it.
const fn start(name: &'static str, file: &'static str) -> Program {
    Program {
        name,
        file,
        arguments: &["two", "one", "two"],
        stdin: Source::Text("a\nb\nc\n"),
        given: None,
    }
}

const PROGRAMS: [Program; 8] = [
    Program {
        name: "bzip2: unpacks 97 KiB",
        file: "bzip2.wasm",
        arguments: &["-dc", "/data/sample.bz2"],
        stdin: Source::Text(""),
        given: Some(("sample.bz2", Source::Built("sample1.bz2"))),
    },
    Program {
        name: "SQLite: makes a database in a file",
        file: "sql.wasm",
        arguments: &["/data/bank.db"],
        stdin: Source::Ours("database.sql"),
        given: None,
    },
    Program {
        name: "QuickJS (JavaScript)",
        file: "qjs.wasm",
        arguments: &["--module", "/data/start.js", "two", "one", "two"],
        stdin: Source::Text("a\nb\nc\n"),
        given: Some(("start.js", Source::Ours("languages/start.js"))),
    },
    start("CPython (component)", "start-python.wasm"),
    start("Go", "start-go.wasm"),
    start("C++", "start-cpp.wasm"),
    start("Rust", "start-rust.wasm"),
    start("C", "start-c.wasm"),
];

impl Source {
    fn read(self, built: &Path) -> Result<Vec<u8>, Error> {
        let file = match self {
            Self::Text(text) => return Ok(text.into()),
            Self::Ours(name) => workspace().join("tests/programs").join(name),
            Self::Built(name) => built.join(name),
        };
        fs::read(&file).map_err(Error::system(file.display().to_string()))
    }
}

impl Program {
    /// Runs it once with a directory of its own, which is fresh.
    fn run(&self, plan: &Plan, side: measure::Side, built: &Path) -> Result<Run, Error> {
        let folder = TempDir::new().map_err(Error::system("no temporary directory"))?;
        let write = |path: &PathBuf, source: Source| {
            let bytes = source.read(built)?;
            fs::write(path, bytes).map_err(Error::system("a file of a program"))
        };
        let data = folder.path().join("data");
        fs::create_dir(&data).map_err(Error::system("a directory of a program"))?;
        if let Some((name, source)) = self.given {
            write(&data.join(name), source)?;
        }
        let input = folder.path().join("stdin");
        write(&input, self.stdin)?;
        let input = File::open(&input).map_err(Error::system("a program's standard input"))?;
        let arguments = self.arguments.iter();
        let job = arguments.fold(Job::new(built.join(self.file)), |job, argument| {
            job.with_argument(argument)
        });
        let job = job.with_directory(data).with_variable("NAME=value");
        measure::run_with_input(&plan.programs, side, &job.with_vcpus(VCPUS), input.into())
    }
}

/// Measures the programs and prints their tables.
pub fn print(plan: &Plan) -> Result<(), Error> {
    let built = build()?;
    let mut wall = plan.head("program, start to end", "ms", "× native");
    let mut cpu = plan.head("program, CPU time", "ms", "× native");
    let mut memory = plan.head("program, memory", "MiB", "× native");
    for program in &PROGRAMS {
        let turns = Turns::take(&plan.sides, 1, plan.runs, |side| {
            program.run(plan, side, &built)
        })?;
        same_output(program.name, &turns)?;
        let row = |cells: Vec<String>| std::iter::once(program.name.to_owned()).chain(cells);
        wall.row(row(turns.cells(|run| run.usage.wall / 1e3, 1, ratio)));
        cpu.row(row(turns.cells(|run| run.usage.cpu / 1e3, 1, ratio)));
        memory.row(row(turns.cells(
            |run| run.usage.resident / 1024.0,
            1,
            ratio,
        )));
    }
    wall.print("Programs: start to end, compilation included, on two virtual CPUs");
    cpu.print("Programs: CPU time of the command with all its processes");
    memory.print("Programs: largest resident set of a process");
    Ok(())
}

/// Has the programs built that are not yet, and says where they are.
fn build() -> Result<PathBuf, Error> {
    let script = workspace().join("tests/programs/build");
    let status = Command::new(&script)
        .status()
        .map_err(Error::system("tests/programs/build could not be started"))?;
    if !status.success() {
        return Err(Error::Wrong(
            "tests/programs/build could not build the programs: see its message above".to_owned(),
        ));
    }
    Ok(workspace().join("target/programs"))
}

/// An error unless every run of a program printed the same, but for a random number at the end.
fn same_output(name: &str, turns: &Turns<Run>) -> Result<(), Error> {
    let mut expected = None;
    for (side, run) in turns.all() {
        let found = fixed(&run.stdout);
        if found.is_empty() || *expected.get_or_insert(found) != found {
            return Err(Error::Wrong(format!(
                "{name}, {side}: printed {:?}, and not what was printed before",
                run.stdout
            )));
        }
    }
    Ok(())
}

/// The part of an output that is the same in every run.
fn fixed(output: &str) -> &str {
    output
        .rsplit_once(RANDOM)
        .map_or(output, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_are_not_compared() {
        assert_eq!(
            fixed("date yes\nrandom 1f\n"),
            fixed("date yes\nrandom 20\n")
        );
        assert_eq!(fixed("one\ntwo\n"), "one\ntwo\n");
        assert_ne!(fixed("one\nrandom 1\n"), fixed("two\nrandom 1\n"));
    }

    #[test]
    fn the_inputs_of_programs_exist() {
        for program in &PROGRAMS {
            let given = program.given.map(|(_, source)| source);
            for source in [Some(program.stdin), given].into_iter().flatten() {
                if !matches!(source, Source::Built(_)) {
                    source.read(Path::new("")).unwrap();
                }
            }
        }
        let script = fs::read_to_string(workspace().join("tests/programs/build")).unwrap();
        for program in &PROGRAMS {
            assert!(script.contains(program.file), "{}", program.file);
        }
    }
}
