// SPDX-License-Identifier: Apache-2.0

//! Every refusal by its name.

use crate::client::Client;
use crate::contracts::{MEMORY, Signer, now};
use crate::host::{Host, wait};
use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{Backend, Contract, Directory, Image, MinTcb, Platform, Tee, Tenant, Terms};
use enarx_manager_api::{KeepState, PlatformOffer, limit, path};
use rustix::process::{Resource, Rlimit};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A code, and the change of the terms that it refuses.
type Case = (&'static str, fn(&mut Terms));

#[test]
fn contracts_are_refused_by_name() {
    let host = Host::new();
    let mut client = host.client("anna");
    let signer = Signer::new();
    let cases: [Case; 12] = [
        ("contract.host", |terms| {
            terms.host.key = Signer::new().key.public();
        }),
        ("contract.host", |terms| {
            terms.host.name = Name::new("host-2").unwrap();
        }),
        // Signed with another key than the named one.
        ("contract.tenant-signature", |terms| {
            terms.tenant = Tenant::Named(Signer::new().key.public());
        }),
        ("contract.platform", |terms| {
            terms.platform.backend = Backend::Kvm;
        }),
        ("contract.resources", |terms| terms.resources.vcpus = 21),
        ("contract.resources", |terms| {
            terms.resources.memory = 20 * MEMORY + 1;
        }),
        ("contract.times", |terms| {
            terms.times.runtime_seconds_max = 3601;
        }),
        ("contract.times", |terms| {
            terms.times.detached_seconds_max = 601;
        }),
        ("contract.times", |terms| {
            terms.times.unprovisioned_seconds = 3601;
        }),
        ("contract.times", |terms| {
            (terms.times.not_before, terms.times.not_after) = (1, now() - 10);
        }),
        ("contract.times", |terms| {
            terms.times.not_before = now() + 1000;
        }),
        ("contract.doors", |terms| {
            terms.doors.listen.push("80/tcp".parse().unwrap());
            terms.doors.directories.push(Directory {
                name: "/etc".to_string(),
                read_only: true,
            });
        }),
    ];
    for (index, (code, change)) in cases.into_iter().enumerate() {
        let mut terms = signer.terms(host.contract_host(), "echo");
        change(&mut terms);
        let answer = client.post(path::KEEPS, &signer.sign(terms));
        assert_eq!(answer.refusal(), (422, code.to_string()), "{index}");
        let problem = answer.problem();
        let told = problem.expected.is_some() && problem.actual.is_some();
        let with_values = ["contract.host", "contract.platform", "contract.resources"];
        assert!(told || !with_values.contains(&code), "{problem:?}");
    }
    // Up to the limit itself a contract is admitted.
    let mut terms = signer.terms(host.contract_host(), "echo");
    terms.resources.vcpus = 20;
    terms.resources.memory = 20 * MEMORY;
    terms.times.runtime_seconds_max = 3600;
    terms.times.not_before = now() + 200;
    terms.doors.listen.push("443/tcp".parse().unwrap());
    let answer = client.post(path::KEEPS, &signer.sign(terms));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn invalid_contracts_are_refused_by_name() {
    let host = Host::new();
    let mut client = host.client("anna");
    let signer = Signer::new();
    let contract = Contract::new(signer.terms(host.contract_host(), "echo")).unwrap();
    let good = signer.sign_contract(&contract);
    let with_bytes = |bytes: Vec<u8>| {
        let mut new = good.clone();
        new.contract = Base64(bytes);
        new
    };
    let text = std::str::from_utf8(contract.bytes()).unwrap();
    for (code, new) in [
        ("contract.form", with_bytes(vec![])),
        ("contract.form", with_bytes(b"junk".to_vec())),
        ("contract.form", with_bytes(format!("{text} ").into())),
        ("contract.form", with_bytes(vec![b' '; (64 << 10) + 1])),
        (
            "contract.version",
            with_bytes(text.replace("\"version\":1", "\"version\":2").into()),
        ),
        (
            "contract.value",
            with_bytes(text.replace("\"vcpus\":1", "\"vcpus\":0").into()),
        ),
    ] {
        let refusal = client.post(path::KEEPS, &new).refusal();
        assert_eq!(refusal, (422, code.to_string()));
    }
    let mut new = good.clone();
    new.tenant_signature = Hex([1; 64]);
    let refusal = client.post(path::KEEPS, &new).refusal();
    assert_eq!(refusal, (422, "contract.tenant-signature".to_string()));
}

#[test]
fn floors_above_the_host_are_refused() {
    let offer = PlatformOffer {
        tee: Tee::Snp,
        backend: Backend::Snp,
        product: Name::new("milan"),
        guest_policy: Some(Hex([0, 0, 0, 0, 0, 3, 0, 0])),
        chip_id: None,
        tcb: Some(Hex([4, 0, 0, 0, 0, 0, 24, 219])),
        simulated_root: None,
    };
    let host = Host::with(|settings| settings.platforms = vec![offer]);
    let mut client = host.client("anna");
    let signer = Signer::new();
    let floor = |microcode| MinTcb {
        fmc: None,
        bootloader: 4,
        tee: 0,
        snp: 24,
        microcode,
    };
    let terms = |microcode, policy: u8| Terms {
        platform: Platform {
            tee: Tee::Snp,
            backend: Backend::Snp,
            product: Name::new("milan"),
            guest_policy: Some(Hex([0, 0, 0, 0, 0, policy, 0, 0])),
            min_tcb: Some(floor(microcode)),
        },
        image: Some(Image {
            release: None,
            measurement: Hex([1; 48]),
        }),
        ..signer.terms(host.contract_host(), "echo")
    };
    let refused = (422, "contract.platform".to_string());
    for terms in [terms(220, 3), terms(219, 11)] {
        let refusal = client.post(path::KEEPS, &signer.sign(terms)).refusal();
        assert_eq!(refusal, refused);
    }
    let answer = client.post(path::KEEPS, &signer.sign(terms(219, 3)));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn requests_are_refused_by_name() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.launch(&mut client, "mute");

    // Bodies.
    for body in ["", "junk", "{}", "[]", r#"{"contract":"AQI="}"#] {
        let answer = client.call("POST", path::KEEPS, Some(body.as_bytes()));
        assert_eq!(answer.refusal(), (400, "request".to_string()), "{body}");
    }
    let text = [("Content-Type", "text/plain")];
    client.send("POST", path::KEEPS, &text, Some(b"{}"));
    assert_eq!(
        client.answer().refusal(),
        (415, "request.media-type".to_string())
    );
    // Tokens.
    let zeros = "enarx_".to_string() + &"0".repeat(64);
    for value in [
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        &token,
        &format!("Bearer {zeros}"),
        &format!("Bearer  {token}"),
        &format!("Bearer {token}x"),
    ] {
        let mut bare = Client::connect(host.address, host.state.fingerprint(), None);
        bare.send("GET", path::OFFER, &[("Authorization", value)], None);
        assert_eq!(
            bare.answer().refusal(),
            (401, "token".to_string()),
            "{value}"
        );
    }
    // A stranger has little time for a request.
    let mut stranger = host.connect("enarx_0");
    assert_eq!(stranger.get(path::OFFER).status, 401);
    // Queries.
    let path = path::keep(&keep.id);
    for query in [
        "?wait=Ready",
        "?wait=",
        "?wait",
        "?grace=1",
        "?wait=ready&x=1",
    ] {
        let answer = client.get(&format!("{path}{query}"));
        assert_eq!(answer.refusal(), (400, "request".to_string()), "{query}");
    }
    for query in ["?grace=601", "?grace=-1", "?grace=x", "?wait=ready"] {
        let answer = client.call("DELETE", &format!("{path}{query}"), None);
        assert_eq!(answer.refusal(), (400, "request".to_string()), "{query}");
    }
    // Sessions.
    assert_eq!(
        client.upgrade(&keep.id).refusal(),
        (409, "session.not-ready".to_string())
    );
    assert_eq!(
        client.upgrade(&Hex([0; 16])).refusal(),
        (404, "keep".to_string())
    );
    let session = path::session(&keep.id);
    for headers in [
        &[][..],
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
        &[("Upgrade", "enarx-session")],
        &[("Connection", "keep-alive"), ("Upgrade", "enarx-session")],
    ] {
        client.send("GET", &session, headers, None);
        let answer = client.answer();
        assert_eq!(answer.refusal(), (426, "session.upgrade".to_string()));
        assert_eq!(answer.headers["upgrade"], "enarx-session");
    }
    let delete = path::keep_delete(&keep.id, 0);
    assert_eq!(client.call("DELETE", &delete, None).status, 202);
    wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(
        client.upgrade(&keep.id).refusal(),
        (409, "session.not-ready".to_string())
    );
}

#[test]
fn large_requests_are_refused() {
    let host = Host::new();
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let body = vec![b' '; limit::BODY + 1];
    let answer = client.call("POST", path::KEEPS, Some(&body));
    assert_eq!(answer.refusal(), (413, "request.large".to_string()));
    assert_eq!(answer.headers["connection"], "close");
    // A request without its length.
    let mut client = host.connect(&token);
    let chunked = [
        ("Transfer-Encoding", "chunked"),
        ("Content-Type", "application/json"),
    ];
    client.send("POST", path::KEEPS, &chunked, None);
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    for _ in 0..33 {
        if client.stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let _ = client.stream.flush();
    assert_eq!(
        client.answer().refusal(),
        (413, "request.large".to_string())
    );

    let mut client = host.connect(&token);
    let long = "x".repeat(limit::HEAD);
    client.send("GET", path::OFFER, &[("X-Long", &long)], None);
    assert_eq!(client.answer().status, 431);
    let mut client = host.connect(&token);
    let many: Vec<(&str, &str)> = vec![("X", "1"); 200];
    client.send("GET", path::OFFER, &many, None);
    assert_eq!(client.answer().status, 431);
}

#[test]
fn junk_does_no_harm() {
    let host = Host::new();
    let token = host.token("anna");
    // Instead of TLS.
    for junk in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &vec![0; 100_000],
        &[0x16, 3, 1, 0xff],
    ] {
        let mut socket = TcpStream::connect(host.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        // It may be cut while it writes.
        let _ = socket.write_all(junk);
        let _ = socket.read(&mut [0; 1000]);
    }
    // Instead of HTTP.
    for junk in [
        "\0\0\0\0\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /v1/offer HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/keeps HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked, x\r\n\r\n",
    ] {
        let mut client = host.connect(&token);
        client.stream.write_all(junk.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // Answered or not, the connection ends.
        let _ = client.stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            bytes.is_empty() || text.starts_with("HTTP/1.1 400"),
            "{text}"
        );
    }
    assert_eq!(host.connect(&token).get(path::OFFER).status, 200);
}

#[test]
fn slow_clients_are_cut() {
    let host = Host::new();
    let token = host.token("anna");
    let start = Instant::now();
    // Without a byte of TLS; with half a head; with half a body; with silence after an answer.
    let mut silent = TcpStream::connect(host.address).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut half_head = host.connect(&token);
    half_head
        .stream
        .write_all(b"GET /v1/offer HTTP/1.1\r\nHo")
        .unwrap();
    let mut half_body = host.connect(&token);
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", "1000"),
    ];
    half_body.send("POST", path::KEEPS, &headers, None);
    half_body.stream.write_all(b"{\"contract\":").unwrap();
    half_body.stream.flush().unwrap();
    let mut idle = host.connect(&token);
    assert_eq!(idle.get(path::OFFER).status, 200);

    assert_eq!(
        half_body.answer().refusal(),
        (408, "request.slow".to_string())
    );
    assert!(matches!(silent.read(&mut [0; 10]), Ok(0) | Err(_)));
    for client in [&mut half_head, &mut idle] {
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let waited = start.elapsed().as_secs();
    assert!(
        (limit::REQUEST_SECONDS - 1..30).contains(&waited),
        "{waited}"
    );
}

#[test]
fn strangers_do_not_keep_tenants_out() {
    const STRANGERS: usize = 1100;
    // Each stranger is one descriptor of this program; those whom the manager has not disconnected are two.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let enough = Rlimit {
        current: most,
        maximum: most,
    };
    rustix::process::setrlimit(Resource::Nofile, enough).unwrap();
    assert!(most.is_none_or(|most| most > 2000), "{most:?}");
    let host = Host::new();
    let token = host.token("anna");
    let mut standing = host.connect(&token);
    let keep = host.ready(&mut standing);
    let mut session = host.connect(&token);
    assert_eq!(session.upgrade(&keep.id).status, 101);
    let pin = host.state.fingerprint();
    let strangers: Vec<_> = (0..STRANGERS)
        .map(|number| {
            // A connection without requests is cut, after a while that a busy machine may take for all of this.
            if number % 100 == 0 {
                assert_eq!(standing.get(path::OFFER).status, 200);
            }
            TcpStream::connect(host.address).unwrap()
        })
        .collect();
    // Some even speak TLS, and send a token that does not exist.
    let mut impostors: Vec<_> = (0..40)
        .map(|_| {
            assert_eq!(standing.get(path::OFFER).status, 200);
            Client::connect(host.address, pin, Some("enarx_0"))
        })
        .collect();
    assert_eq!(impostors[39].get(path::OFFER).status, 401);
    // A tenant of the same address is served at once, and so are earlier connections.
    let start = Instant::now();
    let mut tenant = host.connect(&token);
    assert_eq!(tenant.get(path::OFFER).status, 200);
    assert_eq!(standing.get(path::OFFER).status, 200);
    assert!(start.elapsed() < Duration::from_secs(limit::REQUEST_SECONDS - 2));
    session.stream.write_all(b"still here").unwrap();
    let mut echo = [0; 10];
    session.stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"still here");
    // The remaining strangers came last from the one address.
    let connections = host.client_of_figures().figure("enarx_manager_connections");
    assert!((2..=140).contains(&connections), "{connections}");
    drop((strangers, impostors));
}

#[test]
fn a_token_has_limits_and_the_host_too() {
    let host = Host::with(|settings| {
        settings.limits.keeps = 3;
        settings.limits.vcpus = 4;
        settings.limits.memory = 10 * MEMORY;
        settings.capacity.keeps = 5;
        settings.capacity.vcpus = 6;
    });
    let mut client = host.client("anna");
    let signer = Signer::new();
    let ask = |client: &mut Client, vcpus, memory| {
        let mut terms = signer.terms(host.contract_host(), "echo");
        terms.resources.vcpus = vcpus;
        terms.resources.memory = memory;
        client.post(path::KEEPS, &signer.sign(terms))
    };
    assert_eq!(ask(&mut client, 3, 6 * MEMORY).status, 201);
    let refusal = ask(&mut client, 2, MEMORY).refusal();
    assert_eq!(refusal, (429, "limit.vcpus".to_string()));
    let refusal = ask(&mut client, 1, 5 * MEMORY).refusal();
    assert_eq!(refusal, (429, "limit.memory".to_string()));
    let keep = host.ready(&mut client);
    // Other tokens have their own limit, as far as the host has room.
    let mut other = host.client("berta");
    let answer = ask(&mut other, 3, MEMORY);
    assert_eq!(answer.refusal(), (503, "capacity".to_string()));
    assert_eq!(answer.headers["retry-after"], "30");
    assert_eq!(ask(&mut other, 2, MEMORY).status, 201);
    // An ended Keep frees its place.
    client.call("DELETE", &path::keep_delete(&keep.id, 0), None);
    wait(&mut client, &keep.id, KeepState::Ended);
    assert_eq!(ask(&mut other, 1, MEMORY).status, 201);
}

#[test]
fn a_token_has_a_limit_of_keeps() {
    let host = Host::with(|settings| settings.limits.keeps = 2);
    let mut client = host.client("anna");
    host.launch(&mut client, "echo");
    host.launch(&mut client, "echo");
    let answer = host.ask(&mut client, "echo");
    assert_eq!(answer.refusal(), (429, "limit.keeps".to_string()));
    let problem = answer.problem();
    assert_eq!(problem.expected.as_deref(), Some("at most 2"));
    assert_eq!(problem.actual.as_deref(), Some("3"));
}

#[test]
fn a_token_has_a_rate_of_launches() {
    let host = Host::with(|settings| settings.rates.launches_per_minute = 3);
    let mut client = host.client("anna");
    for _ in 0..3 {
        assert_eq!(host.ask(&mut client, "fails").status, 201);
    }
    let answer = host.ask(&mut client, "fails");
    assert_eq!(answer.refusal(), (429, "limit.launches".to_string()));
    let wait: u64 = answer.headers["retry-after"].parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    // Others are not delayed.
    assert_eq!(host.ask(&mut host.client("berta"), "fails").status, 201);
}

#[test]
fn a_token_has_a_limit_of_concurrent_requests() {
    let host = Host::with(|settings| settings.rates.requests = 2);
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let keep = host.ready(&mut client);
    // A session counts, and so does a waiting request.
    assert_eq!(client.upgrade(&keep.id).status, 101);
    let mut waiting = host.connect(&token);
    let path = path::keep_wait(&keep.id, KeepState::Ended);
    waiting.send("GET", &path, &[], None);
    let mut third = host.connect(&token);
    crate::host::wait_until(|| third.get(path::OFFER).status == 429);
    assert_eq!(
        third.get(path::OFFER).refusal(),
        (429, "limit.connections".to_string())
    );
    assert_eq!(host.client("berta").get(path::OFFER).status, 200);
    drop(client);
    crate::host::wait_until(|| third.get(path::OFFER).status == 200);
}
