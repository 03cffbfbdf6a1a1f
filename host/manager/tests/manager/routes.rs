// SPDX-License-Identifier: Apache-2.0

//! Every route, the document that describes them, and their answers.

use crate::contracts::Signer;
use crate::host::{CHIP, Host, TCB, wait, wait_until};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, Side, signing_input};
use enarx_manager_api::openapi::{ROUTES, Route, openapi};
use enarx_manager_api::{
    Collateral, KeepAnswer, KeepInfo, KeepList, KeepState, Offer, VERSION, path,
};

/// The path of a route with valid parameters.
fn filled(route: &Route, keep: &KeepInfo) -> String {
    route
        .path
        .replace("{id}", &keep.id.to_string())
        .replace("{chip}", &CHIP.to_string())
        .replace("{tcb}", &TCB.to_string())
}

#[test]
fn every_route_of_the_document_answers_and_no_other_exists() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    let document: serde_json::Value = client.get(path::OPENAPI).json();
    assert_eq!(document, openapi());
    let paths = document["paths"].as_object().unwrap();
    let operations: usize = paths
        .values()
        .map(|methods| methods.as_object().unwrap().len())
        .sum();
    assert_eq!(operations, ROUTES.len());

    for route in ROUTES {
        let path = filled(route, &keep);
        // Each on its own connection: one becomes a session.
        let mut client = match route.path {
            path::METRICS => host.client_of_figures(),
            _ => host.connect(&token),
        };
        let expected = route.answers[0].status;
        let answer = match (route.path, route.request) {
            (path::SESSION, _) => client.upgrade(&keep.id),
            (_, Some(_)) => host.ask(&mut client, "echo"),
            _ => client.call(route.method, &path, None),
        };
        assert_eq!(answer.status, expected, "{route:?}: {}", answer.text());

        let mut stranger = host.connect("enarx_0");
        let answer = stranger.call(route.method, &path, None);
        if route.token {
            assert_eq!(answer.refusal(), (401, "token".to_string()), "{route:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        } else {
            assert_eq!(answer.status, expected, "{route:?}");
        }
    }
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
        for route in ROUTES {
            let known = ROUTES
                .iter()
                .any(|other| other.path == route.path && other.method == method);
            if known || method == "HEAD" {
                continue;
            }
            let answer = client.call(method, &filled(route, &keep), None);
            assert_eq!(
                answer.refusal(),
                (405, "method".to_string()),
                "{method} {route:?}"
            );
            assert!(answer.headers["allow"].contains(route.method));
        }
    }
    let id = keep.id;
    for path in [
        "/".to_string(),
        "/v1".to_string(),
        "/v2/offer".to_string(),
        "/v1/offer/".to_string(),
        format!("/v1/keeps/{id}/logs"),
        "/v1/keeps/0".to_string(),
        format!("/v1/keeps/{}", "AB".repeat(16)),
        "/v1/keeps/%2e%2e".to_string(),
        "/v1/collateral/00/00".to_string(),
    ] {
        let answer = client.get(&path);
        assert_eq!(answer.refusal(), (404, "path".to_string()), "{path}");
    }
}

#[test]
fn the_offer_reflects_the_settings() {
    let host = Host::new();
    let mut client = host.client("anna");
    let offer: Offer = client.get(path::OFFER).json();
    assert_eq!(offer.version, VERSION);
    assert_eq!(offer.key, host.state.key().public());
    assert_eq!(offer.name.as_str(), "host-1");
    assert_eq!(offer.platforms.len(), 1);
    assert_eq!(offer.limits.keeps, 20);
    assert_eq!(offer.doors.listen.len(), 1);
}

#[test]
fn a_contract_has_one_keep_and_the_host_signs_it() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let signer = Signer::new();
    let contract = Contract::new(signer.terms(host.contract_host(), "echo")).unwrap();
    let new = signer.sign_contract(&contract);
    let answer = client.post(path::KEEPS, &new);
    assert_eq!(answer.status, 201);
    let first: KeepAnswer = answer.json();
    assert_eq!(first.keep.id, contract.keep_id());
    assert_eq!(first.keep.contract, *contract.digest());
    assert_eq!(answer.headers["location"], path::keep(&first.keep.id));
    let signed = signing_input(Side::Host, contract.digest());
    let key = host.state.key().public();
    assert!(key.verifies(&signed, &first.host_signature));
    contract.verify_host(&first.host_signature).unwrap();
    assert!(first.commit_us.is_some_and(|us| us > 0), "{first:?}");

    // Another signature of the same tenant on the same contract finds the same Keep.
    for new in [new.clone(), signer.sign_contract(&contract)] {
        let answer = client.post(path::KEEPS, &new);
        assert_eq!(answer.status, 200);
        let again: KeepAnswer = answer.json();
        assert_eq!(again.keep.id, first.keep.id);
        assert_eq!(again.host_signature, first.host_signature);
        assert_eq!(again.commit_us, None, "nothing new was recorded");
    }
    // Another token does not, and learns nothing about the Keep.
    let mut other = host.client("berta");
    let refusal = other.post(path::KEEPS, &new).refusal();
    assert_eq!(refusal, (409, "keep.taken".to_string()));
    for path in [path::keep(&first.keep.id), path::log(&first.keep.id)] {
        assert_eq!(other.get(&path).refusal(), (404, "keep".to_string()));
    }
    let delete = path::keep_delete(&first.keep.id, 0);
    let refusal = other.call("DELETE", &delete, None).refusal();
    assert_eq!(refusal, (404, "keep".to_string()));
    assert_eq!(
        other.upgrade(&first.keep.id).refusal(),
        (404, "keep".to_string())
    );
    assert!(other.get(path::KEEPS).json::<KeepList>().keeps.is_empty());

    // After its end it is still the same Keep.
    wait(&mut client, &first.keep.id, KeepState::Ready);
    assert_eq!(client.call("DELETE", &delete, None).status, 202);
    let ended = wait(&mut client, &first.keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("deleted"));
    let answer = client.post(path::KEEPS, &new);
    assert_eq!(answer.status, 200);
    let last: KeepAnswer = answer.json();
    assert_eq!(last.keep, ended);
    assert_eq!(last.host_signature, first.host_signature);
    assert_eq!(other.post(path::KEEPS, &new).status, 409);
    for path in [path::keep(&first.keep.id), path::log(&first.keep.id)] {
        assert_eq!(other.get(&path).refusal(), (404, "keep".to_string()));
    }
    // Deleting is idempotent.
    assert_eq!(client.call("DELETE", &delete, None).status, 202);
}

#[test]
fn the_same_contract_at_the_same_time_has_one_keep() {
    const ROUNDS: usize = 15;
    let host = Host::new();
    let token = host.token("anna");
    let signer = Signer::new();
    let requests: Vec<_> = (0..ROUNDS)
        .map(|_| signer.sign(signer.terms(host.contract_host(), "echo")))
        .collect();
    let start = std::sync::Barrier::new(8);
    let statuses: Vec<Vec<u16>> = std::thread::scope(|scope| {
        let ask = || {
            let mut client = host.connect(&token);
            let ask_for = |new| {
                start.wait();
                client.post(path::KEEPS, new).status
            };
            requests.iter().map(ask_for).collect()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for round in 0..ROUNDS {
        let made = statuses.iter().filter(|of| of[round] == 201).count();
        let found = statuses.iter().filter(|of| of[round] == 200).count();
        assert_eq!((made, found), (1, 7), "{round}");
    }
    let list: KeepList = host.connect(&token).get(path::KEEPS).json();
    assert_eq!(list.keeps.len(), ROUNDS);
}

#[test]
fn the_list_has_running_and_ended_keeps() {
    let host = Host::new();
    let mut client = host.client("anna");
    let mut other = host.client("berta");
    host.ready(&mut other);
    let ended = host.launch(&mut client, "fails");
    wait(&mut client, &ended.id, KeepState::Ended);
    let living = host.ready(&mut client);
    wait_until(|| {
        let list: KeepList = client.get(path::KEEPS).json();
        assert!(!list.more);
        let found: Vec<_> = list
            .keeps
            .iter()
            .map(|keep| (keep.id, keep.state))
            .collect();
        assert_eq!(found.len(), 2, "{list:?}");
        found == [(living.id, KeepState::Ready), (ended.id, KeepState::Ended)]
    });
}

#[test]
fn collateral_is_served_with_its_tag() {
    let host = Host::new();
    let mut client = host.client("anna");
    let path = path::collateral(&CHIP, &TCB);
    let answer = client.get(&path);
    let collateral: Collateral = answer.json();
    assert_eq!(collateral.ask.0, [2]);
    let tag = answer.headers["etag"].clone();
    client.send("GET", &path, &[("If-None-Match", &tag)], None);
    let answer = client.answer();
    assert_eq!((answer.status, &answer.headers["etag"]), (304, &tag));
    client.send("GET", &path, &[("If-None-Match", "\"other\"")], None);
    assert_eq!(client.answer().status, 200);
    let unknown = path::collateral(&Hex([0; 64]), &TCB);
    assert_eq!(
        client.get(&unknown).refusal(),
        (404, "collateral".to_string())
    );
}

#[test]
fn figures_count_what_happened_and_no_tenant_sees_them() {
    let host = Host::new();
    let mut client = host.client("anna");
    host.ready(&mut client);
    let failed = host.launch(&mut client, "fails");
    wait(&mut client, &failed.id, KeepState::Ended);
    client.get("/nowhere");
    // With them one tenant could follow the sessions of another.
    let refusal = client.get(path::METRICS).refusal();
    assert_eq!(refusal, (403, "token.figures".to_string()));
    let mut owner = host.client_of_figures();
    let mut text = String::new();
    wait_until(|| {
        let answer = owner.get(path::METRICS);
        assert!(answer.headers["content-type"].starts_with("application/openmetrics-text"));
        text = answer.text();
        text.contains("enarx_manager_keeps{state=\"launching\"} 0")
    });
    for line in [
        "enarx_manager_keeps{state=\"ready\"} 1",
        "enarx_manager_launches_total 2",
        // A Keep's own words are not a label.
        "enarx_manager_ends_total{reason=\"keep\"} 1",
        "enarx_manager_refusals_total{code=\"path\"} 1",
        "enarx_manager_refusals_total{code=\"token.figures\"} 1",
        "enarx_manager_connections 2",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
}
