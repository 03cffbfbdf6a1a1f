// SPDX-License-Identifier: Apache-2.0

//! Lives and deaths of Keeps, of their processes and of their manager.

use crate::client::Client;
use crate::contracts::Signer;
use crate::host::{Host, Process, gone, process, settings, wait, wait_until};
use crate::pool::{await_ready, claim, ready};
use crate::stand_in;
use enarx_manager::{Manager, State};
use enarx_manager_api::{KeepAnswer, KeepInfo, KeepList, KeepState, path};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[test]
fn keeps_end_by_name() {
    let host = Host::new();
    let mut client = host.client("anna");
    for (class, reason, code, word) in [
        // The Keep's own message, sanitized.
        (
            "fails",
            "contract.host-data?[2J",
            Some(70),
            "the contract is another one",
        ),
        ("dies", "keep.died", None, "exit code 7"),
        ("junk", "keep.protocol", None, "not understood"),
        ("endless", "keep.protocol", None, "longer"),
        ("twice", "keep.protocol", None, "twice"),
        // It says that its Keep has ended, and does not end.
        ("lingers", "exited", Some(0), "pid"),
    ] {
        let keep = host.launch(&mut client, class);
        let ended = wait(&mut client, &keep.id, KeepState::Ended);
        assert_eq!(ended.state, KeepState::Ended);
        assert_eq!(ended.reason.as_deref(), Some(reason), "{class}");
        assert_eq!(ended.code, code, "{class}");
        assert!(ended.ended >= Some(ended.created));
        let answer = client.get(&path::log(&keep.id));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        let log = answer.text();
        assert!(log.contains(word), "{class}: {log}");
        gone(process(&mut client, &keep.id));
        let door = host
            .folder
            .path()
            .join(format!("state/keeps/{}.sock", keep.id));
        assert!(!door.exists());
    }
}

/// A test once took an earlier Keep for the last: both had ended in the same second, and the list
/// sorted such Keeps by name.
#[test]
fn keeps_of_one_second_are_listed_in_their_order() {
    let host = Host::new();
    let mut client = host.client("anna");
    let mut classes = ["fails", "dies", "lingers", "fails", "dies", "lingers"].to_vec();
    let mut keeps: Vec<_> = classes
        .iter()
        .map(|class| host.launch(&mut client, class).id)
        .collect();
    for keep in &keeps {
        wait(&mut client, keep, KeepState::Ended);
    }
    // Live Keeps precede ended ones, whenever they were made.
    for class in ["mute", "mute"] {
        keeps.push(host.launch(&mut client, class).id);
        classes.push(class);
    }
    let list: KeepList = client.get(path::KEEPS).json();
    let listed: Vec<_> = list.keeps.iter().map(|keep| keep.id).collect();
    keeps.reverse();
    assert_eq!(listed, keeps);
    classes.reverse();
    for (keep, class) in list.keeps.iter().zip(classes) {
        let reason = match class {
            "fails" => Some("contract.host-data?[2J"),
            "dies" => Some("keep.died"),
            "lingers" => Some("exited"),
            _ => None,
        };
        assert_eq!(keep.reason.as_deref(), reason, "{class}");
    }
}

#[test]
fn a_program_that_cannot_be_started_ends_its_keep() {
    let host = Host::with(|settings| settings.keep.program = "/nowhere/enarx".into());
    let mut client = host.client("anna");
    let keep = host.launch(&mut client, "echo");
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("keep.start"));
}

#[test]
fn the_last_words_are_kept() {
    let host = Host::new();
    let mut client = host.client("anna");
    let keep = host.launch(&mut client, "chatty");
    wait(&mut client, &keep.id, KeepState::Ready);
    wait_until(|| {
        let log = client.get(&path::log(&keep.id)).text();
        assert!(log.len() <= 64 << 10);
        log.ends_with("line 19999\n")
    });
}

#[test]
fn a_killed_keep_process_ends_its_keep() {
    let host = Host::new();
    let mut client = host.client("anna");
    let keep = host.ready(&mut client);
    let number = process(&mut client, &keep.id);
    let number = Pid::from_raw(number.try_into().unwrap()).unwrap();
    kill_process(number, Signal::KILL).unwrap();
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("keep.died"));
    let log = client.get(&path::log(&keep.id)).text();
    assert!(log.contains("signal 9"), "{log}");
}

#[test]
fn waiting_ends_when_the_state_is_reached() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    // A wait for a past state returns at once.
    let info = wait(&mut client, &keep.id, KeepState::Launching);
    assert_eq!(info.state, KeepState::Ready);
    let mut waiting = host.connect(&token);
    let thread = std::thread::spawn(move || {
        let info = wait(&mut waiting, &keep.id, KeepState::Ended);
        (info, Instant::now())
    });
    // Long enough for one that does not wait.
    std::thread::sleep(Duration::from_millis(300));
    assert!(!thread.is_finished());
    let deleted = Instant::now();
    client.call("DELETE", &path::keep_delete(&keep.id, 0), None);
    let (info, told) = thread.join().unwrap();
    assert_eq!(info.reason.as_deref(), Some("deleted"));
    assert!(told >= deleted);
    gone(process(&mut client, &keep.id));
}

#[test]
fn a_deleted_keep_gets_its_grace_period() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    let answer = client.call("DELETE", &path::keep_delete(&keep.id, 600), None);
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json::<KeepInfo>().state, KeepState::Ready);
    // It may end by itself, cleanly.
    let mut session = host.connect(&token);
    assert_eq!(session.upgrade(&keep.id).status, 101);
    session.stream.write_all(stand_in::EXIT).unwrap();
    session.stream.flush().unwrap();
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("exited"));

    // A later request can shorten the time, not extend it.
    let keep = host.ready(&mut client);
    for grace in [600, 1, 600] {
        let answer = client.call("DELETE", &path::keep_delete(&keep.id, grace), None);
        assert_eq!(answer.status, 202);
    }
    let start = Instant::now();
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("deleted"));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_killed_manager_leaves_no_keeps_and_the_next_one_says_so() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("state");
    let state = State::open(&path).unwrap();
    let token = state.add_token("anna").unwrap().to_string();
    let (mut manager, address) = Process::new(&path);
    let mut client = Client::connect(address, state.fingerprint(), Some(&token));
    let host = enarx_contract::Host {
        key: state.key().public(),
        name: enarx_contract::canonical::Name::new("host-1").unwrap(),
    };
    let signer = Signer::new();
    let ask = |client: &mut Client, class| {
        let new = signer.sign(signer.terms(host.clone(), class));
        let answer = client.post(path::KEEPS, &new);
        assert_eq!(answer.status, 201);
        (new, answer.json::<KeepAnswer>())
    };
    let (new, living) = ask(&mut client, "echo");
    wait(&mut client, &living.keep.id, KeepState::Ready);
    let (_, launching) = ask(&mut client, "mute");
    let (_, ended) = ask(&mut client, "fails");
    let ended = wait(&mut client, &ended.keep.id, KeepState::Ended);
    wait_until(|| {
        client
            .get(&path::log(&launching.keep.id))
            .text()
            .contains("pid")
    });
    let numbers = [&living, &launching].map(|keep| process(&mut client, &keep.keep.id));
    manager.kill();
    for number in numbers {
        gone(number);
    }
    let door = path.join(format!("keeps/{}.sock", living.keep.id));
    assert!(door.exists(), "a killed manager leaves its doors");

    let next = Host::in_folder(folder.clone(), |_| {});
    assert!(!door.exists());
    let mut client = next.connect(&token);
    for keep in [&living, &launching] {
        let info: KeepInfo = client.get(&path::keep(&keep.keep.id)).json();
        assert_eq!(info.state, KeepState::Ended);
        assert_eq!(info.reason.as_deref(), Some("manager-lost"));
        assert_eq!(info.created, keep.keep.created);
    }
    let info: KeepInfo = client.get(&path::keep(&ended.id)).json();
    assert_eq!(info, ended);
    let log = client.get(&path::log(&ended.id)).text();
    assert!(log.contains("the contract is another one"), "{log}");
    let list: KeepList = client.get(path::KEEPS).json();
    assert_eq!(list.keeps.len(), 3);
    // Its contract has had its Keep.
    let answer = client.post(path::KEEPS, &new);
    assert_eq!(answer.status, 200);
    let again: KeepAnswer = answer.json();
    assert_eq!(again.keep.reason.as_deref(), Some("manager-lost"));
    assert_eq!(again.host_signature, living.host_signature);
}

/// The size limit of files that a process writes, in bytes. With 0 its disk is as good as full; SIGXFSZ is ignored.
fn limit_files(process: &Process, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(process.pid()), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_manager_with_a_full_disk_promises_no_keep_and_cuts_no_session() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("state");
    let state = State::open(&path).unwrap();
    let token = state.add_token("anna").unwrap().to_string();
    let figures = state.add_token(path::FIGURES_TOKEN).unwrap().to_string();
    let (manager, address) = Process::with_pool(&path);
    let connect = || Client::connect(address, state.fingerprint(), Some(&token));
    let mut client = connect();
    let host = enarx_contract::Host {
        key: state.key().public(),
        name: enarx_contract::canonical::Name::new("host-1").unwrap(),
    };
    let signer = Signer::new();
    let ask = |client: &mut Client| {
        let new = signer.sign(signer.terms(host.clone(), "echo"));
        (client.post(path::KEEPS, &new), new)
    };
    let (answer, new) = ask(&mut client);
    assert_eq!(answer.status, 201);
    let keep = answer.json::<KeepAnswer>().keep;
    let keep = wait(&mut client, &keep.id, KeepState::Ready);
    let mut session = connect();
    assert_eq!(session.upgrade(&keep.id).status, 101);
    let waiting = await_ready(&mut client, 2).remove(0);

    limit_files(&manager, Some(0));
    let full = (507, "store.full".to_string());
    for _ in 0..3 {
        assert_eq!(ask(&mut client).0.refusal(), full);
    }
    // A claim that is not recorded does not count, and its Keep belongs to nobody.
    let claimed = claim(&signer, &waiting);
    assert_eq!(client.post(path::KEEPS, &claimed).refusal(), full);
    wait_until(|| !ready(&mut client).contains(&waiting));
    // Live Keeps continue, and are listed.
    session.stream.write_all(b"still here").unwrap();
    session.stream.flush().unwrap();
    let mut echo = [0; 10];
    session.stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still here");
    assert_eq!(client.post(path::KEEPS, &new).status, 200);
    session.stream.write_all(stand_in::EXIT).unwrap();
    session.stream.flush().unwrap();
    let ended = wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("exited"));

    let mut figures = Client::connect(address, state.fingerprint(), Some(&figures));
    let mut unrecorded = || figures.figure("enarx_manager_keeps{state=\"ended\"}");
    // Its own, and that of the one that could not be claimed, whose process needs a moment to end.
    wait_until(|| unrecorded() == 2);

    // With room again, everything is recorded and continues.
    limit_files(&manager, None);
    let (answer, _) = ask(&mut client);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let refusal = client.post(path::KEEPS, &claimed).refusal();
    assert_eq!(refusal, (409, "keep.gone".to_string()));
    await_ready(&mut client, 2);
    // The end is recorded too, at a later attempt, and no later manager reports it as lost. Until then the Keep has its place.
    wait_until(|| unrecorded() == 0);
    drop(manager);
    let next = Host::in_folder(folder, |_| {});
    let info: KeepInfo = next.connect(&token).get(&path::keep(&keep.id)).json();
    assert_eq!(info.reason.as_deref(), Some("exited"));
}

#[test]
fn a_state_folder_has_one_manager() {
    let host = Host::new();
    let second = settings(&host.folder.path().join("state"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let refused = runtime.block_on(Manager::bind(second)).err();
    assert_eq!(refused.map(|error| error.code()), Some("manager.locked"));
}

#[test]
fn shutting_down_gives_a_grace_period_and_ends_all_keeps() {
    // Enough for what happens before its end, on a busy machine too.
    let mut host = Host::with(|settings| settings.grace = Duration::from_secs(10));
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let orderly = host.ready(&mut client);
    let stubborn = host.ready(&mut client);
    let numbers = [&orderly, &stubborn].map(|keep| process(&mut client, &keep.id));
    let mut session = host.connect(&token);
    assert_eq!(session.upgrade(&orderly.id).status, 101);
    assert_eq!(client.get(path::READYZ).status, 200);
    let start = Instant::now();
    host.shut_down();
    wait_until(|| client.get(path::READYZ).status == 503);
    // Nothing new, but existing Keeps continue, and are listed.
    let refusal = host.ask(&mut client, "echo").refusal();
    assert_eq!(refusal, (503, "draining".to_string()));
    assert_eq!(client.get(path::HEALTHZ).status, 200);
    let mut waiting = host.connect(&token);
    let id = stubborn.id;
    let thread = std::thread::spawn(move || wait(&mut waiting, &id, KeepState::Ended));
    session.stream.write_all(stand_in::EXIT).unwrap();
    session.stream.flush().unwrap();
    assert_eq!(session.rest(), stand_in::EXIT);
    let ended = wait(&mut client, &orderly.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("exited"));
    let ended = thread.join().unwrap();
    assert_eq!(ended.reason.as_deref(), Some("manager-shutdown"));
    host.join().unwrap();
    assert!((10..40).contains(&start.elapsed().as_secs()));
    for number in numbers {
        gone(number);
    }
    // Recorded, for the next one.
    let next = Host::in_folder(host.folder.clone(), |_| {});
    let info: KeepInfo = next.connect(&token).get(&path::keep(&stubborn.id)).json();
    assert_eq!(info.reason.as_deref(), Some("manager-shutdown"));
}

#[test]
fn a_manager_without_keeps_ends_at_once() {
    let mut host = Host::with(|settings| settings.grace = Duration::from_mins(1));
    let start = Instant::now();
    host.shut_down();
    host.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
}
