// SPDX-License-Identifier: Apache-2.0

//! `enarx run --attest-to`: the folder for the evidence of a Keep and everything else that a verifier
//! needs.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use enarx_attestation::hex::encode as hex;
use enarx_backend::Backend;
use enarx_vmm::platform::simulated::Simulated;
use rustix::fs::{CWD, Mode, OFlags, openat, renameat};

use crate::failure::{Exit, Failure};
use crate::simulated;
use crate::state;
use crate::values::Nonce;

/// Length of a nonce that the user does not give, in bytes.
const NONCE_LEN: usize = 32;

/// A request for a Keep's evidence.
pub struct Attestation {
    directory: PathBuf,
    /// The verifier's number, which the evidence binds.
    pub nonce: Vec<u8>,
}

impl Attestation {
    /// Evidence in `directory`, with this nonce or a random one.
    ///
    /// # Errors
    /// [`Exit::Other`] where the system has no randomness.
    pub fn new(directory: &Path, nonce: Option<&Nonce>) -> Result<Self, Failure> {
        let nonce = if let Some(Nonce(nonce)) = nonce {
            nonce.clone()
        } else {
            let mut nonce = vec![0; NONCE_LEN];
            getrandom::fill(&mut nonce)
                .map_err(|error| Failure::new(format!("no random bytes are available: {error}")))?;
            nonce
        };
        Ok(Self {
            directory: directory.to_owned(),
            nonce,
        })
    }

    /// Makes the directory, writes everything but the report, and returns the file for that, which comes from inside the
    /// Keep. The certificates of genuine processors are AMD's to give.
    ///
    /// The configuration contains the program's variables. So nobody else can enter a directory that is
    /// created here, and nothing is written into one that others can write to.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] for a kind of Keep that cannot attest; [`Exit::Output`].
    pub fn prepare(
        &self,
        backend: Backend,
        configuration: &[u8],
        simulated: Option<&Simulated>,
    ) -> Result<OwnedFd, Failure> {
        if !matches!(backend, Backend::Simulated | Backend::Snp) {
            return Err(Failure::of(
                Exit::Unavailable,
                format!(
                    "Keeps of the kind {backend} cannot attest: use --backend sim to try attestation, or a machine with SEV-SNP"
                ),
            ));
        }
        state::make_private(&self.directory)?;
        let directory = self.open(CWD, &self.directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut files = vec![
            ("nonce", hex(&self.nonce).into_bytes()),
            ("configuration.json", configuration.to_vec()),
        ];
        if let Some(simulated) = simulated {
            let machine = simulated::open(simulated)?;
            let certificates = machine.certificates();
            files.extend([
                ("vek.der", certificates.vek),
                ("ask.der", certificates.ask),
                ("ark.der", certificates.ark),
                ("ark.crl", certificates.crl),
                // The digest that a policy names to accept this machine (`insecure-simulated-roots`).
                ("root", hex(&machine.root_digest()).into_bytes()),
            ]);
            files.extend(certificates.issuer_crl.map(|list| ("issuer.crl", list)));
        }
        for (name, contents) in files {
            let file = self.create(&directory, name)?;
            std::fs::File::from(file)
                .write_all(&contents)
                .map_err(|error| self.unwritable(Path::new(name), &error))?;
        }
        self.create(&directory, "report.bin")
    }

    /// A new, empty file of this name that only this user can read; one that was there is replaced, a link not followed.
    fn create(&self, directory: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
        let part = format!(".{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = self.open(directory, Path::new(&part), flags)?;
        renameat(directory, &part, directory, name)
            .map_err(|error| self.unwritable(Path::new(name), &error.into()))?;
        Ok(file)
    }

    fn open(
        &self,
        directory: impl std::os::fd::AsFd,
        name: &Path,
        flags: OFlags,
    ) -> Result<OwnedFd, Failure> {
        let mode = Mode::RUSR | Mode::WUSR;
        openat(
            directory,
            name,
            flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            mode,
        )
        .map_err(|error| self.unwritable(name, &error.into()))
    }

    fn unwritable(&self, name: &Path, error: &std::io::Error) -> Failure {
        let path = self.directory.join(name);
        Failure::of(
            Exit::Output,
            format!(
                "{} cannot be written: {error}: correct --attest-to",
                path.display()
            ),
        )
    }
}
