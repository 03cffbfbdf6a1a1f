// SPDX-License-Identifier: Apache-2.0

//! Hosts that cheat, one test for each row of the table in SECURITY.md: the command itself against a host that plays every
//! part (`testing/hostile-host`), or, where stated, real managers and Keeps. The name of the failure and the exit
//! code are compared, and such a host has nothing of the application.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use enarx_agent::{Key, Ticket};
use enarx_attestation::Timestamp;
use enarx_documents::table;
use enarx_hostile_host::chip::{Chip, DEBUG};
use enarx_hostile_host::host::{Behaviour, Heard, Host, HostThread, Manager, Relay, Server, TOKEN};
use enarx_hostile_host::keep::{Misbehaviour, Program};
use enarx_session::frame::{Decoder, End, Kind};
use enarx_snp::report::Report;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::common;
use super::deploy::{self, policy, program, run, text, wait_until};
use super::door::{Direction, Door, Fate, Place};

/// Occurs in everything that is deployed.
const MARKER: &str = "MARKER-c41e77";

/// Exit codes of refused evidence, of a Keep that failed, and of hosts that might succeed another time.
const REFUSED: i32 = 3;
const FAILED: i32 = 70;
const TEMPORARY_FAILURE: i32 = 75;

/// A tenant with a policy, and an application with the marker.
struct Tenant {
    folder: TempDir,
    policy: PathBuf,
}

/// The outcome of a command.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
    document: Value,
}

impl Outcome {
    /// Asserts this failure and exit code.
    #[track_caller]
    fn is(&self, code: &str, exit: i32) {
        let told = format!("{} {}", self.document["code"], self.stderr);
        assert_eq!(self.document["code"], code, "{told}");
        assert_eq!(self.code, exit, "{told}");
        assert_eq!(self.document["exit_code"], exit, "{told}");
    }

    /// Asserts that the verifier made this check, and that it failed.
    #[track_caller]
    fn has(&self, check: &str) {
        let checks = self.document["refused"][0]["checks"].as_array().unwrap();
        let found = checks.iter().any(|found| found["name"] == check);
        assert!(found, "{check}: {checks:?}");
    }
}

impl Tenant {
    /// A tenant whose policy accepts this build's Keeps on the chip of [`Chip`].
    fn new() -> Self {
        let root = base16ct::lower::encode_string(&Chip::new().root());
        let mut new = common::enarx();
        let new = new.args(["policy", "new", "--simulated", &root]);
        Self::with(&text(&run(new, b"").stdout))
    }

    fn with(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        fs::write(&path, policy).unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let module = format!(
            "(module (memory 1) (data (i32.const 0) \"{MARKER}\") (func (export \"_start\")))"
        );
        fs::write(folder.path().join("application.wat"), module).unwrap();
        Self {
            folder,
            policy: path,
        }
    }

    /// This policy with one text replaced.
    fn changed(&self, from: &str, to: &str) -> Self {
        let text = fs::read_to_string(&self.policy).unwrap();
        assert!(text.contains(from), "{text}");
        Self::with(&text.replace(from, to))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = common::enarx();
        command
            .args(arguments)
            .env("ENARX_TOKEN_FILE", self.folder.path().join("token"))
            .env("ENARX_POLICY", &self.policy)
            .env("ENARX_STORE", "/nonexistent/store")
            .env("XDG_STATE_HOME", self.folder.path());
        command
    }

    fn end(&self, mut command: Command) -> Outcome {
        let document = self.folder.path().join("document.json");
        command.arg(format!("--json={}", document.display()));
        let output = run(&mut command, MARKER.as_bytes());
        Outcome {
            code: output.status.code().unwrap(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            document: serde_json::from_slice(&fs::read(document).unwrap()).unwrap(),
        }
    }

    fn deploy(&self, host: &Host, arguments: &[&str]) -> Outcome {
        let mut command = self.command(&["deploy", "--offline", "--to", &host.to()]);
        command
            .args(["--env", &format!("NAME={MARKER}")])
            .args(arguments)
            .arg(self.folder.path().join("application.wat"));
        self.end(command)
    }

    /// Deploys to a host that must not receive anything.
    #[track_caller]
    fn refuses(&self, host: &Host) -> Outcome {
        let outcome = self.deploy(host, &[]);
        assert_eq!(outcome.stdout, "");
        assert!(
            outcome.stderr.contains("nothing was sent"),
            "{}",
            outcome.stderr
        );
        assert_nothing_was_sent(host);
        outcome
    }
}

/// The same command with at most this much address space, in KiB.
fn within(space: u64, command: &Command) -> Command {
    let mut within = Command::new("sh");
    within
        .args(["-c", &format!("ulimit -v {space} && exec \"$@\""), "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    within
}

/// Asserts that a host has at most one ATTEST of the session, and nothing of the application.
#[track_caller]
fn assert_nothing_was_sent(host: &Host) {
    host.log.read(|record| {
        for bytes in [&record.bytes, &record.plain, &record.relayed] {
            let mut windows = bytes.windows(MARKER.len());
            assert!(!windows.any(|part| part == MARKER.as_bytes()));
        }
        for plain in [&record.plain, &record.relayed] {
            let mut decoder = Decoder::new(End::Tenant);
            let mut input = &plain[..];
            let mut kinds = Vec::new();
            while let Some(frame) = decoder.take(&mut input).unwrap() {
                kinds.push(frame.kind);
            }
            assert!(decoder.is_between_frames());
            assert!(kinds == [Kind::Attest] || kinds.is_empty(), "{kinds:?}");
        }
    });
}

fn host_with_misbehaviour(misbehaviour: Misbehaviour) -> HostThread {
    HostThread::start(async move || Host::with(Program::Echo, misbehaviour).await)
}

fn relaying(relay: Relay) -> HostThread {
    HostThread::start(async move || Host::with_relay(relay).await)
}

fn giving(chip: Chip) -> HostThread {
    HostThread::start(async move || Host::giving(chip).await)
}

/// A host that plays this trick is refused with this name and this exit code.
#[track_caller]
fn refused(host: &HostThread, code: &str, exit: i32) {
    Tenant::new().refuses(host).is(code, exit);
}

/// Without a trick everything arrives, so that what follows tests the tricks.
#[test]
fn an_honest_host_gets_the_application() {
    let host = host_with_misbehaviour(Misbehaviour::None);
    let outcome = Tenant::new().deploy(&host, &[]);
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);
    assert_eq!(outcome.stdout, MARKER);
    host.log.read(|record| {
        let has = |bytes: &[u8]| {
            let mut windows = bytes.windows(MARKER.len());
            windows.any(|part| part == MARKER.as_bytes())
        };
        assert!(has(&record.plain) && !has(&record.bytes));
    });
}

/// A manager with too many connections that drops the one that waits longest: nobody at the terminal sees it.
#[test]
fn a_host_that_drops_connections_still_gets_the_application() {
    for heard in [Heard::Nothing, Heard::Handshake, Heard::Request] {
        let host =
            HostThread::start(async move || Host::with_manager(Manager::SendsAway(heard, 2)).await);
        let outcome = Tenant::new().deploy(&host, &[]);
        assert_eq!(outcome.code, 7, "{heard:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, MARKER);
        assert_eq!(host.contracts(), 1, "{heard:?}");
    }
}

#[test]
fn row_01_another_image_debugging_or_another_policy() {
    let change = |change: fn(&mut Report)| host_with_misbehaviour(Misbehaviour::Report(change));
    refused(
        &change(|report| report.measurement[0] ^= 1),
        "guest.measurement",
        REFUSED,
    );
    let debugged = change(|report| report.policy.set(report.policy.get() | DEBUG));
    refused(&debugged, "guest-policy.debug", REFUSED);
    // Single socket: no policy of a tenant requires it, but the contract says otherwise.
    let single = change(|report| report.policy.set(report.policy.get() | 1 << 20));
    refused(&single, "contract.terms", REFUSED);
}

#[test]
fn row_02_another_contract() {
    let host = host_with_misbehaviour(Misbehaviour::Report(|report| report.host_data = [1; 32]));
    refused(&host, "guest.host-data", REFUSED);
    // The Keep finds it first, and sends no evidence.
    let host = host_with_misbehaviour(Misbehaviour::OtherContract);
    refused(&host, "session.truncated", TEMPORARY_FAILURE);
    host.log
        .read(|record| assert_eq!(record.refusals, ["contract.host-data"]));
}

#[test]
fn row_03_the_keep_of_another_tenant_or_of_an_earlier_contract() {
    refused(
        &relaying(Relay::Foreign),
        "session.tenant",
        TEMPORARY_FAILURE,
    );
    // Each deployment of the command has its own key, so an earlier Keep belongs to another tenant.
    let host = relaying(Relay::Earlier);
    assert_eq!(Tenant::new().deploy(&host, &[]).code, 7);
    host.log.read(|record| {
        record.bytes.clear();
        record.plain.clear();
    });
    refused(&host, "session.tenant", TEMPORARY_FAILURE);
    // One of this deployment's own: its first session was cut, so the command asks the same host again.
    let host = relaying(Relay::Earlier);
    host.cut([0]);
    let tenant = Tenant::new();
    let mut twice = tenant.command(&[
        "deploy",
        "--offline",
        "--to",
        &host.to(),
        "--to",
        &host.to(),
    ]);
    twice.arg(tenant.folder.path().join("application.wat"));
    let outcome = tenant.end(twice);
    assert_eq!(outcome.code, REFUSED, "{}", outcome.stderr);
    let refused = &outcome.document["refused"];
    assert_eq!(refused[0]["code"], "session.truncated", "{refused}");
    let checks = refused[1]["checks"].as_array().unwrap();
    let found = checks
        .iter()
        .any(|check| check["name"] == "guest.host-data");
    assert!(found, "{refused}");
    host.log.read(|record| {
        assert_eq!(record.deployment, None);
        let mut windows = record.plain.windows(MARKER.len());
        assert!(!windows.any(|part| part == MARKER.as_bytes()));
    });
}

/// Returns to a program whose host now terminates the tenant's TLS with this key, and is the Keep's client with the
/// tenant's own key, which was stolen from its ticket.
#[track_caller]
fn attach_between(key: impl FnOnce(&Host) -> Key) {
    let (tenant, host) = (Tenant::new(), host_with_misbehaviour(Misbehaviour::None));
    let name = detached(&tenant, &host);
    let ticket = fs::read(ticket_file(&tenant, &name)).unwrap();
    let stolen = Ticket::from_bytes(&ticket).unwrap().key().clone();
    host.pass_on(Relay::Between(key(&host), Some(stolen)));
    let outcome = tenant.end(tenant.command(&["attach", "--offline", &name]));
    outcome.is("guest.report-data", REFUSED);
    assert_eq!(outcome.stdout, "");
    // The genuine Keep answered, and has received only ATTEST.
    host.log.read(|record| {
        assert!(!record.relayed.is_empty());
        let last = record.frames.last();
        assert_eq!(last, Some(&Kind::Attest), "{:?}", record.frames);
    });
}

#[test]
fn a_host_is_shown_no_token_of_another() {
    let (tenant, host) = (Tenant::new(), host_with_misbehaviour(Misbehaviour::None));
    let name = detached(&tenant, &host);
    let theirs = tenant.folder.path().join("token-of-another");
    fs::write(&theirs, "token-of-another-host").unwrap();
    let seen = host.log.read(|record| record.bytes.len());
    for words in [&["attach"][..], &["stop"], &["keeps", "end"]] {
        let mut command = tenant.command(words);
        let own = tenant.folder.path().join("token");
        let both = format!("{}\n{}", theirs.display(), own.display());
        let output = run(command.arg(&name).env("ENARX_TOKEN_FILE", both), b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("names 2 tokens"), "{stderr}");
    }
    assert_eq!(host.log.read(|record| record.bytes.len()), seen);
}

/// The ticket of this deployment.
fn ticket_file(tenant: &Tenant, name: &str) -> PathBuf {
    let file = format!("enarx/keeps/{name}.ticket");
    tenant.folder.path().join(file)
}

/// Forgets the only deployment; the output of the command.
#[track_caller]
fn forget(tenant: &Tenant, name: &str) -> String {
    let command = |words: &[&str]| {
        let output = run(tenant.command(words).env_remove("ENARX_TOKEN_FILE"), b"");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(command(&["keeps", "list", "-q"]).0, format!("{name}\n"));
    let (stdout, stderr) = command(&["keeps", "forget", name]);
    assert_eq!(stdout, "");
    assert_eq!(command(&["keeps", "list", "-q"]).0, "");
    stderr
}

#[test]
fn a_deployment_whose_host_is_gone_can_be_forgotten() {
    let tenant = Tenant::new();
    let name = {
        let host = host_with_misbehaviour(Misbehaviour::None);
        detached(&tenant, &host)
    };
    for words in [&["attach"][..], &["stop"], &["keeps", "end"]] {
        let output = run(tenant.command(words).arg(&name), b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(TEMPORARY_FAILURE), "{stderr}");
        let remedy = format!("`enarx keeps forget {name}`");
        assert!(stderr.contains(&remedy), "{stderr}");
    }
    let said = forget(&tenant, &name);
    for words in [
        "was not asked to end and may run until 20",
        "nobody can attach",
    ] {
        assert!(said.contains(words), "{said}");
    }
    // The same if the ticket is damaged, with which the host could not be asked either.
    fs::write(ticket_file(&tenant, "aa"), "no ticket").unwrap();
    let said = forget(&tenant, "aa");
    assert!(said.contains("may still run"), "{said}");
}

#[test]
fn a_manager_with_another_certificate_gets_no_token() {
    let (tenant, host) = (Tenant::new(), host_with_misbehaviour(Misbehaviour::None));
    let name = detached(&tenant, &host);
    // The ticket names the manager's previous certificate.
    let file = ticket_file(&tenant, &name);
    let ticket = fs::read_to_string(&file).unwrap();
    let ticket = ticket.replace(&host.pin.to_string(), &"00".repeat(32));
    let (_, body) = ticket.split_once("\"ticket\":").unwrap();
    let (body, digest) = body.rsplit_once(",\"sha256\":\"").unwrap();
    let digest = digest.strip_suffix("\"}").unwrap();
    let renewed = base16ct::lower::encode_string(&Sha256::digest(body));
    fs::write(&file, ticket.replace(digest, &renewed)).unwrap();
    let seen = host.log.read(|record| record.bytes.len());
    for words in [&["attach"][..], &["stop"], &["keeps", "end"]] {
        let output = run(tenant.command(words).arg(&name), b"");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let found = format!("has the certificate sha256={}", host.pin);
        for words in [&found, &format!("`enarx keeps forget {name}`")] {
            assert!(stderr.contains(words), "{words}: {stderr}");
        }
    }
    assert_eq!(host.log.read(|record| record.bytes.len()), seen);
    let said = forget(&tenant, &name);
    assert!(said.contains("may run until 20"), "{said}");
}

#[test]
fn row_04_a_man_in_the_middle_with_a_key_of_his_own() {
    let own = enarx_hostile_host::keep::key();
    let host = relaying(Relay::Between(own, None));
    refused(&host, "guest.report-data", REFUSED);
    host.log.read(|record| assert!(!record.relayed.is_empty()));
    // The Keep of this contract accepts only its tenant.
    let (own, other) = (
        enarx_hostile_host::keep::key(),
        enarx_hostile_host::keep::key(),
    );
    let host = relaying(Relay::Between(own, Some(other)));
    refused(&host, "session.truncated", TEMPORARY_FAILURE);
    // With the tenant's key it accepts.
    attach_between(|_| enarx_hostile_host::keep::key());
}

#[test]
fn row_05_a_man_in_the_middle_with_the_keeps_key() {
    let stolen = enarx_hostile_host::keep::key();
    let host = HostThread::start(async move || {
        let mut behaviour = Behaviour::new();
        behaviour.relay = Relay::Between(stolen.clone(), None);
        Host::start_with_key(
            behaviour,
            Chip::new(),
            Program::Echo,
            Misbehaviour::None,
            stolen,
        )
        .await
    });
    refused(&host, "guest.report-data", REFUSED);
    host.log.read(|record| assert!(!record.relayed.is_empty()));
    // With both stolen keys.
    attach_between(Host::key);
}

#[test]
fn row_06_evidence_again() {
    refused(
        &host_with_misbehaviour(Misbehaviour::Earlier),
        "guest.report-data",
        REFUSED,
    );
    refused(
        &host_with_misbehaviour(Misbehaviour::Sequence),
        "evidence.sequence",
        REFUSED,
    );
}

#[test]
fn row_07_reports_that_were_made_for_something_else() {
    // As `enarx run --attest-to` makes it: 64 bytes of another kind.
    let host = host_with_misbehaviour(Misbehaviour::Report(|report| report.report_data = [7; 64]));
    refused(&host, "guest.report-data", REFUSED);
    // The correct 64 bytes, in the report of a guest of another image.
    let host = host_with_misbehaviour(Misbehaviour::Report(|report| report.measurement = [7; 48]));
    refused(&host, "guest.measurement", REFUSED);
}

#[test]
fn row_08_a_simulator_or_nothing_in_the_place_of_a_tee() {
    use enarx_contract::{Backend, Tee};
    let simulator = HostThread::start(async || Host::offering(Tee::Snp, Backend::Snp).await);
    // The policy names the launches of genuine Keeps, and a simulator's root beside AMD's.
    let genuine = run(common::enarx().args(["policy", "new", "--snp"]), b"").stdout;
    let root = base16ct::lower::encode_string(&Chip::new().root());
    let policy = text(&genuine)
        .replacen(
            "\n[snp]",
            &format!("\ninsecure-simulated-roots = [\"{root}\"]\n[snp]"),
            1,
        )
        .replacen("products = [", "products = [\"milan\", ", 1);
    Tenant::with(&policy)
        .refuses(&simulator)
        .is("chain.root", REFUSED);
    let plain = HostThread::start(async || Host::offering(Tee::None, Backend::Kvm).await);
    refused(&plain, "host.platform", REFUSED);
    assert!(!plain.log.asked("POST "));
    refused(
        &host_with_misbehaviour(Misbehaviour::FormatNone),
        "evidence.format",
        REFUSED,
    );
}

#[test]
fn row_09_old_firmware_revoked_keys_old_lists_and_another_chip() {
    let old = HostThread::start(async || {
        let chip = Chip::new().with_old_firmware();
        let behaviour = Behaviour {
            platforms: vec![chip.offer()],
            collateral: chip.clone(),
            ..Behaviour::new()
        };
        // The Keep's own check of the contract's floor is bypassed.
        Host::start(behaviour, chip, Program::Echo, Misbehaviour::Report(|_| {})).await
    });
    let mut floor = fs::read_to_string(&Tenant::new().policy).unwrap();
    floor.push_str("\n[snp.min-tcb.milan]\nmicrocode = 240\n");
    Tenant::with(&floor)
        .refuses(&old)
        .is("tcb.reported", REFUSED);
    refused(&giving(Chip::new().revoked()), "crl.vek", REFUSED);
    for (chip, check) in [
        (Chip::new().stale(), "crl.fresh"),
        (Chip::new().without_lists(), "crl.present"),
        (Chip::new().another(), "agreement.chip-id"),
    ] {
        let outcome = Tenant::new().refuses(&giving(chip));
        assert_eq!(outcome.code, REFUSED, "{check}: {}", outcome.stderr);
        outcome.has(check);
    }
    // The host's lists are in force, and older than the revocation of its key. The tenant has newer ones.
    let tenant = Tenant::new();
    let certificates = tenant.folder.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    let lists = Chip::new().revoked().collateral().crls;
    for (number, list) in lists.iter().enumerate() {
        fs::write(certificates.join(format!("{number}.crl")), &list.0).unwrap();
    }
    let host = giving(Chip::new());
    let outcome = tenant.deploy(&host, &["--certs", certificates.to_str().unwrap()]);
    outcome.is("crl.vek", REFUSED);
    assert_nothing_was_sent(&host);
}

/// Lists in force are used, and named with their date; a policy that limits their age refuses them, unless the tenant
/// has newer ones. Nobody can have AMD's lists for a simulated host.
#[test]
fn old_lists_are_refused_if_newer_ones_are_required() {
    let host = giving(Chip::new().old());
    let tenant = Tenant::new();
    let outcome = tenant.deploy(&host, &[]);
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);
    let lists = &outcome.document["verdict"]["revocation_lists"];
    let day = Timestamp(enarx_hostile_host::unix_seconds() - 20 * 86_400).to_string();
    let (day, _) = day.split_once('T').unwrap();
    assert!(lists.as_str().unwrap().contains(day), "{lists}");

    let limited = fs::read_to_string(&tenant.policy).unwrap();
    let limited = limited.replacen("[snp]\n", "[snp]\ncrl-max-age-days = 10\n", 1);
    assert!(limited.contains("crl-max-age-days"), "{limited}");
    let tenant = Tenant::with(&limited);
    let old = giving(Chip::new().old());
    let outcome = tenant.refuses(&old);
    outcome.is("crl.age", REFUSED);
    let certificates = tenant.folder.path().join("certificates");
    fs::create_dir(&certificates).unwrap();
    for (number, list) in Chip::new().collateral().crls.iter().enumerate() {
        fs::write(certificates.join(format!("{number}.crl")), &list.0).unwrap();
    }
    let outcome = tenant.deploy(&old, &["--certs", certificates.to_str().unwrap()]);
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);

    let host = giving(Chip::new());
    let tenant = Tenant::new();
    let mut command = tenant.command(&["deploy", "--fetch-lists", "--to", &host.to()]);
    command.arg(tenant.folder.path().join("application.wat"));
    let outcome = tenant.end(command);
    outcome.is("lists.unfetched", TEMPORARY_FAILURE);
    assert!(
        outcome.stderr.contains("no vendor publishes any"),
        "{}",
        outcome.stderr
    );
    assert_nothing_was_sent(&host);
}

#[test]
fn row_10_other_versions_suites_groups_and_keys_of_tls() {
    for (server, code) in [
        (Server::Tls12, "session.handshake"),
        (Server::OtherSuite, "session.handshake"),
        (Server::OtherGroup, "session.handshake"),
        (Server::Certificate, "session.handshake"),
        (Server::NoAlpn, "session.alpn"),
        (Server::OtherAlpn, "session.alpn"),
    ] {
        let outcome = Tenant::new().refuses(&relaying(Relay::Server(server)));
        assert_eq!(
            outcome.document["code"], code,
            "{server:?}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.code, TEMPORARY_FAILURE, "{server:?}");
    }
}

#[test]
fn row_11_cuts_flipped_bits_other_frames_and_lengths() {
    refused(
        &host_with_misbehaviour(Misbehaviour::Cut(0)),
        "session.truncated",
        TEMPORARY_FAILURE,
    );
    // In the handshake, and in the record with the evidence.
    refused(
        &relaying(Relay::Flip(10)),
        "session.handshake",
        TEMPORARY_FAILURE,
    );
    refused(
        &relaying(Relay::Flip(2200)),
        "session.handshake",
        TEMPORARY_FAILURE,
    );
    refused(
        &host_with_misbehaviour(Misbehaviour::Babble),
        "session.protocol",
        TEMPORARY_FAILURE,
    );
    refused(
        &host_with_misbehaviour(Misbehaviour::Length),
        "session.protocol",
        TEMPORARY_FAILURE,
    );
    records_left_out_repeated_and_swapped("session.protocol");
}

/// Real managers and Keeps: records of a session are omitted, repeated, or reordered.
fn records_left_out_repeated_and_swapped(code: &str) {
    let host = deploy::Host::start(&[]);
    let tenant = Tenant::with(&fs::read_to_string(policy(host.folder())).unwrap());
    let door = Door::of(&host);
    let input: Vec<u8> = (0..=250).cycle().take(100_000).collect();
    let document = tenant.folder.path().join("document.json");
    let deployed = || {
        let mut command = host.deploy(&tenant.policy);
        command.env("XDG_STATE_HOME", tenant.folder.path());
        command.arg(format!("--json={}", document.display()));
        run(command.arg(program("copy.wat")), &input)
    };
    let output = deployed();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let whole = door.sessions().remove(0);
    for way in [Direction::FromKeep, Direction::ToKeep] {
        // In the middle of the output, and of the delivery or the input.
        let place = Place {
            way,
            records: whole.count(way) / 2,
            inside: false,
        };
        for fate in [Fate::Lose(place), Fate::Repeat(place), Fate::Swap(place)] {
            door.fates(&[fate]);
            let output = deployed();
            let told = format!("{fate:?}: {}", text(&output.stderr));
            assert_eq!(output.status.code(), Some(FAILED), "{told}");
            assert!(input.starts_with(&output.stdout), "{told}");
            assert!(
                output.stdout.len() < input.len() || way == Direction::ToKeep,
                "{told}"
            );
            let document: Value = serde_json::from_slice(&fs::read(&document).unwrap()).unwrap();
            // An alert shows what reached the Keep.
            assert_eq!(document["code"], code, "{told}");
        }
    }
}

#[test]
fn row_12_a_relay_that_answers_something_else_or_drips() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    ] {
        refused(
            &relaying(Relay::Status(answer)),
            "relay.protocol",
            TEMPORARY_FAILURE,
        );
    }
    refused(
        &relaying(Relay::JunkWith101),
        "relay.protocol",
        TEMPORARY_FAILURE,
    );
    refused(
        &relaying(Relay::JunkAfter101),
        "session.handshake",
        TEMPORARY_FAILURE,
    );
    let host = relaying(Relay::Drip { paused: false });
    refused(&host, "session.timeout", TEMPORARY_FAILURE);
}

/// Deploys to a host and detaches; the deployment's name.
fn detached(tenant: &Tenant, host: &Host) -> String {
    let outcome = tenant.deploy(host, &["--quiet", "--detach"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stdout.trim().to_owned()
}

/// Attaches to a program whose Keep has this key and plays this trick meanwhile.
#[track_caller]
fn attach_refuses(change: fn(&mut Report), bound: Option<[u8; 32]>, other_key: bool, code: &str) {
    let (tenant, host) = (Tenant::new(), host_with_misbehaviour(Misbehaviour::None));
    let name = detached(&tenant, &host);
    let own = host.log.deployment().unwrap();
    let key = if other_key {
        enarx_hostile_host::keep::key()
    } else {
        host.key()
    };
    let bound = bound.unwrap_or(own);
    let running = Misbehaviour::Running {
        claimed: own,
        bound,
        change,
    };
    host.replace(key, running);
    let outcome = tenant.end(tenant.command(&["attach", "--offline", &name]));
    outcome.is(code, REFUSED);
    assert_eq!(outcome.stdout, "");
    host.log.read(|record| {
        let attests = record.frames.iter().filter(|kind| **kind == Kind::Attest);
        assert_eq!(attests.count(), 2, "{:?}", record.frames);
    });
}

#[test]
fn row_13_another_deployment_or_another_keep_on_the_way_back() {
    // A Keep that allegedly runs something already.
    refused(
        &host_with_misbehaviour(Misbehaviour::Provisioned),
        "evidence.state",
        REFUSED,
    );
    attach_refuses(|_| {}, Some([1; 32]), false, "guest.report-data");
    attach_refuses(|_| {}, None, true, "session.continuity");
}

#[test]
fn row_14_one_contract_launched_twice() {
    // The same key, the same deployment, another launch.
    attach_refuses(
        |report| report.report_id[0] ^= 1,
        None,
        false,
        "session.continuity",
    );
}

#[test]
fn row_15_reports_that_are_held_back() {
    refused(
        &host_with_misbehaviour(Misbehaviour::Busy),
        "evidence.busy",
        TEMPORARY_FAILURE,
    );
}

#[test]
fn row_16_a_clock_that_is_years_off() {
    super::clocks::a_hosts_clock_that_is_years_off();
}

/// Real managers and Keeps: the records of one session are replayed to a Keep that waits.
#[test]
fn row_17_a_release_replayed_to_a_fresh_keep() {
    let host = deploy::Host::start(&[]);
    let policy = policy(host.folder());
    let door = Door::of(&host);
    let deployed = |arguments: &Path| {
        let output = run(host.deploy(&policy).arg(arguments), b"");
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    };
    let application = program("exit.wat");
    deployed(&application);
    // Its door stays behind, and a connection there must find nobody.
    wait_until(|| host.keeps().is_empty());
    let recorded = door.sessions().remove(0);
    door.fates(&[Fate::Hold(Place {
        way: Direction::ToKeep,
        records: 0,
        inside: false,
    })]);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| deployed(&application));
        wait_until(|| door.sessions().len() == 2);
        // Past the held session, to the Keep itself.
        let mut answers = Vec::new();
        for entry in fs::read_dir(host.path("state/keeps")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "keep") {
                answers.extend(replayed(&path, &recorded.to_keep));
            }
        }
        assert_eq!(answers.len(), 1, "one Keep lives");
        // Its handshake arrived, and an alert: no evidence, which is longer by itself.
        let answer = &answers[0];
        let evidence = recorded.records.iter().map(|(_, length)| *length).max();
        assert!(answer.len() > 1000, "{}", answer.len());
        assert!(answer.len() < 1531 + 300, "{} {evidence:?}", answer.len());
        // And the Keep is as fresh as before.
        door.let_go();
        second.join().unwrap();
    });
}

/// Everything that the Keep at this door answers to these bytes; `None` if the Keep has ended.
fn replayed(door: &Path, bytes: &[u8]) -> Option<Vec<u8>> {
    use std::io::{Read, Write};
    let mut keep = std::os::unix::net::UnixStream::connect(door).ok()?;
    // It may close the connection before it has received all.
    let _ = keep.write_all(bytes);
    let mut answer = Vec::new();
    let _ = keep.read_to_end(&mut answer);
    Some(answer)
}

#[test]
fn row_18_receipts_that_are_dropped_or_forged() {
    for (misbehaviour, code, exit) in [
        (Misbehaviour::ReceiptDropped, "session.truncated", FAILED),
        (Misbehaviour::ReceiptSignature, "receipt.signature", FAILED),
        (Misbehaviour::ReceiptStreams, "receipt.streams", FAILED),
        (Misbehaviour::ReceiptReport, "guest.report-data", REFUSED),
    ] {
        let host = host_with_misbehaviour(misbehaviour);
        let outcome = Tenant::new().deploy(&host, &[]);
        outcome.is(code, exit);
        assert!(
            outcome.stderr.contains("may have run"),
            "{}",
            outcome.stderr
        );
    }
}

/// Asserts that a command with little memory recognizes an invalid offer.
fn assert_offer_refused_in_little_memory(answer: String) {
    /// Twice what the command needs to report that nobody answers.
    const SPACE: u64 = 200_000;
    let answer: &'static str = answer.leak();
    let host = HostThread::start(async move || Host::with_manager(Manager::Offer(answer)).await);
    let tenant = Tenant::new();
    let mut deploy = tenant.command(&["deploy", "--offline", "--to", &host.to()]);
    deploy.arg(tenant.folder.path().join("application.wat"));
    let outcome = tenant.end(within(SPACE, &deploy));
    // A busy machine may not read all of it in time.
    let codes = [
        ("manager.protocol", 1),
        ("manager.timeout", TEMPORARY_FAILURE),
    ];
    let code = outcome.document["code"].as_str().unwrap();
    assert!(
        codes.contains(&(code, outcome.code)),
        "{code}: {}",
        outcome.stderr
    );
}

/// Each piece stored as it arrived had a record of forty times its length: half a gigabyte for the longest answer.
#[test]
fn an_answer_in_pieces_of_one_byte_takes_no_more_memory_than_its_bytes() {
    /// A quarter of what an answer may have: the test takes seconds. The list of the records would grow beyond 2^21.
    const PIECES: usize = 2_200_000;
    let pieces = "1\r\n \r\n".repeat(PIECES);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_offer_refused_in_little_memory(format!("{head}{pieces}0\r\n\r\n"));
}

/// Each entry that was stored took twenty times its bytes: 165 MB for the longest answer.
#[test]
fn an_offer_with_millions_of_doors_takes_no_more_memory_than_its_bytes() {
    /// As many as an answer may have.
    const DOORS: usize = 2_000_000;
    let doors = "\"a\",".repeat(DOORS);
    // The rest of the offer is missing.
    let offer = format!(
        r#"{{"doors":{{"listen":[],"connect":[{doors}"a"],"resolve":[],"directories":[]}}}}"#
    );
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", offer.len());
    assert_offer_refused_in_little_memory(format!("{head}{offer}"));
}

#[test]
fn row_19_a_chip_that_is_not_allowed_under_another_name() {
    let tenant = Tenant::new();
    let other = "c2".repeat(64);
    let tenant = tenant.changed(
        "# allowed-chips = [\"CHIP_ID\"]",
        &format!("allowed-chips = [\"{other}\"]"),
    );
    for name in ["host.example", "another.example"] {
        let host = HostThread::start(async move || {
            Host::behaving(Behaviour {
                name,
                ..Behaviour::new()
            })
            .await
        });
        let outcome = tenant.refuses(&host);
        assert_eq!(outcome.code, REFUSED, "{}", outcome.stderr);
        outcome.has("chip.allowed");
    }
    // A host in quarantine, by its chip: it returns under another name, address, key and token.
    let comes_back = |name: &'static str, chip: Chip| {
        HostThread::start(async move || {
            let behaviour = Behaviour {
                name,
                collateral: chip.clone(),
                ..Behaviour::new()
            };
            Host::start(behaviour, chip, Program::Echo, Misbehaviour::None).await
        })
    };
    let known = base16ct::lower::encode_string(&Chip::new().id());
    let tenant = Tenant::new();
    let tenant = tenant.changed(
        "# allowed-chips = [\"CHIP_ID\"]",
        &format!("denied-chips = [\"{known}\"]"),
    );
    for name in ["host.example", "another.example"] {
        let outcome = tenant.refuses(&comes_back(name, Chip::new()));
        assert_eq!(outcome.code, REFUSED, "{}", outcome.stderr);
        outcome.has("chip.denied");
    }
    // A chip that does not identify itself may be that one.
    let masked = host_with_misbehaviour(Misbehaviour::Report(|report| report.chip_id = [0; 64]));
    let outcome = tenant.refuses(&masked);
    assert_eq!(outcome.code, REFUSED, "{}", outcome.stderr);
    outcome.has("chip.denied");
    // The chip is in quarantine, and not the name.
    let other = comes_back("host.example", Chip::new().another());
    let outcome = tenant.deploy(&other, &[]);
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);
}

#[test]
fn row_20_a_verifier_that_compares_nothing() {
    let (tenant, host) = (Tenant::new(), host_with_misbehaviour(Misbehaviour::None));
    let receipt = tenant.folder.path().join("receipt");
    let outcome = tenant.deploy(&host, &["--receipt", receipt.to_str().unwrap()]);
    assert_eq!(outcome.code, 7, "{}", outcome.stderr);
    // A policy that names no image: the receipt's values are compared with nothing.
    let policy = fs::read_to_string(&tenant.policy).unwrap();
    let (before, after) = policy.split_once("measurements = [").unwrap();
    let (_, after) = after.split_once(']').unwrap();
    let bare = Tenant::with(&format!("{before}{after}"));
    // For a release, the command brings the image of its own build, and the contract names it.
    let other = host_with_misbehaviour(Misbehaviour::Report(|report| report.measurement = [7; 48]));
    bare.refuses(&other).is("guest.measurement", REFUSED);
    for (tenant, exit) in [(&tenant, 0), (&bare, REFUSED)] {
        let mut verify =
            tenant.command(&["receipt", "verify", "--json", receipt.to_str().unwrap()]);
        let output = run(verify.arg("--policy").arg(&tenant.policy), b"");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{told}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        if exit == 0 {
            assert_eq!(document["verdict"]["overall"], "simulated");
        } else {
            assert_eq!(document["code"], "evidence.unchecked", "{document}");
            assert!(told.contains("guest.measurement was not checked"), "{told}");
        }
    }
}

#[test]
fn every_row_of_the_table_has_its_test_and_its_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let rows = table(&document, "### The hostile host, row by row");
    let numbers: Vec<_> = rows.iter().map(|row| row[0].clone()).collect();
    let expected: Vec<_> = (1..=20).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, expected);
    let own = concat!(include_str!("hostile_host.rs"), include_str!("clocks.rs"));
    let words = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    for (row, number) in rows.iter().zip(1..) {
        let tests = words(&row[3]);
        let first = tests.first().unwrap();
        assert!(first.starts_with(&format!("row_{number:02}_")), "{first}");
        assert!(own.contains(&format!("fn {first}()")), "{first}");
        // The names of the failures are in that test.
        let (_, test) = own.split_once(&format!("fn {first}()")).unwrap();
        let (test, _) = test.split_once("\n#[test]").unwrap_or((test, ""));
        for code in words(&row[2]) {
            // Faults of a real host's clock are compared where the clock is set.
            let place = if number == 16 { own } else { test };
            assert!(place.contains(&format!("\"{code}\"")), "{number}: {code}");
        }
    }
}
