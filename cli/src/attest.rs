//! `enarx run --attest-to`: where the evidence of a Keep goes, and what a verifier needs beside it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use enarx_attestation::hex::encode as hex;
use enarx_backend::Backend;
use enarx_vmm::platform::simulated::{self, Simulated};

use crate::Failure;
use crate::values::Nonce;

/// Bytes of a nonce that nobody chose.
const NONCE_LEN: usize = 32;

/// Evidence that is wanted of a Keep.
pub struct Attestation {
    directory: PathBuf,
    /// What the verifier wants to see in it.
    pub nonce: Vec<u8>,
}

impl Attestation {
    /// Evidence in `directory`, with this nonce or a random one.
    pub fn new(directory: &Path, nonce: Option<&Nonce>) -> Result<Self, Failure> {
        let nonce = if let Some(Nonce(nonce)) = nonce {
            nonce.clone()
        } else {
            let mut nonce = vec![0; NONCE_LEN];
            getrandom::fill(&mut nonce)
                .map_err(|error| Failure::new(format!("there is no randomness: {error}")))?;
            nonce
        };
        Ok(Self {
            directory: directory.to_owned(),
            nonce,
        })
    }

    /// Makes the directory and writes everything but the report, which comes from inside the Keep; the
    /// file for that. The certificates of genuine processors are AMD's to give.
    pub fn prepare(
        &self,
        backend: Backend,
        configuration: &[u8],
        simulated: &Simulated,
    ) -> Result<OwnedFd, Failure> {
        if !matches!(backend, Backend::Simulated | Backend::Snp) {
            return Err(Failure::new(format!(
                "a Keep of the kind {backend} cannot attest: use --backend sim to try attestation, or a machine with SEV-SNP"
            )));
        }
        let wrong = |path: &Path, error: &dyn std::fmt::Display| {
            Failure::new(format!(
                "{} could not be written: {error}: correct --attest-to",
                path.display()
            ))
        };
        fs::create_dir_all(&self.directory).map_err(|error| wrong(&self.directory, &error))?;
        let mut files = vec![
            ("nonce", hex(&self.nonce).into_bytes()),
            ("configuration.json", configuration.to_vec()),
        ];
        if backend == Backend::Simulated {
            let machine =
                simulated::machine(simulated).map_err(|error| Failure::new(error.to_string()))?;
            let certificates = machine.certificates();
            files.extend([
                ("vek.der", certificates.vek),
                ("ask.der", certificates.ask),
                ("ark.der", certificates.ark),
                ("ark.crl", certificates.crl),
                // What a policy names to accept this machine (`insecure-simulated-roots`).
                ("root", hex(&machine.root_digest()).into_bytes()),
            ]);
        }
        for (name, contents) in files {
            let path = self.directory.join(name);
            fs::write(&path, contents).map_err(|error| wrong(&path, &error))?;
        }
        let path = self.directory.join("report.bin");
        let report = File::create(&path).map_err(|error| wrong(&path, &error))?;
        Ok(report.into())
    }
}
