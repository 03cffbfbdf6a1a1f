// SPDX-License-Identifier: Apache-2.0

//! The provider for ordinary TLS: certificates and names, against a client over AWS-LC.

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;

/// A handshake of these two, and a message from the client.
fn talk(
    mut client: ClientConnection,
    mut server: ServerConnection,
) -> Result<Vec<u8>, rustls::Error> {
    client.writer().write_all(b"hello").unwrap();
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets()?;
        }
    }
    let mut received = vec![0; 5];
    server.reader().read_exact(&mut received).unwrap();
    Ok(received)
}

#[test]
fn certificates_are_checked_on_both_sides() {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let parameters = CertificateParams::new(vec!["host.example".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&pair).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let (ours, other) = (
        enarx_tls::provider(),
        Arc::new(aws_lc_rs::default_provider()),
    );
    for (at_client, at_server) in [(&ours, &other), (&other, &ours), (&ours, &ours)] {
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
        let server = ServerConfig::builder_with_provider(at_server.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        let server = Arc::new(server);
        let client = ClientConfig::builder_with_provider(at_client.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = Arc::new(client);
        for (name, accepted) in [("host.example", true), ("other.example", false)] {
            let name = ServerName::try_from(name).unwrap();
            let client = ClientConnection::new(client.clone(), name).unwrap();
            let server = ServerConnection::new(server.clone()).unwrap();
            assert_eq!(talk(client, server).is_ok(), accepted);
        }
    }
}
