// SPDX-License-Identifier: Apache-2.0

//! A hand-written client of HTTP/1.1 over TLS: it can be slow, rude and wrong.

use enarx_contract::canonical::Hex;
use enarx_manager_api::{Problem, path};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned, version,
};

/// The time limit of every read of a test.
const PATIENCE: Duration = Duration::from_mins(1);

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pin {
    digest: Hex<32>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Sha256::digest(leaf.as_ref())[..] == self.digest.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            let error = CertificateError::ApplicationVerificationFailure;
            Err(Error::InvalidCertificate(error))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_string()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A connection to a manager.
pub struct Client {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The problem document, which contains its status itself.
    pub fn problem(&self) -> Problem {
        let media = self.headers.get("content-type").map(String::as_str);
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(media, Some("application/problem+json"), "{text}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        assert!(!problem.detail.is_empty() && !problem.title.is_empty());
        problem
    }

    /// Status and name of the refusal.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.problem().code)
    }
}

impl Client {
    /// Connects, and accepts this certificate only.
    pub fn connect(address: SocketAddr, pin: Hex<32>, token: Option<&str>) -> Self {
        Self::try_connect(address, pin, token).unwrap()
    }

    pub fn try_connect(
        address: SocketAddr,
        pin: Hex<32>,
        token: Option<&str>,
    ) -> std::io::Result<Self> {
        let provider = enarx_tls::provider();
        let verifier = Pin {
            digest: pin,
            provider: provider.clone(),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = ServerName::try_from("manager.invalid").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let mut stream = StreamOwned::new(connection, socket);
        // The handshake.
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self {
            stream,
            token: token.map(str::to_string),
        })
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.send(method, path, &[], body);
        self.answer()
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// A figure of the host, by the name and labels that its line begins with; for tokens that may read figures.
    #[track_caller]
    pub fn figure(&mut self, name: &str) -> u32 {
        let figures = self.get(path::METRICS).text();
        let mut lines = figures.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: &impl serde::Serialize) -> Answer {
        self.call("POST", path, Some(&serde_json::to_vec(body).unwrap()))
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: manager\r\n");
        if let Some(token) = &self.token {
            request.extend(["Authorization: Bearer ", token, "\r\n"]);
        }
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        if let Some(body) = body {
            if headers.iter().all(|(name, _)| *name != "Content-Type") {
                request += "Content-Type: application/json\r\n";
            }
            request.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        request += "\r\n";
        // In one record: a manager that refuses the head need not wait for a body in transit, and closes the connection then.
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        let written = self.stream.write_all(&bytes);
        // A body that is too large is refused.
        assert!(body.is_some() || written.is_ok(), "{written:?}");
        let _ = self.stream.flush();
    }

    /// Reads an answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let status = status.parse().unwrap();
        let headers: BTreeMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        let length = headers
            .get("content-length")
            .map(|text| text.parse().unwrap());
        let mut body = vec![0; length.unwrap_or(0)];
        if status != 101 && status != 304 {
            self.stream.read_exact(&mut body).unwrap();
        }
        Answer {
            status,
            headers,
            body,
        }
    }

    /// Requests a session.
    #[track_caller]
    pub fn upgrade(&mut self, id: &Hex<16>) -> Answer {
        let headers = [("Connection", "Upgrade"), ("Upgrade", "enarx-session")];
        self.send("GET", &path::session(id), &headers, None);
        self.answer()
    }

    /// Ends the direction to the manager: close_notify, and FIN.
    pub fn half_close(&mut self) {
        self.stream.conn.send_close_notify();
        self.stream.conn.write_tls(&mut self.stream.sock).unwrap();
        self.stream
            .sock
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// Everything that arrives until the manager ends its direction cleanly.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        bytes
    }
}
