// SPDX-License-Identifier: Apache-2.0

//! The provider of cryptography: Graviola. The session uses one suite, one group and one signature scheme; ordinary
//! TLS uses common ones. Nothing outside these lists can be negotiated.

use crate::TlsError;
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use std::sync::Arc;

/// Checks that the CPU has all that the provider executes without asking.
///
/// # Errors
/// [`TlsError::Cpu`].
pub fn check_cpu() -> Result<(), TlsError> {
    // Graviola's own list omits features that accompany these on every CPU ever sold. A virtual machine can hide any
    // of them, and then an instruction faults.
    let implied = std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1");
    if implied && graviola::util::is_cpu_supported() {
        Ok(())
    } else {
        Err(TlsError::Cpu)
    }
}

/// The provider of the session, for a CPU that was checked.
pub(crate) fn session() -> Result<Arc<CryptoProvider>, TlsError> {
    check_cpu()?;
    Ok(Arc::new(CryptoProvider {
        cipher_suites: vec![rustls_graviola::suites::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![rustls_graviola::kx::X25519MLKEM768],
        // For certificates, of which the session has none: peer.rs verifies signatures by raw keys.
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: &[],
            mapping: &[],
        },
        secure_random: &Random,
        key_provider: &NoKeys,
    }))
}

/// The provider of ordinary TLS 1.3 in the Keep, for a CPU that was checked.
pub(crate) fn web() -> Result<Arc<CryptoProvider>, TlsError> {
    check_cpu()?;
    let algorithms = rustls_graviola::default_provider().signature_verification_algorithms;
    Ok(Arc::new(CryptoProvider {
        cipher_suites: vec![
            rustls_graviola::suites::TLS13_AES_256_GCM_SHA384,
            rustls_graviola::suites::TLS13_AES_128_GCM_SHA256,
            rustls_graviola::suites::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: rustls_graviola::kx::ALL_KX_GROUPS.to_vec(),
        signature_verification_algorithms: algorithms,
        secure_random: &Random,
        key_provider: &NoKeys,
    }))
}

/// The provider for ordinary TLS, with X.509, on the host's and the tenant's side. On a CPU that [`check_cpu`] refuses it
/// has no suites, so that no configuration can be made with it: Graviola panics there.
#[cfg(feature = "web")]
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls_graviola::default_provider();
    if check_cpu().is_err() {
        provider.cipher_suites.clear();
    }
    Arc::new(provider)
}

/// The system's random numbers.
#[derive(Debug)]
struct Random;

impl SecureRandom for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        graviola::random::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

/// A loader of private keys that loads none: the session's come as [`crate::Key`], those of certificates are read in
/// `web/key.rs`.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General(
            "keys are not loaded here".to_owned(),
        ))
    }
}
