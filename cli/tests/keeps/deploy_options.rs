// SPDX-License-Identifier: Apache-2.0

//! The options of `enarx deploy`, and the commands for detached deployments, against real managers and Keeps on the
//! simulated platform.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64ct::Encoding;
use enarx_agent::Key;
use enarx_contract::{Agreement, Countersignature, Side, signing_input};
use enarx_harness::needs;
use enarx_session::deployment::{Deployment, commitment};
use serde_json::Value;

use super::common;
use super::deploy::{Host, policy, program, run, text, until_first_output, wait_until};

/// Runs the command and checks its exit code.
#[track_caller]
fn exits(command: &mut Command, code: i32) -> Output {
    let output = run(command, b"input");
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}: {}",
        text(&output.stderr)
    );
    output
}

/// A file in the host's folder with these contents.
fn file(host: &Host, name: &str, content: &str) -> PathBuf {
    let path = host.path(name);
    fs::write(&path, content).unwrap();
    path
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_host_without_certificates_is_judged_by_the_tenants() {
    let usual = Host::start(&[]);
    let policy = policy(usual.folder());
    let receipt = usual.path("receipt");
    let mut command = usual.deploy(&policy);
    command.arg("--receipt").arg(&receipt);
    exits(command.arg(program("exit.wat")), 7);
    let certificates = usual.path("receipt.certs");
    let empty = usual.path("empty");
    fs::create_dir(&empty).unwrap();

    let without = Host::serving(&[], &["--certs", empty.to_str().unwrap()]);
    let log = fs::read_to_string(without.path("log")).unwrap();
    assert!(log.contains("no chip certificates"), "{log}");
    let deploy = || {
        let mut command = without.deploy(&policy);
        command.env("ENARX_STORE", &empty);
        command
    };
    let output = exits(deploy().arg("--offline").arg(program("exit.wat")), 1);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("no collateral"), "{stderr}");
    assert!(stderr.contains("enarx certs fetch"), "{stderr}");
    let mut command = deploy();
    command.arg("--offline").arg("--certs").arg(&certificates);
    exits(command.arg(program("exit.wat")), 7);
    // They are the tenant's, but only certificates: the policy's requirements still apply.
    let stale = usual.path("without-lists");
    fs::create_dir(&stale).unwrap();
    for name in ["vek.der", "ask.der", "ark.der"] {
        fs::copy(certificates.join(name), stale.join(name)).unwrap();
    }
    let mut command = deploy();
    command.arg("--offline").arg("--certs").arg(&stale);
    let output = exits(command.arg(program("exit.wat")), 3);
    assert!(text(&output.stderr).contains("crl.present"));
}

#[test]
fn printed_output_does_not_help_to_guess_a_secret() {
    let host = Host::start(&[]);
    let receipt = host.path("receipt");
    let pin = host.path("pin");
    fs::write(&pin, "4711").unwrap();
    let mut command = host.deploy(&policy(host.folder()));
    command.args(["--json", "--secret", &format!("PIN={}", pin.display())]);
    let output = exits(
        command
            .arg("--receipt")
            .arg(&receipt)
            .arg(program("exit.wat")),
        7,
    );
    let stderr = text(&output.stderr);
    let document: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    assert_eq!(document["deployment"]["document"], Value::Null);
    // With the tenant's own file it is found at once. So nobody else can read that file.
    let kept = host.path("receipt.deployment");
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read(&kept).unwrap();
    let deployment = Deployment::decode(&kept).unwrap();
    let guess = (0..10_000)
        .map(|guess| format!("{guess:04}"))
        .find(|guess| {
            let secret = &deployment.secrets[0];
            commitment(&deployment.salt.0, &secret.name, guess.as_bytes()) == secret.commitment.0
        });
    assert_eq!(guess.as_deref(), Some("4711"));
    assert!(!stderr.contains(&deployment.salt.to_string()));
}

#[test]
fn an_environment_that_names_this_machine_and_another_is_refused() {
    for other in ["ENARX_TO", "ENARX_HOSTS"] {
        let mut command = common::enarx();
        command.env("ENARX_LOCAL", "true").env(other, "something");
        let output = exits(command.args(["deploy", "-q"]).arg(program("exit.wat")), 2);
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains(other) && stderr.contains("both name the host"),
            "{stderr}"
        );
    }
}

#[test]
fn an_empty_name_matches_no_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let tickets = folder.path().join("enarx/keeps");
    fs::create_dir_all(&tickets).unwrap();
    fs::write(tickets.join("aa.ticket"), "the only one").unwrap();
    for words in [
        &["attach", ""][..],
        &["stop", ""],
        &["keeps", "show", ""],
        &["keeps", "end", ""],
        &["keeps", "forget", ""],
    ] {
        let mut command = common::enarx();
        command.args(words).env("XDG_STATE_HOME", folder.path());
        command.env("ENARX_POLICY", "default");
        let output = exits(&mut command, 2);
        let stderr = text(&output.stderr);
        assert!(
            stderr.contains("the name of the deployment is empty"),
            "{stderr}"
        );
    }
}

#[test]
fn a_host_that_offers_no_simulated_platform_shows_no_root_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let show = |arguments: &[&str]| -> Value {
        let mut command = common::enarx();
        command.args(["host", "show", "--json", "--state", &path("host")]);
        command.env("XDG_STATE_HOME", path("state"));
        let output = exits(command.args(arguments), 0);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let shown = show(&[]);
    assert_eq!(shown["simulated_root"], Value::Null, "{shown}");
    assert!(!Path::new(&path("state")).exists(), "keys were made");
    let shown = show(&["--sim", common::SIMULATED_STATE]);
    assert!(shown["simulated_root"].is_string(), "{shown}");
}

#[test]
fn a_manager_hands_out_the_certificates_of_genuine_chips() {
    let case = needs::vectors().join("snp-milan-v3-vcek-05b7438a");
    needs::kvm();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (store, empty) = (path("store"), path("empty"));
    fs::create_dir(&empty).unwrap();
    let mut import = common::enarx();
    import.args(["certs", "import", "--store", &store]);
    exits(import.arg(&case), 0);
    let of_folder = ["--certs", case.to_str().unwrap(), "--store", &empty];
    let of_store = ["--certs", &empty, "--store", &store];
    for arguments in [of_folder, of_store] {
        let host = Host::serving(&[], &arguments);
        let log = fs::read_to_string(host.path("log")).unwrap();
        let chip = "certificates of the chip 66a5a7b4403a3006… (Milan, ";
        assert!(log.contains(chip), "{log}");
        assert!(log.contains("without a revocation list in force"), "{log}");
        let report = fs::read(case.join("report.bin")).unwrap();
        // CHIP_ID and REPORTED_TCB (56860 ATTESTATION_REPORT).
        let chip = base16ct::lower::encode_string(&report[0x1A0..0x1E0]);
        let tcb = base16ct::lower::encode_string(&report[0x180..0x188]);
        let found = host.ask("GET", &format!("/v1/collateral/{chip}/{tcb}"));
        for name in ["vek", "ask", "ark"] {
            let bytes = fs::read(case.join(format!("{name}.der"))).unwrap();
            let encoded = base64ct::Base64::encode_string(&bytes);
            assert_eq!(found[name], encoded, "{name}");
        }
        let other = "00".repeat(8);
        let problem = host.ask("GET", &format!("/v1/collateral/{chip}/{other}"));
        assert_eq!(problem["status"], 404, "{problem}");
        assert_eq!(problem["code"], "collateral");
        let fix = problem["fix"].as_str().unwrap();
        assert!(fix.contains("enarx certs fetch"), "{problem}");
    }
}

const ENARX_TOML: &str = r#"
steward = "https://steward.example"
args = ["--from-file"]

[env]
FROM = "file"
SAME = "file"

[[files]]
kind = "stdin"

[[files]]
kind = "stdout"

[[files]]
kind = "null"
name = "errors"
"#;

#[test]
fn an_enarx_toml_says_the_same_to_run_and_to_deploy() {
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let config = file(&host, "Enarx.toml", ENARX_TOML);
    let run_it = || {
        let mut command = common::enarx();
        command.args(["run", "--backend", "kvm", "--timeout", "60"]);
        command
    };
    let deploy_it = || host.deploy(&policy);
    let commands: [&dyn Fn() -> Command; 2] = [&run_it, &deploy_it];
    for (command, dashes) in commands.into_iter().zip([&[][..], &["--"]]) {
        let with = |config: &Path| {
            let mut command = command();
            command.arg("--config").arg(config);
            command
        };
        let mut whole = with(&config);
        whole.args(["--env", "SAME=flag"]);
        let output = exits(whole.arg(program("delivered.wat")), 7);
        let stderr = text(&output.stderr);
        let stdout = text(&output.stdout);
        assert!(
            stdout.starts_with("delivered.wat\0--from-file\0\n"),
            "{stdout}"
        );
        for part in [
            "FROM=file\0",
            "SAME=flag\0",
            "FD_COUNT=3\0",
            "FD_NAMES=stdin:stdout:errors\0",
        ] {
            assert!(stdout.contains(part), "{stdout}");
        }
        assert!(!stdout.contains("SAME=file"), "{stdout}");
        assert!(stdout.ends_with("input"), "{stdout}");
        assert!(stderr.contains("the steward https://steward.example is not asked"));
        // Command-line arguments replace those of the file.
        let mut other = with(&config);
        other
            .arg(program("delivered.wat"))
            .args(dashes)
            .arg("given");
        let output = exits(&mut other, 7);
        assert!(text(&output.stdout).starts_with("delivered.wat\0given\0\n"));
        // Without files there are no streams.
        let none = file(&host, "none.toml", "");
        let output = exits(with(&none).arg(program("delivered.wat")), 7);
        assert_eq!(text(&output.stdout), "");
        assert!(text(&output.stderr).contains("names no [[files]]"));
        for (content, words) in [
            ("arg = []", "there is no key arg: did you mean args?"),
            (
                "[[files]]\nkind = \"stdin\"\nkindd = \"x\"",
                "no key files.kindd: did you mean files.kind?",
            ),
            (
                "[[files]]\nkind = \"stdn\"",
                "no kind stdn: did you mean stdin?",
            ),
            (
                "[[files]]\nkind = \"listen\"\nprot = \"tls\"\nport = 1",
                "files[0] is listen and has no name",
            ),
            (
                "[[files]]\nkind = \"stdout\"",
                "descriptor 0 can be stdin or null",
            ),
            ("args = 1", "line 1: "),
        ] {
            let wrong = file(&host, "wrong.toml", content);
            let output = exits(with(&wrong).arg(program("delivered.wat")), 65);
            let stderr = text(&output.stderr);
            assert!(stderr.contains(words), "{words}: {stderr}");
        }
    }
}

#[test]
fn a_list_of_hosts_shows_each_host_its_own_token() {
    let (bad, good) = (Host::start(&["debug=y"]), Host::start(&[]));
    let policy = policy(good.folder());
    fs::copy(bad.path("token"), good.path("token-of-bad")).unwrap();
    let list = format!(
        "[[host]]\nto = \"{}\"\ntoken-file = \"token-of-bad\"\n[[host]]\nto = \"{}\"\ntoken-file = \"token\"\n",
        bad.to, good.to
    );
    let list = file(&good, "hosts.toml", &list);
    let listed = || {
        let mut command = common::enarx();
        command.arg("deploy").arg("--policy").arg(&policy);
        command
    };
    let mut by_flag = listed();
    by_flag.arg("--hosts").arg(&list).arg(program("exit.wat"));
    let mut by_variable = listed();
    by_variable
        .env("ENARX_HOSTS", &list)
        .arg(program("exit.wat"));
    for mut command in [by_flag, by_variable] {
        let stderr = text(&exits(&mut command, 7).stderr);
        assert!(stderr.contains("guest-policy.debug"), "{stderr}");
        assert!(!stderr.contains("one token"), "{stderr}");
    }
    let mut both = listed();
    both.arg("--hosts").arg(&list).args(["--to", &good.to]);
    exits(both.arg(program("exit.wat")), 2);
    // Two variables that contradict each other, and a flag that would have no effect.
    let mut both = listed();
    both.env("ENARX_HOSTS", &list).env("ENARX_TO", &good.to);
    let stderr = text(&exits(both.arg(program("exit.wat")), 2).stderr);
    assert!(stderr.contains("ENARX_HOSTS and ENARX_TO"), "{stderr}");
    let mut ignored = listed();
    ignored.env("ENARX_HOSTS", &list).arg("--token-file");
    ignored.arg(good.path("token")).arg(program("exit.wat"));
    let stderr = text(&exits(&mut ignored, 2).stderr);
    assert!(
        stderr.contains("--token-file is for hosts of --to"),
        "{stderr}"
    );
    // A flag has priority over a variable.
    let mut flag = listed();
    flag.env("ENARX_HOSTS", &list).args(["--to", &good.to]);
    flag.arg("--token-file").arg(good.path("token"));
    let stderr = text(&exits(flag.arg(program("exit.wat")), 7).stderr);
    assert!(!stderr.contains("guest-policy.debug"), "{stderr}");
    for (content, words) in [
        ("", "does not name a host"),
        ("[[host]]\nto = \"x\"", "token-file"),
        ("[[hosts]]\n", "no key hosts: did you mean host?"),
        (
            "[[host]]\nto = \"x\"\ntoken = \"y\"",
            "no key host.token: did you mean host.to",
        ),
    ] {
        let wrong = file(&good, "wrong.toml", content);
        let mut command = listed();
        command.arg("--hosts").arg(&wrong).arg(program("exit.wat"));
        let stderr = text(&exits(&mut command, 65).stderr);
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    // One token for several hosts is sent to all of them.
    let mut one = listed();
    one.args(["--to", &good.to, "--to", &bad.to, "--token-file"]);
    one.arg(good.path("token")).arg(program("exit.wat"));
    let stderr = text(&exits(&mut one, 7).stderr);
    assert!(
        stderr.contains("one token is shown to all 2 hosts"),
        "{stderr}"
    );
}

#[test]
fn the_json_document_reports_failures_too() {
    let (bad, good) = (Host::start(&["debug=y"]), Host::start(&[]));
    let policy = policy(good.folder());
    let document = good.path("document.json");
    let to_file = format!("--json={}", document.display());
    let mut command = common::enarx();
    command
        .args(["deploy", &to_file, "--to", &bad.to, "--to", &good.to])
        .arg("--token-file")
        .arg(bad.path("token"))
        .arg("--token-file")
        .arg(good.path("token"))
        .arg("--policy")
        .arg(&policy);
    let output = exits(command.arg(program("delivered.wat")), 7);
    // The program's streams belong to the program.
    assert!(text(&output.stdout).ends_with("input"));
    let found = read_json(&document);
    assert_eq!(found["version"], 1);
    assert_eq!(found["exit_code"], 7);
    assert_eq!(found["error"], Value::Null);
    assert_eq!(found["end"]["kind"], "exited");
    let refused = &found["refused"][0];
    assert_eq!(refused["code"], "guest-policy.debug");
    assert_eq!(refused["checks"][0]["name"], "guest-policy.debug");
    assert!(good.to.contains(found["host"].as_str().unwrap()));
    assert_eq!(found["verdict"]["overall"], "simulated");
    assert_eq!(found["receipt_verdict"]["overall"], "simulated");
    let body = &found["receipt"]["body"];
    assert_eq!(body["contract"], found["contract"]["sha256"]);
    assert_eq!(body["deployment"], found["deployment"]["sha256"]);
    assert_eq!(
        found["deployment"]["document"]["contract"],
        body["contract"]
    );
    let of = |phase: &str| found["timings_us"][phase].as_u64().unwrap();
    let parts = [
        "connect",
        "post",
        "launch",
        "handshake",
        "evidence",
        "verdict",
        "run",
    ];
    let sum: u64 = parts.map(of).iter().sum();
    assert!(0 < sum && sum <= of("total"), "{found}");
    assert!(0 < of("commit") && of("commit") <= of("post"), "{found}");
    let marks = ["transfer", "first_byte", "exit", "run"].map(of);
    assert!(0 < marks[0] && marks.is_sorted(), "{found}");
    let compile = found["keep_timings_us"]["compile"].as_u64().unwrap();
    assert!(0 < compile && compile < of("first_byte"), "{found}");
    assert_eq!(found["claim"], "cold");

    // As the last line of standard error, after the sentence for people; every member is present.
    let mut refused = bad.deploy(&policy);
    let output = exits(refused.arg("--json").arg(program("exit.wat")), 3);
    let stderr = text(&output.stderr);
    let lines: Vec<_> = stderr.lines().collect();
    let [.., sentence, last] = lines[..] else {
        panic!("{stderr}");
    };
    let failed: Value = serde_json::from_str(last).unwrap();
    assert!(
        sentence.starts_with("enarx: no host was accepted"),
        "{stderr}"
    );
    assert_eq!(failed["exit_code"], 3);
    assert_eq!(failed["code"], "guest-policy.debug");
    assert_eq!(failed["refused"][0]["checks"][0]["actual"], "set");
    let members = |document: &Value| -> Vec<String> {
        document.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(members(&failed), members(&found));
    for arguments in [
        &["--json", "--policy", "/nonexistent", "x.wasm"][..],
        &["--json", "--frobnicate"],
    ] {
        let output = common::enarx()
            .arg("deploy")
            .args(arguments)
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        let failed: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
        assert_eq!(failed["exit_code"], output.status.code().unwrap());
        assert_ne!(failed["code"], Value::Null);
        assert_eq!(members(&failed), members(&found));
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn contracts_receipts_and_deployments_belong_together() {
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let deploy = |name: &str| {
        let receipt = host.path(name);
        let mut command = host.deploy(&policy);
        command.arg("--receipt").arg(&receipt);
        exits(command.arg(program("exit.wat")), 7);
        receipt
    };
    let (receipt, other) = (deploy("receipt"), deploy("other"));
    // Lists of an earlier receipt in the same folder would be read together with this one.
    fs::write(host.path("other.certs/7.crl"), "an earlier list").unwrap();
    let mut again = host.deploy(&policy);
    again.arg("--receipt").arg(&other).arg(program("exit.wat"));
    let stderr = text(&exits(&mut again, 7).stderr);
    assert!(
        stderr.contains("not of this receipt") && stderr.contains("7.crl"),
        "{stderr}"
    );
    let beside = |path: &Path, extension: &str| format!("{}.{extension}", path.display());
    let (contract, deployment) = (beside(&receipt, "contract"), beside(&receipt, "deployment"));
    let body = read_json(&receipt)["body"].clone();
    let digest = body["contract"].as_str().unwrap();

    let show = |file: &str, code: i32| {
        let mut command = common::enarx();
        exits(command.args(["contract", "show", file]), code)
    };
    let shown = text(&show(&contract, 0).stdout);
    assert!(
        shown.starts_with(&format!("contract: SHA-256 {digest} (HOST_DATA)\n")),
        "{shown}"
    );
    assert!(
        shown.contains("platform: simulated, Keeps of the kind sim"),
        "{shown}"
    );
    assert_eq!(shown.matches("signed, and valid").count(), 2, "{shown}");
    let mut json = common::enarx();
    let json = exits(json.args(["contract", "show", "--json", &contract]), 0);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["digest"], digest);
    assert_eq!(json["terms"]["resources"]["vcpus"], 1);
    // Without its signatures, as Base64 and as the bytes themselves.
    let base64 = read_json(Path::new(&contract))["contract"]
        .as_str()
        .unwrap()
        .to_owned();
    let lines: Vec<_> = base64.as_bytes().chunks(76).map(text).collect();
    for form in [base64.clone(), lines.join("\n"), lines.join("\r\n")] {
        let bare = file(&host, "bare", &form);
        let shown = text(&show(bare.to_str().unwrap(), 0).stdout);
        assert_eq!(shown.matches("not signed").count(), 2, "{shown}");
    }
    // The same terms with extra white space are not the contract.
    let terms = serde_json::to_string_pretty(&json["terms"]).unwrap();
    let disordered = file(&host, "disordered", &terms);
    let stderr = text(&show(disordered.to_str().unwrap(), 65).stderr);
    assert!(stderr.contains("contract.form"), "{stderr}");
    let forged = fs::read_to_string(&contract).unwrap();
    let at = forged.find("\"host\":\"").unwrap() + "\"host\":\"".len();
    let digit = if &forged[at..=at] == "0" { "1" } else { "0" };
    let forged = file(
        &host,
        "forged",
        &format!("{}{digit}{}", &forged[..at], &forged[at + 1..]),
    );
    let stderr = text(&show(forged.to_str().unwrap(), 3).stderr);
    assert!(stderr.contains("contract.host-signature"), "{stderr}");
    let stderr = text(&show(receipt.to_str().unwrap(), 65).stderr);
    assert!(
        stderr.contains("is a receipt") && stderr.contains(digest),
        "{stderr}"
    );

    let verify = |arguments: &[&str], code: i32| {
        let mut command = common::enarx();
        command.args(["receipt", "verify"]).arg(&receipt);
        command.arg("--policy").arg(&policy).args(arguments);
        exits(command.env("ENARX_STORE", "/nonexistent/store"), code)
    };
    let last = |output: &Output| text(&output.stdout).lines().last().unwrap().to_owned();
    assert!(last(&verify(&[], 0)).starts_with("not compared: application, deployment, contract"));
    let application = program("exit.wat");
    let of = ["--application", application.to_str().unwrap()];
    for (contract, deployment, end) in [
        (contract.as_str(), deployment.as_str(), "standard error: "),
        // A digest does not say who signed.
        (
            digest,
            body["deployment"].as_str().unwrap(),
            "not compared: tenant (",
        ),
    ] {
        let named = [
            &of[..],
            &["--contract", contract, "--deployment", deployment],
        ]
        .concat();
        assert!(last(&verify(&named, 0)).starts_with(end));
        let others = [beside(&other, "contract"), beside(&other, "deployment")];
        let zeros = "00".repeat(32);
        for (flag, wrong, code) in [
            ("--contract", others[0].as_str(), "receipt.contract"),
            ("--contract", &zeros, "receipt.contract"),
            ("--deployment", &others[1], "receipt.deployment"),
            ("--deployment", &zeros, "receipt.deployment"),
        ] {
            let output = verify(&[flag, wrong, "--json"], 3);
            let stderr = text(&output.stderr);
            assert!(stderr.contains(code), "{code}: {stderr}");
            let failed: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(failed["code"], code);
            assert_eq!(failed["exit_code"], 3);
            assert!(failed["error"].as_str().unwrap().contains(code), "{failed}");
        }
    }
    // A refusal by the verifier includes its checks.
    let output = verify(&["--at", "2000-01-01T00:00:00Z", "--json"], 3);
    let failed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(failed["code"], failed["checks"][0]["name"], "{failed}");
    verify(&["--contract", &deployment], 65);
    verify(&["--deployment", &contract], 65);
}

/// An open contract names no tenant, and a host may launch it twice: the receipt says who released the application.
#[test]
fn a_receipt_under_an_open_contract_is_compared_with_its_tenant() {
    let host = Host::serving(&[], &["--warm", "default=1"]);
    let policy = policy(host.folder());
    wait_until(|| {
        let ready = host.ask("GET", "/v1/offer")["ready"].clone();
        ready.as_array().is_some_and(|ready| !ready.is_empty())
    });
    let (receipt, document) = (host.path("receipt"), host.path("document.json"));
    let mut command = host.deploy(&policy);
    command.arg("--receipt").arg(&receipt);
    command.arg(format!("--json={}", document.display()));
    exits(command.arg(program("exit.wat")), 7);
    assert_eq!(read_json(&document)["claim"], "warm");
    let verify = |contract: &str, code: i32| {
        let mut command = common::enarx();
        command.args(["receipt", "verify", "--json"]).arg(&receipt);
        command.arg("--policy").arg(&policy);
        command.args(["--contract", contract]);
        let output = exits(command.env("ENARX_STORE", "/nonexistent/store"), code);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let contract = host.path("receipt.contract");
    let verified = verify(contract.to_str().unwrap(), 0);
    let of_others = ["application", "deployment"];
    assert_eq!(verified["not_compared"], serde_json::json!(of_others));
    // The contract alone does not tell the tenant.
    let agreement: Agreement = serde_json::from_slice(&fs::read(&contract).unwrap()).unwrap();
    let digest = agreement.verify().unwrap().digest().to_string();
    let of_others = ["application", "deployment", "tenant"];
    assert_eq!(
        verify(&digest, 0)["not_compared"],
        serde_json::json!(of_others)
    );
    // Signed by another tenant, it is not the contract of this receipt.
    let other = Key::generate().unwrap();
    let input = signing_input(Side::Tenant, agreement.verify().unwrap().digest());
    let signed = Agreement {
        tenant: Some(Countersignature {
            key: other.public(),
            signature: other.sign(&input).unwrap(),
        }),
        ..agreement
    };
    let others = host.path("others.contract");
    fs::write(&others, signed.encode().unwrap()).unwrap();
    let refused = verify(others.to_str().unwrap(), 3);
    assert_eq!(refused["code"], "receipt.tenant-key");
}

#[test]
fn a_policy_demands_a_release() {
    let host = Host::start(&[]);
    let own = policy(host.folder());
    let folder = host.folder().to_owned();
    let enarx = |arguments: &[&str], code: i32| {
        let mut command = common::enarx();
        exits(command.current_dir(&folder).args(arguments), code)
    };
    enarx(&["release", "keygen", "publisher"], 0);
    let measured = enarx(&["measure", "--json"], 0).stdout;
    fs::write(host.path("measured.json"), measured).unwrap();
    let until = ["--not-after", "2100-01-01T00:00:00Z"];
    let add = ["release", "add", "manifest.toml", "measured.json"];
    enarx(&[&add[..], &until].concat(), 0);
    let sign = ["release", "sign", "manifest.toml", "--key", "publisher.key"];
    enarx(&sign, 0);
    let of = [
        "--release",
        "manifest.toml",
        "--manifest-key",
        "publisher.pub",
    ];
    let new = enarx(&[&["policy", "new", "--local"][..], &of].concat(), 0).stdout;
    // No simulated platform accepts a release of another platform.
    let mut measured = read_json(&host.path("measured.json"));
    let launches = measured["launches"].as_array_mut().unwrap();
    launches.retain(|launch| launch["launch"]["platform"] == "snp");
    assert!(!launches.is_empty());
    fs::write(host.path("genuine.json"), measured.to_string()).unwrap();
    let add = ["release", "add", "genuine.toml", "genuine.json"];
    enarx(&[&add[..], &until].concat(), 0);
    enarx(
        &["release", "sign", "genuine.toml", "--key", "publisher.key"],
        0,
    );
    let root = "ab".repeat(32);
    let genuine = [
        "--release",
        "genuine.toml",
        "--manifest-key",
        "publisher.pub",
    ];
    let simulated = ["policy", "new", "--simulated", &root];
    let stderr = text(&enarx(&[&simulated[..], &genuine].concat(), 65).stderr);
    assert!(stderr.contains("would accept nothing"), "{stderr}");
    enarx(&[&["policy", "new", "--snp"][..], &genuine].concat(), 0);
    let version = env!("CARGO_PKG_VERSION");
    assert!(text(&new).contains(&format!("releases = [\"{version}\"]")));
    assert!(!text(&new).contains("measurements"));
    let demanding = file(&host, "release.toml", &text(&new));

    let manifest = [
        "--manifest",
        "manifest.toml",
        "--manifest-key",
        "publisher.pub",
    ];
    let deploy = |arguments: &[&str], code: i32| {
        let mut command = host.deploy(&demanding);
        command.current_dir(&folder).args(arguments);
        exits(command.arg(program("exit.wat")), code)
    };
    let receipt = ["--receipt", "receipt"];
    deploy(&[&manifest[..], &receipt].concat(), 7);
    // Without the manifest nothing says which launch digests belong to the release.
    let stderr = text(&deploy(&[], 3).stderr);
    assert!(stderr.contains("guest.measurement"), "{stderr}");
    let demanding = demanding.to_str().unwrap();
    let verify = ["receipt", "verify", "receipt", "--policy", demanding];
    enarx(&[&verify[..], &manifest].concat(), 0);
    enarx(&verify, 3);
    // A withdrawn release is not current, and no policy that names it accepts it.
    let text_of = fs::read_to_string(host.path("manifest.toml")).unwrap();
    let withdrawn = text_of
        .replace(
            "status = \"current\"",
            "status = \"withdrawn\"\nreason = \"broken\"",
        )
        .replace("serial = 1", "serial = 2");
    fs::write(host.path("manifest.toml"), withdrawn).unwrap();
    enarx(&sign, 0);
    let output = enarx(&[&["policy", "new", "--local"][..], &of].concat(), 65);
    assert!(text(&output.stderr).contains("no current release"));
    let stderr = text(&deploy(&manifest, 3).stderr);
    assert!(stderr.contains("withdrawn"), "{stderr}");
    // A manifest that somebody else signed requires nothing.
    enarx(&["release", "keygen", "other"], 0);
    let other = ["--release", "manifest.toml", "--manifest-key", "other.pub"];
    enarx(&[&["policy", "new", "--local"][..], &other].concat(), 3);
    assert!(own.is_file());
}

/// A relay before a host that forwards everything until it is switched to hold everything back.
struct Relay {
    to: String,
    holds_back: Arc<AtomicBool>,
}

/// Longer than any session waits for a sign of life.
const HELD: Duration = Duration::from_secs(89);

impl Relay {
    fn before(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let (place, pin) = host.to.split_once('#').unwrap();
        let place = place.trim_start_matches("https://").to_owned();
        let holds_back = Arc::new(AtomicBool::new(false));
        let held = holds_back.clone();
        // It ends with the test's process, and its connections with those of the host.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(near), Ok(far)) = (stream, TcpStream::connect(&place)) else {
                    return;
                };
                let ends = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (from, to) in ends {
                    let held = held.clone();
                    thread::spawn(move || pass(from, to, &held));
                }
            }
        });
        Self {
            to: format!("https://{own}#{pin}"),
            holds_back,
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, held: &AtomicBool) {
    let mut chunk = [0; 16 << 10];
    while let Ok(count) = from.read(&mut chunk) {
        if held.load(Ordering::SeqCst) {
            thread::sleep(HELD);
        }
        if count == 0 || to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_relay_that_withholds_everything_does_not_prolong_a_run() {
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let relay = Relay::before(&host);
    let state = host.path("tenant");
    let document = host.path("document.json");
    let begun = Instant::now();
    let mut command = common::enarx();
    command
        .args([
            "deploy",
            "--timeout",
            "15s",
            "--to",
            &relay.to,
            "--token-file",
        ])
        .arg(host.path("token"))
        .arg("--policy")
        .arg(&policy)
        .arg(format!("--json={}", document.display()))
        .arg(program("delivered.wat"))
        .env("XDG_STATE_HOME", &state);
    let mut child = until_first_output(&mut command);
    relay.holds_back.store(true, Ordering::SeqCst);
    let stdin = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let took = begun.elapsed();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{stderr}");
    assert!(took < HELD, "{took:?}");
    assert!(
        stderr.contains("the time limit of 15s was reached"),
        "{stderr}"
    );
    assert!(stderr.contains("may still run: `enarx attach "), "{stderr}");
    let found = read_json(&document);
    let name = found["ticket"].as_str().unwrap();
    assert!(stderr.contains(name), "{stderr}");
    assert_eq!(found["code"], "agent.left");
}

#[test]
fn a_run_beyond_its_time_limit_ends_with_one_exit_code() {
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let mut command = host.deploy(&policy);
    command
        .args(["--timeout", "10s"])
        .arg(program("forever.wat"));
    let stderr = text(&exits(&mut command, 124).stderr);
    assert!(stderr.contains("give --timeout more"), "{stderr}");
    // Before there is a Keep, nothing has been sent.
    for flags in [["--timeout", "1ms"], ["-W", "timeout=1ms"]] {
        let mut command = host.deploy(&policy);
        let output = exits(command.args(flags).arg(program("exit.wat")), 124);
        let stderr = text(&output.stderr);
        assert!(stderr.contains("before anything was sent"), "{stderr}");
    }
}

#[test]
fn unwritable_outputs_are_found_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("file"), "").unwrap();
    fs::write(path("r.certs"), "no folder").unwrap();
    // Nobody uses that address, so a request there would end differently.
    let deploy = |arguments: &[String], code| {
        let mut command = common::enarx();
        command.args(["deploy", "--to", "https://127.0.0.1:1#sha256=00"]);
        let output = exits(command.args(arguments).arg(program("exit.wat")), code);
        text(&output.stderr)
    };
    for arguments in [
        vec!["--receipt".to_owned(), path("none/r")],
        vec!["--receipt".to_owned(), path("file/r")],
        vec!["--receipt".to_owned(), path("r")],
        vec!["--receipt".to_owned(), "/dev/full".to_owned()],
        vec![format!("--json={}", path("none/json"))],
        vec!["--json=/dev/full".to_owned()],
    ] {
        let stderr = deploy(&arguments, 74);
        assert_eq!(
            stderr.matches("could not be written").count(),
            1,
            "{stderr}"
        );
    }
    for json in ["j", "j.contract", "j.deployment", "./j.certs"] {
        let arguments = [
            "--receipt".to_owned(),
            path("j"),
            format!("--json={}", path(json)),
        ];
        let stderr = deploy(&arguments, 2);
        assert!(stderr.contains("would both write to"), "{stderr}");
    }
    // The documents of the last four, and nothing else.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2 + 4);
}

#[test]
fn a_json_document_that_cannot_be_written_is_a_failure() {
    needs::kvm();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = common::enarx();
    command.args(["deploy", "--local", "--quiet", "--json"]);
    command.arg(program("package.wat")).stderr(full);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(74));
    // With a reader, it is on its own line, also after a program whose last line has no end.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both");
    let both = fs::File::create(&path).unwrap();
    let mut command = common::enarx();
    command.args(["deploy", "--local", "--quiet", "--json"]);
    command.arg(program("delivered.wat"));
    command.stdout(both.try_clone().unwrap()).stderr(both);
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(7));
    let config = folder.path().join("Enarx.toml");
    let words = "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stderr\"\n";
    fs::write(&config, words).unwrap();
    let mut command = common::enarx();
    command.args(["deploy", "--local", "--quiet", "--json", "--config"]);
    command.arg(&config).arg(program("package.wat"));
    let output = exits(&mut command, 0);
    for written in [fs::read(&path).unwrap(), output.stderr] {
        let written = text(&written);
        let lines: Vec<_> = written.lines().collect();
        let [.., unfinished, last] = lines[..] else {
            panic!("{written}");
        };
        let document: Value = serde_json::from_str(last).unwrap();
        assert_eq!(document["version"], 1);
        assert!(!unfinished.is_empty());
    }
}

#[test]
fn invalid_variables_are_refused_by_their_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let commands = [&["run"][..], &["deploy", "--local"]];
    for (content, place) in [
        ("[env]\n\"A=B\" = \"x\"", "env.A=B: the name"),
        ("[env]\n\"\" = \"x\"", "env.: the name"),
        ("[env]\n\"A\\u0000\" = \"x\"", "env.A\\0: a variable"),
        ("[env]\nA = \"x\\u0000\"", "env.A: a variable"),
        ("args = [\"a\", \"b\\u0000\"]", "args[1]: an argument"),
        (
            "[[files]]\nkind = \"stdin\"\nname = \"a\\u0000\"",
            "files[0]: the name a\\0",
        ),
    ] {
        fs::write(path("Enarx.toml"), content).unwrap();
        for words in commands {
            let mut command = common::enarx();
            command.args(words).args(["--config", &path("Enarx.toml")]);
            let stderr = text(&exits(command.arg(program("exit.wat")), 65).stderr);
            assert!(
                stderr.contains(&format!("Enarx.toml: {place}")),
                "{place}: {stderr}"
            );
        }
    }
    fs::write(path("nul"), "a\0b").unwrap();
    fs::write(path("key"), "a").unwrap();
    for (arguments, code, words) in [
        (
            vec![format!("--secret=KEY={}", path("nul"))],
            65,
            "nul: the secret KEY",
        ),
        (
            vec![format!("--secret=A-B={}", path("key"))],
            2,
            "`A-B` is not a name",
        ),
        (
            vec![format!("--secret=={}", path("key"))],
            2,
            "`` is not a name",
        ),
        (
            vec![
                format!("--secret=KEY={}", path("key")),
                format!("--secret-file=KEY={}", path("key")),
            ],
            2,
            "the secret KEY is given twice",
        ),
        (
            vec![
                format!("--file=/etc/key={}", path("key")),
                format!("--file=etc/key={}", path("nul")),
            ],
            2,
            "--file etc/key: it is given twice",
        ),
    ] {
        let mut command = common::enarx();
        command.args(["deploy", "--local"]).args(arguments);
        let stderr = text(&exits(command.arg(program("exit.wat")), code).stderr);
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}

#[test]
fn a_pipe_without_a_writer_does_not_outlast_the_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let begun = Instant::now();
    let deploy = |limit| {
        let mut command = common::enarx();
        command.args(["deploy", "--local", "--quiet", "--timeout", limit]);
        command
    };
    let stderr = text(&exits(deploy("1s").arg(&pipe), 124).stderr);
    assert!(stderr.contains("nothing was sent"), "{stderr}");
    for flag in ["--secret", "--secret-file", "--file"] {
        let named = format!("{flag}=KEY={}", pipe.display());
        let mut command = deploy("1m");
        let stderr = text(&exits(command.arg(named).arg(program("exit.wat")), 66).stderr);
        assert!(stderr.contains("not a regular file"), "{stderr}");
    }
    assert!(
        begun.elapsed() < Duration::from_mins(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn no_reader_makes_a_flood_outlast_the_time_limit() {
    needs::kvm();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("Enarx.toml");
    let to_stdout = ["null", "null", "stdout"];
    let entries = to_stdout.map(|kind| format!("[[files]]\nkind = \"{kind}\"\n"));
    fs::write(&config, entries.concat()).unwrap();
    for arguments in [&[][..], &["--config", config.to_str().unwrap()], &["-vv"]] {
        let begun = Instant::now();
        let mut command = common::enarx();
        command
            .args(["deploy", "--local", "--timeout", "3s"])
            .args(arguments)
            .arg(program("flood.wat"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The pipes stay open, and nobody reads them.
        let mut child = command.spawn().unwrap();
        let pipes = (child.stdout.take(), child.stderr.take());
        // The program's grace period, and that for the host's answer, come after the limit.
        let most = Duration::from_secs(3 + 10 + 5 + 15);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > most {
                child.kill().unwrap();
                panic!("{arguments:?}: it does not end");
            }
            thread::sleep(Duration::from_millis(50));
        };
        drop(pipes);
        assert!(!status.success(), "{arguments:?}: {status}");
    }
}

/// Deployments of this many virtual CPUs each, all at once, to a host on which their token has no room at first.
fn queue(number: usize) {
    /// The most virtual CPUs of one Keep.
    const MAX_VCPUS: u64 = 62;
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let limit = host.ask("GET", "/v1/offer")["limits"]["vcpus"].clone();
    let limit = limit.as_u64().unwrap();
    // Two at a time, or a few on a large machine.
    let share = (limit / 2).clamp(1, MAX_VCPUS).to_string();
    let begin = |name: &str, flags: &[&str]| {
        let mut command = host.deploy(&policy);
        command
            .args(["--vcpus", &share])
            .args(flags)
            .arg(format!("--json={}", host.path(name).display()))
            .arg(program("exit.wat"))
            .env("XDG_STATE_HOME", host.path("tenant"));
        command
    };
    let mut left = limit;
    let mut holders = Vec::new();
    while left > 0 {
        let some = left.min(MAX_VCPUS);
        let mut command = host.deploy(&policy);
        command.args(["--vcpus", &some.to_string()]);
        holders.push(until_first_output(command.arg(program("delivered.wat"))));
        left -= some;
    }

    // Only a command that requests it waits, and no longer than requested.
    let output = exits(&mut begin("now", &[]), 75);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("--wait waits until there is room"),
        "{stderr}"
    );
    assert_eq!(read_json(&host.path("now"))["code"], "limit.vcpus");
    let begun = Instant::now();
    let output = exits(&mut begin("soon", &["--wait", "2s"]), 75);
    let took = begun.elapsed();
    let stderr = text(&output.stderr);
    let waits = "enarx: waiting for room (--wait): ";
    assert_eq!(stderr.matches(waits).count(), 1, "{stderr}");
    assert_eq!(read_json(&host.path("soon"))["code"], "limit.vcpus");
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_mins(1),
        "{took:?}"
    );
    // An interrupt ends the wait, and so does the time limit.
    let output = exits(
        &mut begin("limit", &["--wait", "2m", "--timeout", "1s"]),
        124,
    );
    let stderr = text(&output.stderr);
    assert!(stderr.contains("before anything was sent"), "{stderr}");

    let flags = ["--wait", "5m"];
    let mut waiting: Vec<Child> = (0..number)
        .map(|index| {
            let mut command = begin(&index.to_string(), &flags);
            command.stdin(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut errors: Vec<_> = waiting
        .iter_mut()
        .map(|child| BufReader::new(child.stderr.take().unwrap()))
        .collect();
    for (index, stderr) in errors.iter_mut().enumerate() {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with(waits), "{index}: {line}");
    }
    let mut interrupted = waiting.pop().unwrap();
    let process = rustix::process::Pid::from_child(&interrupted);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(interrupted.wait().unwrap().code(), Some(1));
    assert_eq!(host.keeps().len(), holders.len());

    // Once there is room, all of them end, each with its program's exit code.
    for holder in holders {
        let output = holder.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    }
    for (index, (child, stderr)) in waiting.iter_mut().zip(&mut errors).enumerate() {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{index}: {rest}");
        assert_eq!(read_json(&host.path(&index.to_string()))["end"]["code"], 7);
    }
    wait_until(|| host.keeps().is_empty());
}

#[test]
fn deployments_queue_for_a_full_host() {
    queue(8);
}

#[test]
#[ignore = "it takes minutes"]
fn fifty_deployments_queue_for_a_full_host() {
    queue(51);
}
