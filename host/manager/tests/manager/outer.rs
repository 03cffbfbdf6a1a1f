// SPDX-License-Identifier: Apache-2.0

//! The outer TLS: the pinned certificate, and one that the host's owner provides.

use crate::client::Client;
use crate::host::{Host, await_unlocked, settings};
use enarx_contract::MAX_DOORS;
use enarx_contract::canonical::{Base64, Hex};
use enarx_manager::{Manager, ManagerError, Settings, State};
use enarx_manager_api::path;
use std::path::{Path, PathBuf};

/// DER as PEM (RFC 7468).
fn pem(kind: &str, der: &[u8]) -> String {
    let text = serde_json::to_value(Base64(der.to_vec())).unwrap();
    let text = text.as_str().unwrap();
    let lines: Vec<_> = text.as_bytes().chunks(64).collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}

/// A certificate with its key, made as managers make them, in PEM files.
fn certificate(folder: &Path) -> (PathBuf, PathBuf, Hex<32>) {
    let state = State::open(&folder.join("other")).unwrap();
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, pem("CERTIFICATE", state.certificate())).unwrap();
    let der = std::fs::read(folder.join("other/tls.key")).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &der)).unwrap();
    (chain, key, state.fingerprint())
}

fn bind(settings: Settings) -> Result<Manager, ManagerError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(Manager::bind(settings))
}

#[test]
fn clients_pin_the_managers_own_certificate() {
    let host = Host::new();
    let pin = host.state.fingerprint();
    assert_eq!(host.to, format!("https://{}#sha256={pin}", host.address));
    let token = host.token("anna");
    assert!(Client::try_connect(host.address, pin, Some(&token)).is_ok());
    assert!(Client::try_connect(host.address, Hex([0; 32]), Some(&token)).is_err());
    // The certificate stays as long as the state folder.
    let folder = host.folder.clone();
    drop(host);
    let host = Host::in_folder(folder, |_| {});
    assert_eq!(host.state.fingerprint(), pin);
    assert_eq!(host.connect(&token).get(path::OFFER).status, 200);
}

#[test]
fn the_hosts_owner_can_supply_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key, pin) = certificate(folder.path());
    let host = Host::with(|settings| settings.certificate = Some((chain, key)));
    assert!(host.to.ends_with(&pin.to_string()));
    assert_ne!(pin, host.state.fingerprint());
    let token = host.token("anna");
    let mut client = Client::connect(host.address, pin, Some(&token));
    assert_eq!(client.get(path::OFFER).status, 200);
    assert!(Client::try_connect(host.address, host.state.fingerprint(), None).is_err());
}

#[test]
fn unusable_settings_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key, _) = certificate(folder.path());
    let (junk, missing) = (
        folder.path().join("junk.pem"),
        folder.path().join("missing"),
    );
    std::fs::write(&junk, "junk").unwrap();
    let other = State::open(&folder.path().join("third")).unwrap();
    let foreign = folder.path().join("foreign.pem");
    std::fs::write(&foreign, pem("CERTIFICATE", other.certificate())).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let code = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(&folder.path().join("state"));
        change(&mut settings);
        await_unlocked(&settings.state);
        bind(settings).err().map(|error| error.code())
    };
    assert_eq!(code(&|_| {}), None);
    for (chain, key) in [
        (&missing, &key),
        (&chain, &missing),
        (&junk, &key),
        (&chain, &junk),
        // A key of another certificate.
        (&foreign, &key),
    ] {
        let found = code(&|settings| settings.certificate = Some((chain.clone(), key.clone())));
        assert_eq!(found, Some("manager.certificate"), "{}", chain.display());
    }
    assert_eq!(
        code(&|settings| settings.listen = address),
        Some("manager.listen")
    );
    assert_eq!(
        code(&|settings| settings.name = "Host 1".to_string()),
        Some("state.name")
    );
    assert_eq!(
        code(&|settings| settings.rates.launches_per_minute = 0),
        Some("manager.setting")
    );
    // More doors than a contract may have, so that no tenant could read of all of them.
    assert_eq!(
        code(&|settings| settings.doors.listen = vec![settings.doors.listen[0]; MAX_DOORS + 1]),
        Some("manager.setting")
    );
    std::fs::write(folder.path().join("state/keeps.redb"), "junk").unwrap();
    assert_eq!(code(&|_| {}), Some("manager.store"));
}
