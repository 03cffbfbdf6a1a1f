// SPDX-License-Identifier: Apache-2.0

//! A client against a server that presents any chain: a certificate that was changed somewhere, and anything in place
//! of its issuers. The client accepts only the unchanged one.

#![cfg_attr(fuzzing, no_main)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use enarx_tls::web::{Client, HTTP1, Server, Session};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// 1 June 2026, since the epoch.
const NOW: Duration = Duration::from_hours(494_520);
/// The name of the server.
const NAME: &str = "host.example";

struct World {
    client: Client,
    issuer: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("random numbers");
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = parameters.self_signed(&key).expect("a certificate");
    let signer = Issuer::new(parameters, key);
    let key = KeyPair::generate().expect("random numbers");
    let mut parameters = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2040, 1, 1);
    let certificate = parameters.signed_by(&key, &signer).expect("a certificate");
    let issuer = issuer.der().to_vec();
    let clock = Arc::new(|| Some(NOW));
    World {
        client: Client::new([issuer.as_slice()].into_iter(), &[HTTP1], clock).expect("an issuer"),
        issuer,
        certificate: certificate.der().to_vec(),
        key: key.serialize_der(),
    }
});

/// Carries what one end has to say to the other; whether that goes on.
fn carry(from: &mut Session, to: &mut Session) -> bool {
    let mut bytes = Vec::new();
    from.outgoing(&mut bytes);
    to.receive(&mut bytes.as_slice()).is_ok()
}

/// Bytes of the certificate that are changed, where it is cut, and its issuers.
type Script = (Vec<(u16, u8)>, Option<u16>, Vec<Vec<u8>>);

enarx_fuzz::target!(|script: Script| {
    let (changes, cut, others) = script;
    let world = &*WORLD;
    let mut certificate = world.certificate.clone();
    for (at, byte) in changes {
        if let Some(place) = certificate.get_mut(usize::from(at)) {
            *place = byte;
        }
    }
    certificate.truncate(cut.map_or(certificate.len(), usize::from));
    let issuers = others.iter().map(|other| match other.as_slice() {
        [] => world.issuer.as_slice(),
        other => other,
    });
    let chain: Vec<&[u8]> = [certificate.as_slice()]
        .into_iter()
        .chain(issuers)
        .collect();
    // A server does not show a certificate that it cannot read, or of another key.
    let Ok(server) = Server::new(&chain, &world.key, &[HTTP1]) else {
        return;
    };
    let mut server = server.accept().expect("a server");
    let mut client = world.client.connect(NAME).expect("a name");
    let goes_on = carry(&mut client, &mut server) && carry(&mut server, &mut client);
    if certificate == world.certificate {
        // More issuers than a chain may have, or too long a chain, are refused too.
        return;
    }
    assert!(!goes_on || client.is_handshaking(), "it was changed");
});
