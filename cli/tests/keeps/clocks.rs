// SPDX-License-Identifier: Apache-2.0

//! The clocks of real managers and commands, set back and forth between the steps of a deployment by a preloaded
//! function. No Keep lives longer because of it, no receipt has a different time, and a wrong clock is a refusal with
//! a name.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enarx_harness::needs;
use serde_json::Value;
use tempfile::TempDir;

use super::deploy::{Host, Setup, policy, program, run, text, until_first_output, wait_until};
use super::door::{Direction, Door};
use super::kills::EVIDENCE;

/// Thirty years, in seconds: a simulated machine's certificates are valid for ten.
const YEARS: i64 = 30 * 365 * 24 * 3600;

/// A clock that can be set.
struct Clock {
    folder: TempDir,
    seconds: Cell<i64>,
    passed: Cell<u64>,
}

impl Clock {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keeps/clock.c");
        let library = folder.path().join("clock.so");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let compiled = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .arg(&library)
            .arg(source)
            .output();
        match compiled {
            Ok(output) => assert!(output.status.success(), "{}", text(&output.stderr)),
            Err(error) => needs::lacking("PROGRAMS", &format!("{compiler}: {error}")),
        }
        let clock = Self {
            folder,
            seconds: Cell::default(),
            passed: Cell::default(),
        };
        clock.set(0);
        clock
    }

    /// Moves it this many seconds away from the correct time.
    fn set(&self, seconds: i64) {
        self.seconds.set(seconds);
        self.write();
    }

    /// Advances the monotonic clock by this time, at once.
    fn pass(&self, time: Duration) {
        self.passed.set(self.passed.get() + time.as_secs());
        self.write();
    }

    fn write(&self) {
        // At once, for concurrent readers.
        let (new, file) = (self.folder.path().join("new"), self.file());
        let (seconds, passed) = (self.seconds.get(), self.passed.get());
        fs::write(&new, format!("{seconds} {passed}")).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }

    /// The variables for programs that use it.
    fn environment(&self) -> Vec<(String, PathBuf)> {
        vec![
            ("LD_PRELOAD".to_owned(), self.folder.path().join("clock.so")),
            ("CLOCK_OF_TEST".to_owned(), self.file()),
        ]
    }

    /// A host whose manager uses it.
    fn host(&self) -> Host {
        Host::with(Setup {
            environment: self.environment(),
            ..Setup::default()
        })
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Asserts that a time in a document is about now plus this many seconds.
#[track_caller]
fn is_about(found: &Value, seconds: i64) {
    let found = found.as_i64().unwrap();
    assert!((found - now() - seconds).abs() < 120, "{found}");
}

fn deploy(host: &Host, policy: &Path) -> Output {
    run(host.deploy(policy).arg(program("exit.wat")), b"")
}

/// The part of row 16 before a verdict: a host with a wrong clock accepts no contract, and receives nothing.
pub fn a_hosts_clock_that_is_years_off() {
    let clock = Clock::new();
    let host = clock.host();
    let policy = policy(host.folder());
    for years in [YEARS, -YEARS] {
        clock.set(years);
        let document = host.path("document.json");
        let mut command = host.deploy(&policy);
        command.arg(format!("--json={}", document.display()));
        let output = run(command.arg(program("exit.wat")), b"");
        let stderr = text(&output.stderr);
        let found: Value = serde_json::from_slice(&fs::read(&document).unwrap()).unwrap();
        assert_eq!(found["code"], "contract.times", "{stderr}");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("nothing was sent"), "{stderr}");
        assert!(host.keeps().is_empty());
    }
    clock.set(0);
    assert_eq!(deploy(&host, &policy).status.code(), Some(7));
}

/// A host that slows down the counter of its Keeps as far as they accept it: their own times are late, and so are those of
/// a receipt. The tenant's are not.
#[test]
fn a_host_that_slows_the_counter_delays_its_keeps_and_not_the_tenant() {
    const TIMES: u64 = 3;
    let host = Host::start(&[&format!("slow={TIMES}")]);
    let policy = policy(host.folder());
    let (document, receipt) = (host.path("document.json"), host.path("receipt"));
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let command = |arguments: &[&str]| {
        let mut command = host.tenant(arguments, &policy, &host.path("tenant"));
        command.arg(format!("--json={}", document.display()));
        command
    };
    // Eighteen seconds are six in the Keep.
    let mut slowed = command(&["deploy", "--receipt", receipt.to_str().unwrap()]);
    let begun = Instant::now();
    let mut child = until_first_output(slowed.arg(program("delivered.wat")));
    let before = begun.elapsed().as_secs();
    std::thread::sleep(Duration::from_secs(18));
    let ran = begun.elapsed().as_secs() - before;
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let all = begun.elapsed().as_secs();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let body = &read(&receipt)["body"];
    let told = body["ended"].as_u64().unwrap() - body["started"].as_u64().unwrap();
    assert!(told >= ran / TIMES - 1, "{told} {all}");
    assert!(told <= all / TIMES + 1, "{told} {all}");

    // The Keep would end it after a minute; the tenant tells it to end after twenty seconds.
    let begun = Instant::now();
    let mut limited = command(&["deploy", "--timeout", "20s", "--grace", "0s"]);
    let output = run(limited.arg(program("forever.wat")), b"");
    let took = begun.elapsed();
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    let limit = Duration::from_secs(20)..Duration::from_mins(1);
    assert!(limit.contains(&took), "{took:?}");
    let end = read(&document)["end"]["kind"].clone();
    assert_eq!(end, "stopped", "{took:?}");

    // Faster than any counter: the Keep does not begin.
    let host = Host::start(&["slow=1000"]);
    let mut refused = host.deploy(&policy);
    refused.arg(format!("--json={}", document.display()));
    let output = run(refused.arg(program("exit.wat")), b"");
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    // The manager may or may not know of its end by then.
    let code = read(&document)["code"].clone();
    assert!(
        ["keep.ended", "session.truncated", "session.handshake"].contains(&code.as_str().unwrap()),
        "{code}"
    );
}

#[test]
fn setting_the_clock_prolongs_nothing_and_changes_no_receipt() {
    let (of_host, of_tenant) = (Clock::new(), Clock::new());
    let host = of_host.host();
    let policy = policy(host.folder());
    let command = |arguments: &[&str]| {
        let mut command = host.tenant(arguments, &policy, &host.path("tenant"));
        command
            .env("ENARX_STORE", host.path("store"))
            .envs(of_tenant.environment());
        command
    };
    let delivered = program("delivered.wat");
    let mut detach = command(&["deploy", "--quiet", "--detach"]);
    let output = run(detach.arg(&delivered), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let name = text(&output.stdout).trim().to_owned();
    let keeps = || keeps(&host);
    is_about(&keeps()[0]["created"], 0);

    // The host's clock is set: its Keep continues, and is reported as before.
    for years in [YEARS, -YEARS] {
        of_host.set(years);
        assert_ne!(keeps()[0]["state"], "ended");
        is_about(&keeps()[0]["created"], 0);
    }
    // With a wrong clock the tenant refuses the certificates, and nothing happens to the program.
    for (years, check) in [(YEARS, "crl.fresh"), (-YEARS, "validity.vek")] {
        of_tenant.set(years);
        let document = host.path("document.json");
        let mut attach = command(&["attach", "--offline", &name]);
        attach.arg(format!("--json={}", document.display()));
        let output = run(&mut attach, b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(check), "{check}: {stderr}");
        assert_eq!(output.stdout, b"");
    }
    of_tenant.set(0);
    let receipt = host.path("receipt");
    let mut attach = command(&["attach", "--receipt", receipt.to_str().unwrap(), &name]);
    let output = run(&mut attach, b"late");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("late"));
    let receipt: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    for time in ["started", "ended"] {
        is_about(&receipt["body"][time], 0);
    }
    // By the host's clock it ended thirty years ago, and yet it has ended: it no longer counts.
    wait_until(|| keeps()[0]["state"] == "ended");
    is_about(&keeps()[0]["ended"], -YEARS);
    of_host.set(0);
    assert_eq!(deploy(&host, &policy).status.code(), Some(7));

    // Monotonic clocks count a time limit.
    let begun = Instant::now();
    let mut limited = command(&["deploy", "--timeout", "15s"]);
    let mut child = until_first_output(limited.arg(&delivered));
    of_host.set(-YEARS);
    of_tenant.set(YEARS);
    // Its standard input stays open until it is stopped.
    let stdin = child.stdin.take();
    wait_until(|| begun.elapsed() > Duration::from_secs(14));
    of_tenant.set(0);
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let took = begun.elapsed().as_secs();
    assert!((15..45).contains(&took), "{took}");
    wait_until(|| host.keeps().is_empty() && all_ended(&host));
}

/// The Keeps that the host remembers of this tenant.
fn keeps(host: &Host) -> Value {
    host.ask("GET", "/v1/keeps")["keeps"].clone()
}

/// True if the host knows of the end of all of them: their processes go before their ends are recorded.
fn all_ended(host: &Host) -> bool {
    let keeps = keeps(host);
    let mut keeps = keeps.as_array().unwrap().iter();
    keeps.all(|keep| keep["state"] == "ended")
}

/// A deployment that has ended, as the host remembers it.
fn one_ended(host: &Host, policy: &Path) -> Value {
    assert_eq!(deploy(host, policy).status.code(), Some(7));
    wait_until(|| all_ended(host));
    let ended = keeps(host);
    assert_eq!(ended.as_array().unwrap().len(), 1);
    ended
}

/// A contract has one Keep forever, so a machine that boots in the wrong year must not forget those that it has had.
#[test]
fn a_start_with_a_wrong_clock_forgets_no_contract() {
    let clock = Clock::new();
    let mut host = clock.host();
    let policy = policy(host.folder());
    let before = one_ended(&host, &policy);
    for years in [YEARS, 0, -YEARS, 0] {
        host.kill();
        clock.set(years);
        host.restart();
        assert_eq!(keeps(&host), before, "{years}");
    }
    assert_eq!(deploy(&host, &policy).status.code(), Some(7));
}

/// The same for a clock that stays wrong for hours after the start: it is trusted after a week.
#[test]
fn a_clock_that_is_wrong_for_hours_forgets_no_contract() {
    let clock = Clock::new();
    let mut host = clock.host();
    let policy = policy(host.folder());
    let before = one_ended(&host, &policy);
    host.kill();
    clock.set(YEARS);
    host.restart();
    // The manager reads the clock once an hour; two requests, so that it has read it before it answers the second.
    let hours = |hours| {
        clock.pass(Duration::from_hours(hours));
        keeps(&host);
        keeps(&host)
    };
    for _ in 0..5 {
        assert_eq!(hours(2), before);
    }
    assert_eq!(hours(100), before);
    clock.set(0);
    assert_eq!(hours(100), before);
    assert_eq!(deploy(&host, &policy).status.code(), Some(7));
    wait_until(|| all_ended(&host));
    // A month later by every clock they have no use any more.
    clock.set(30 * 24 * 3600);
    assert_eq!(hours(8 * 24).as_array().unwrap().len(), 2);
    wait_until(|| hours(8 * 24).as_array().unwrap().is_empty());
}

#[test]
fn an_ended_deployment_is_forgotten_without_its_host() {
    let clock = Clock::new();
    let mut host = Host::start(&[]);
    let policy = policy(host.folder());
    let tenant = host.path("tenant");
    let command = |host: &Host, arguments: &[&str]| {
        let mut command = host.tenant(arguments, &policy, &tenant);
        command.envs(clock.environment());
        command
    };
    let mut detach = command(&host, &["deploy", "--quiet", "--detach"]);
    let output = run(detach.arg(program("delivered.wat")), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let name = text(&output.stdout).trim().to_owned();
    host.kill();
    let end = || command(&host, &["keeps", "end", &name]).output().unwrap();
    let list = |more| {
        let list = command(&host, &["keeps", "list", more]).output().unwrap();
        text(&list.stdout)
    };
    // As far as anybody knows, it may still run.
    let refused = end();
    assert_eq!(refused.status.code(), Some(75), "{}", text(&refused.stderr));
    assert_eq!(list("--quiet").trim(), name);
    clock.set(40 * 24 * 3600);
    assert!(list("--").ends_with("  40 days, over\n"), "{}", list("--"));
    let ended = end();
    let stderr = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.ends_with(" is over, so it is forgotten\n"),
        "{stderr}"
    );
    assert_eq!(list("--quiet"), "");
}

/// A verdict is valid for an hour of the monotonic clock: setting the other clock back does not extend it,
/// and evidence is requested again in time.
#[test]
fn a_verdict_ages_whatever_the_time_of_day_is() {
    let clock = Clock::new();
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let (door, receipt) = (Door::of(&host), host.path("receipt"));
    let mut command = host.tenant(&["deploy", "--receipt"], &policy, &host.path("tenant"));
    command.arg(&receipt).arg(program("copy.wat"));
    command.envs(clock.environment()).stderr(Stdio::piped());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // The Keep sends something all the time, so that the session stays alive.
    let mut echo = || {
        to.write_all(b"x").unwrap();
        from.read_exact(&mut [0]).unwrap();
    };
    echo();
    for minute in 0..50 {
        for _ in 0..3 {
            clock.pass(Duration::from_secs(20));
            echo();
        }
        match minute {
            10 => clock.set(-600),
            30 => clock.set(600),
            // Evidence is requested now, after three quarters of an hour.
            44 => wait_until(|| {
                echo();
                let session = door.sessions().remove(0);
                let of_keep = session
                    .records
                    .iter()
                    .filter(|it| it.0 == Direction::FromKeep);
                of_keep.filter(|it| it.1 > EVIDENCE).count() == 2
            }),
            _ => {}
        }
    }
    drop(to);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let receipt: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(receipt["body"]["evidence_count"], 2, "{receipt}");
}
