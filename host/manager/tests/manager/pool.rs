// SPDX-License-Identifier: Apache-2.0

//! Keeps that wait under open contracts: offered, claimed once, refilled, given up for others.

use crate::client::Client;
use crate::contracts::{MEMORY, Signer, now};
use crate::host::{Host, Process, class, gone, process, wait, wait_until};
use enarx_contract::canonical::{Hex, Name};
use enarx_contract::{Contract, Doors, Tenant};
use enarx_manager::{Class, Manager, Settings};
use enarx_manager_api::{KeepAnswer, KeepList, KeepState, NewKeep, Offer, Ready, path};
use std::sync::Arc;
use std::time::Duration;

/// The Keeps that are ready.
pub fn ready(client: &mut Client) -> Vec<Ready> {
    client.get(path::OFFER).json::<Offer>().ready
}

/// Waits until this many Keeps are ready.
pub fn await_ready(client: &mut Client, number: usize) -> Vec<Ready> {
    let mut found = Vec::new();
    wait_until(|| {
        found = ready(client);
        found.len() == number
    });
    found
}

/// The claim of a Keep.
pub fn claim(signer: &Signer, ready: &Ready) -> NewKeep {
    let contract = ready.verify().unwrap();
    NewKeep {
        tenant_key: Some(signer.key.public()),
        ..signer.sign_contract(&contract)
    }
}

#[test]
fn keeps_wait_under_open_contracts_of_the_host() {
    let host = Host::with(|settings| settings.classes = vec![class("echo", 2), class("small", 1)]);
    let mut client = host.client("anna");
    await_ready(&mut client, 3);
    let offer: Offer = client.get(path::OFFER).json();
    let names: Vec<_> = offer
        .classes
        .iter()
        .map(|class| class.name.as_str())
        .collect();
    assert_eq!(names, ["echo", "small"]);
    assert_eq!((offer.classes[0].vcpus, offer.classes[0].warm), (1, 2));
    for keep in &offer.ready {
        let contract = keep.verify().unwrap();
        let terms = contract.terms();
        assert_eq!(terms.host, host.contract_host());
        assert_eq!(terms.tenant, Tenant::Open);
        assert_eq!(terms.doors, Doors::default());
        assert_eq!(terms.class, keep.class);
        let times = terms.times;
        assert!(times.not_before <= now() - 299 && times.not_after >= now() + 48 * 3600);
        assert!(times.unprovisioned_seconds > 24 * 3600);
        assert_eq!(times.runtime_seconds_max, 3600);
        // It belongs to nobody.
        let id = contract.keep_id();
        assert_eq!(client.get(&path::keep(&id)).refusal().0, 404);
        assert_eq!(client.get(&path::log(&id)).refusal().0, 404);
        assert_eq!(client.upgrade(&id).refusal().0, 404);
        let delete = path::keep_delete(&id, 0);
        assert_eq!(client.call("DELETE", &delete, None).refusal().0, 404);
    }
    assert!(client.get(path::KEEPS).json::<KeepList>().keeps.is_empty());
    // Offers begin with different Keeps.
    let firsts: std::collections::BTreeSet<_> = (0..3)
        .map(|_| ready(&mut client)[0].contract.0.clone())
        .collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn a_waiting_keep_belongs_to_one_tenant_for_ever() {
    let host = Host::with(|settings| settings.classes = vec![class("echo", 1)]);
    let token = host.token("anna");
    let mut client = host.connect(&token);
    let waiting = await_ready(&mut client, 1).remove(0);
    let contract = waiting.verify().unwrap();
    let (signer, other) = (Signer::new(), Signer::new());
    let answer = client.post(path::KEEPS, &claim(&signer, &waiting));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let claimed: KeepAnswer = answer.json();
    assert_eq!(claimed.keep.id, contract.keep_id());
    assert_eq!(claimed.keep.state, KeepState::Ready);
    assert_eq!(claimed.host_signature, waiting.host_signature);
    assert!(claimed.commit_us.is_some_and(|us| us > 0), "{claimed:?}");
    // It is not offered again, and another one replaces it.
    let next = await_ready(&mut client, 1).remove(0);
    assert_ne!(next.contract, waiting.contract);
    // The same tenant finds it again; another key or another token does not.
    let again = client.post(path::KEEPS, &claim(&signer, &waiting));
    assert_eq!(again.status, 200);
    let again: KeepAnswer = again.json();
    assert_eq!(again.keep.id, claimed.keep.id);
    assert_eq!(again.commit_us, None, "nothing new was recorded");
    let mut stranger = host.client("berta");
    for (client, signer) in [(&mut client, &other), (&mut stranger, &other)] {
        let refusal = client.post(path::KEEPS, &claim(signer, &waiting)).refusal();
        assert_eq!(refusal, (409, "keep.taken".to_string()));
    }
    let refusal = stranger
        .post(path::KEEPS, &claim(&signer, &waiting))
        .refusal();
    assert_eq!(refusal, (409, "keep.taken".to_string()));
    // It belongs to the tenant like any other.
    let list: KeepList = client.get(path::KEEPS).json();
    assert_eq!(list.keeps.len(), 1);
    assert_eq!(client.upgrade(&claimed.keep.id).status, 101);
    let mut client = host.connect(&token);
    let delete = path::keep_delete(&claimed.keep.id, 0);
    assert_eq!(client.call("DELETE", &delete, None).status, 202);
    let ended = wait(&mut client, &claimed.keep.id, KeepState::Ended);
    assert_eq!(ended.reason.as_deref(), Some("deleted"));
    gone(process(&mut client, &claimed.keep.id));
    let again = client.post(path::KEEPS, &claim(&signer, &waiting));
    assert_eq!(again.json::<KeepAnswer>().keep.state, KeepState::Ended);
    let refusal = stranger
        .post(path::KEEPS, &claim(&other, &waiting))
        .refusal();
    assert_eq!(refusal, (409, "keep.taken".to_string()));
    let figures = host.client_of_figures().get(path::METRICS).text();
    let line = "enarx_manager_claims_total{kind=\"warm\"} 1";
    assert!(figures.lines().any(|found| found == line), "{figures}");
}

#[test]
fn tenants_who_come_together_get_one_keep_each() {
    const TENANTS: usize = 8;
    let host = Host::with(|settings| {
        settings.classes = vec![class("echo", 1)];
        settings.rates.launches_per_minute = 1000;
    });
    let tenants: Vec<_> = (0..TENANTS)
        .map(|number| (host.token(&format!("t{number}")), Signer::new()))
        .collect();
    let mut client = host.connect(&tenants[0].0);
    for _ in 0..5 {
        let waiting = await_ready(&mut client, 1).remove(0);
        let start = std::sync::Barrier::new(TENANTS);
        let ask = |(token, signer): &(String, Signer)| {
            let mut client = host.connect(token);
            let new = claim(signer, &waiting);
            start.wait();
            client.post(path::KEEPS, &new).status
        };
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = tenants
                .iter()
                .map(|tenant| scope.spawn(|| ask(tenant)))
                .collect();
            let statuses = threads.into_iter().map(|thread| thread.join().unwrap());
            statuses.collect()
        });
        let won = statuses.iter().filter(|status| **status == 200).count();
        let lost = statuses.iter().filter(|status| **status == 409).count();
        assert_eq!((won, lost), (1, TENANTS - 1), "{statuses:?}");
    }
}

#[test]
fn claims_are_refused_by_name() {
    let host = Host::with(|settings| {
        settings.classes = vec![class("echo", 1)];
        settings.limits.keeps = 1;
    });
    let mut client = host.client("anna");
    let waiting = await_ready(&mut client, 1).remove(0);
    let signer = Signer::new();
    let good = claim(&signer, &waiting);
    // Without the key, and with another one.
    let without = NewKeep {
        tenant_key: None,
        ..good.clone()
    };
    let refusal = client.post(path::KEEPS, &without).refusal();
    assert_eq!(refusal, (400, "request".to_string()));
    let other = NewKeep {
        tenant_key: Some(Signer::new().key.public()),
        ..good.clone()
    };
    let refusal = client.post(path::KEEPS, &other).refusal();
    assert_eq!(refusal, (422, "contract.tenant-signature".to_string()));
    // A key beside a contract that names one.
    let named = signer.sign(signer.terms(host.contract_host(), "echo"));
    let doubled = NewKeep {
        tenant_key: Some(signer.key.public()),
        ..named
    };
    let refusal = client.post(path::KEEPS, &doubled).refusal();
    assert_eq!(refusal, (400, "request".to_string()));
    // An open contract that the host never wrote.
    let mut terms = waiting.verify().unwrap().terms().clone();
    terms.id = Hex([0xff; 16]);
    let contract = Contract::new(terms).unwrap();
    let foreign = NewKeep {
        tenant_key: Some(signer.key.public()),
        ..signer.sign_contract(&contract)
    };
    let refusal = client.post(path::KEEPS, &foreign).refusal();
    assert_eq!(refusal, (422, "contract.open".to_string()));
    // A token has its limit.
    host.launch(&mut client, "echo");
    let refusal = client.post(path::KEEPS, &good).refusal();
    assert_eq!(refusal, (429, "limit.keeps".to_string()));
    assert_eq!(host.client("berta").post(path::KEEPS, &good).status, 200);
}

#[test]
fn keeps_that_wait_give_way() {
    let host = Host::with(|settings| {
        settings.classes = vec![class("echo", 3)];
        settings.capacity.keeps = 4;
    });
    let mut client = host.client("anna");
    let waiting = await_ready(&mut client, 3);
    // There is room for one more, and then for none beside them.
    host.launch(&mut client, "echo");
    assert_eq!(ready(&mut client).len(), 3);
    host.launch(&mut client, "echo");
    let left = ready(&mut client);
    assert_eq!(left.len(), 2);
    let gone = waiting.iter().find(|keep| !left.contains(keep)).unwrap();
    let signer = Signer::new();
    let refusal = client.post(path::KEEPS, &claim(&signer, gone)).refusal();
    assert_eq!(refusal, (409, "keep.gone".to_string()));
    let keep = host.launch(&mut client, "echo");
    host.launch(&mut client, "echo");
    assert_eq!(ready(&mut client).len(), 0);
    let refusal = host.ask(&mut client, "echo").refusal();
    assert_eq!(refusal, (503, "capacity".to_string()));
    // After a Keep has ended, one waits again.
    client.call("DELETE", &path::keep_delete(&keep.id, 0), None);
    await_ready(&mut client, 1);
}

#[test]
fn a_claim_outlives_a_killed_manager() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let path = folder.path().join("state");
    let state = enarx_manager::State::open(&path).unwrap();
    let (anna, berta) = (
        state.add_token("anna").unwrap().to_string(),
        state.add_token("berta").unwrap().to_string(),
    );
    let (mut manager, address) = Process::with_pool(&path);
    let mut client = Client::connect(address, state.fingerprint(), Some(&anna));
    let waiting = await_ready(&mut client, 2);
    let signer = Signer::new();
    let answer = client.post(path::KEEPS, &claim(&signer, &waiting[0]));
    assert_eq!(answer.status, 200);
    let claimed: KeepAnswer = answer.json();
    let number = process(&mut client, &claimed.keep.id);
    manager.kill();
    gone(number);

    let next = Host::in_folder(folder.clone(), |_| {});
    let mut client = next.connect(&anna);
    let again: KeepAnswer = client
        .post(path::KEEPS, &claim(&signer, &waiting[0]))
        .json();
    assert_eq!(again.keep.state, KeepState::Ended);
    assert_eq!(again.keep.reason.as_deref(), Some("manager-lost"));
    assert_eq!(again.keep.created, claimed.keep.created);
    let (mut other, stranger) = (next.connect(&berta), Signer::new());
    let refusal = other
        .post(path::KEEPS, &claim(&stranger, &waiting[0]))
        .refusal();
    assert_eq!(refusal, (409, "keep.taken".to_string()));
    let refusal = other
        .post(path::KEEPS, &claim(&stranger, &waiting[1]))
        .refusal();
    assert_eq!(refusal, (409, "keep.gone".to_string()));
}

#[test]
fn an_unclaimed_keep_is_replaced() {
    let host = Host::with(|settings| {
        settings.classes = vec![class("echo", 1)];
        settings.fresh = Duration::from_secs(3);
    });
    let mut client = host.client("anna");
    let first = await_ready(&mut client, 1).remove(0);
    let signer = Signer::new();
    // On a busy machine the next one may be replaced, too, before it is claimed.
    let mut claimed = None;
    wait_until(|| {
        let next = ready(&mut client).into_iter().find(|keep| *keep != first);
        let answer = next.map(|next| client.post(path::KEEPS, &claim(&signer, &next)));
        claimed = answer
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.json::<KeepAnswer>());
        claimed.is_some()
    });
    let refusal = client.post(path::KEEPS, &claim(&signer, &first)).refusal();
    assert_eq!(refusal, (409, "keep.gone".to_string()));
    // A claimed one is kept, although it is older than the next one, which is replaced.
    let claimed = claimed.unwrap();
    let younger = await_ready(&mut client, 1).remove(0);
    wait_until(|| !ready(&mut client).contains(&younger));
    let info = wait(&mut client, &claimed.keep.id, KeepState::Launching);
    assert_eq!(info.state, KeepState::Ready);
    let figures = host.client_of_figures().get(path::METRICS).text();
    let line = "enarx_manager_ends_total{reason=\"pool.replaced\"}";
    assert!(figures.contains(line), "{figures}");
}

#[test]
fn failing_keeps_are_retried_less_and_less_often() {
    let start = std::time::Instant::now();
    let host = Host::with(|settings| settings.classes = vec![class("dies", 2)]);
    let mut client = host.client("anna");
    let mut figures = host.client_of_figures();
    let mut launches = || figures.figure("enarx_manager_launches_total");
    wait_until(|| launches() >= 2);
    // Time for some pauses.
    std::thread::sleep(Duration::from_secs(3));
    // At 0 s two, then one or two after each pause of 1, 2, 4 and more seconds, or longer ones.
    let tried = launches();
    let pauses = (start.elapsed().as_secs() + 2).ilog2();
    assert!((2..=2 + 2 * pauses).contains(&tried), "{tried}");
    assert!(ready(&mut client).is_empty());
}

#[test]
fn keeps_that_wait_end_at_once_with_the_manager() {
    let mut host = Host::with(|settings| {
        settings.classes = vec![class("echo", 2)];
        settings.grace = Duration::from_mins(1);
    });
    let mut client = host.client("anna");
    await_ready(&mut client, 2);
    let start = std::time::Instant::now();
    host.shut_down();
    host.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn classes_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |classes: Vec<Class>| {
        let mut settings: Settings = crate::host::settings(&folder.path().join("state"));
        settings.classes = classes;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let error = runtime.block_on(Manager::bind(settings)).err();
        error.map(|error| error.code())
    };
    let with = |change: fn(&mut Class)| {
        let mut class = class("a", 1);
        change(&mut class);
        vec![class]
    };
    for classes in [
        vec![class("a", 1), class("a", 2)],
        with(|class| class.name = Name::new("probe").unwrap()),
        with(|class| class.resources.vcpus = 21),
        with(|class| class.resources.memory = 20 * MEMORY + 1),
        with(|class| class.runtime_seconds_max = 3601),
        with(|class| class.detached_seconds_max = 601),
        (0..17)
            .map(|number| class(&format!("c{number}"), 0))
            .collect(),
    ] {
        assert_eq!(refused(classes), Some("manager.setting"));
    }
    assert_eq!(refused(vec![class("a", 1)]), None);
}
