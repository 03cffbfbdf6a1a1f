// SPDX-License-Identifier: Apache-2.0

//! Tests as `libtest-mimic` wants them. This module adds what libtest has besides: several
//! filters, `RUST_TEST_THREADS`, a thread with a name for each test, reasons of `#[ignore]`.

use std::any::Any;
use std::ffi::OsString;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};

use crate::case::{Ignored, Test};

/// The arguments of a program of tests.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
    /// More filters: a test that matches one of all is run.
    #[arg(value_name = "FILTER")]
    more: Vec<String>,
    /// As `--nocapture`.
    #[arg(long)]
    no_capture: bool,
}

/// Runs the tests of this program as its arguments say; returns the exit code.
///
/// # Panics
/// Without any test: nothing tested is no success.
pub fn main() -> ExitCode {
    let tests: Vec<Test> = inventory::iter::<Test>.into_iter().copied().collect();
    assert!(
        !tests.is_empty(),
        "no test is registered: does the root of this program have `#[macro_use] extern crate enarx_harness;`?"
    );
    conclude(std::env::args_os(), &tests).exit_code()
}

/// Runs `tests` with these arguments, the first of which is the program's name.
fn conclude(arguments: impl Iterator<Item = OsString>, tests: &[Test]) -> Conclusion {
    let mut options = Options::parse_from(arguments);
    let arguments = &mut options.arguments;
    if arguments.test_threads.is_none() {
        let threads = std::env::var("RUST_TEST_THREADS").ok();
        arguments.test_threads = threads.and_then(|threads| threads.parse().ok());
    }
    let unless_asked = !(arguments.ignored || arguments.include_ignored);
    let mut trials: Vec<Trial> = tests
        .iter()
        .map(|test| trial(*test, unless_asked))
        .collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    if !options.more.is_empty() {
        let mut filters = options.more;
        filters.extend(arguments.filter.take());
        let matches = |name: &str, filter: &String| {
            name == filter || (!arguments.exact && name.contains(filter.as_str()))
        };
        trials.retain(|trial| filters.iter().any(|filter| matches(trial.name(), filter)));
    }
    libtest_mimic::run(arguments, trials)
}

/// A test with its name below the crate. One with `#[ignore]` is ignored with its reason, unless ignored
/// tests were asked for.
fn trial(test: Test, unless_asked: bool) -> Trial {
    let module = test.module.split_once("::");
    let name = match module {
        Some((_, module)) => format!("{module}::{}", test.name),
        None => test.name.to_owned(),
    };
    let thread_name = name.clone();
    let run = move || match test.ignored {
        Some(reason) if unless_asked => Ok(Completion::ignored_with(reason)),
        _ => run(test, thread_name),
    };
    // The library has no reason for a test that it ignores by itself.
    Trial::ignorable_test(name, run).with_ignored_flag(test.ignored.is_some() && !unless_asked)
}

/// Runs a test on a thread of its own, whatever it does to that: confines it, sets what is local to it.
fn run(test: Test, thread_name: String) -> Result<Completion, Failed> {
    let thread = thread::Builder::new().name(thread_name).spawn(test.run)?;
    match (thread.join(), test.panics) {
        (Ok(()), None) => Ok(Completion::Completed),
        (Ok(()), Some(_)) => Err("it did not panic".into()),
        (Err(payload), expected) => match payload.downcast::<Ignored>() {
            Ok(ignored) => Ok(Completion::ignored_with(ignored.0)),
            Err(payload) => panicked(message(&*payload), expected),
        },
    }
}

fn panicked(message: &str, expected: Option<&str>) -> Result<Completion, Failed> {
    match expected {
        None => Err(message.into()),
        Some(part) if message.contains(part) => Ok(Completion::Completed),
        Some(part) => Err(format!("it panicked with {message:?}, not with {part:?}").into()),
    }
}

/// The message of a panic.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked with a value that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ignore, needs};

    fn test(name: &'static str, run: fn()) -> Test {
        Test {
            module: "program::module",
            name,
            run,
            ignored: None,
            panics: None,
        }
    }

    fn all() -> Vec<Test> {
        let panics = || panic!("as meant");
        vec![
            test("passes", || ()),
            test("fails", panics),
            test("lacks", || needs::lacking("NOTHING", "the moon is new")),
            Test {
                ignored: Some("it is slow"),
                ..test("slow", || ())
            },
            Test {
                panics: Some("meant"),
                ..test("should_panic", panics)
            },
            Test {
                panics: Some("something else"),
                ..test("should_panic_otherwise", panics)
            },
            Test {
                panics: Some(""),
                ..test("should_panic_and_does_not", || ())
            },
            // Once more, in another order than the one by name.
            test("b", || ()),
        ]
    }

    /// Runs [`all`]; what is printed, and how many passed, failed, were ignored.
    fn conclude(arguments: &[&str]) -> (String, [u64; 3]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = ["program", "--logfile", file.path().to_str().unwrap()];
        let arguments = log.iter().chain(arguments).map(OsString::from);
        let conclusion = super::conclude(arguments, &all());
        let counts = [
            conclusion.num_passed,
            conclusion.num_failed,
            conclusion.num_ignored,
        ];
        assert_eq!(conclusion.has_failed(), conclusion.num_failed > 0);
        (std::fs::read_to_string(file.path()).unwrap(), counts)
    }

    #[track_caller]
    fn assert_line(text: &str, name: &str, end: &str) {
        let start = format!("test module::{name} ");
        let line = text.lines().find(|line| line.starts_with(&start));
        assert!(
            line.is_some_and(|line| line.ends_with(end)),
            "{name}: {text}"
        );
    }

    #[test]
    fn a_test_that_cannot_run_is_ignored_with_its_reason() {
        let (text, counts) = conclude(&[]);
        assert_eq!(counts, [3, 3, 2], "{text}");
        assert_line(&text, "passes", " ok");
        assert_line(&text, "fails", " FAILED");
        assert_line(&text, "lacks", " ignored (the moon is new)");
        assert_line(&text, "slow", " ignored (it is slow)");
        assert_line(&text, "should_panic", " ok");
        assert_line(&text, "should_panic_otherwise", " FAILED");
        assert_line(&text, "should_panic_and_does_not", " FAILED");
        assert!(text.contains("3 passed; 3 failed; 2 ignored"), "{text}");
    }

    #[test]
    fn filters_select() {
        assert_eq!(conclude(&["passes"]).1, [1, 0, 0]);
        assert_eq!(conclude(&["module::"]).1, [3, 3, 2]);
        assert_eq!(conclude(&["--exact", "module::should_panic"]).1, [1, 0, 0]);
        assert_eq!(conclude(&["--exact", "should_panic"]).1, [0, 0, 0]);
        assert_eq!(
            conclude(&["--skip", "should", "--skip", "fails"]).1,
            [2, 0, 2]
        );
        assert_eq!(conclude(&["passes", "lacks", "slow"]).1, [1, 0, 2]);
        assert_eq!(conclude(&["--exact", "module::b", "passes"]).1, [1, 0, 0]);
        let (text, counts) = conclude(&["--test-threads", "1", "--nocapture", "--no-capture"]);
        assert_eq!(counts, [3, 3, 2], "{text}");
        let names: Vec<_> = text.lines().filter(|line| line.contains(" ... ")).collect();
        assert!(names.is_sorted(), "{text}");
    }

    #[test]
    fn ignored_tests_run_on_request() {
        let (text, counts) = conclude(&["--include-ignored", "slow"]);
        assert_eq!(counts, [1, 0, 0], "{text}");
        let (text, counts) = conclude(&["--ignored"]);
        assert_eq!(counts, [1, 0, 0], "{text}");
        assert_line(&text, "slow", " ok");
    }

    #[test]
    fn tests_are_listed_and_not_run() {
        assert_eq!(conclude(&["--list"]).1, [0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "ENARX_REQUIRE_NOTHING=1, but")]
    fn a_missing_requirement_fails_if_required() {
        // The variable of a child: that of this process would be seen by the other tests.
        let program = std::env::current_exe().unwrap();
        let output = std::process::Command::new(program)
            .args(["--exact", "--ignored", "run::tests::lacks_nothing"])
            .env("ENARX_REQUIRE_NOTHING", "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(101), "{output:?}");
        panic!("{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    #[ignore = "the other side of `a_missing_requirement_fails_if_required`"]
    fn lacks_nothing() {
        needs::lacking("NOTHING", "the moon is new");
    }

    #[test]
    fn a_thread_of_its_own() {
        fn named() {
            assert_eq!(thread::current().name(), Some("module::named"));
            thread::spawn(|| ignore("elsewhere")).join().unwrap_err();
        }
        let completed = run(test("named", named), "module::named".into());
        assert!(matches!(completed, Ok(Completion::Completed)));
    }
}
