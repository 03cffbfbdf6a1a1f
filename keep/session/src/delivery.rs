// SPDX-License-Identifier: Apache-2.0

//! A delivery in progress: room for its parts, and the parts that the application gets.
//!
//! The parts' digests are checked by `enarx_session` before anything here looks into them.

use std::net::IpAddr;
use std::time::Duration;

use enarx_configuration::Configuration;
use enarx_configuration::precompiled::{Precompiled, is_precompiled};
use enarx_configuration::sockets::Peer;
use enarx_contract::{Contract, Wanted};
use enarx_session::deployment::{self, Deployment, Part};
use enarx_session::{Refusal, Unfit};
use enarx_wasi::clock::TrustedTime;
use enarx_wasi::context::Secrets;
use zeroize::Zeroizing;

/// Folder of the secrets that are files, relative to the root.
const SECRETS: &str = "run/secrets";

/// An application with everything that the tenant delivered.
#[derive(Debug)]
pub struct Delivered {
    /// The application.
    pub application: Vec<u8>,
    /// It is native code.
    pub is_native: bool,
    /// Its configuration.
    pub configuration: Configuration,
    /// Files: paths relative to the root, and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Secrets; they are wiped with this.
    pub secrets: Secrets,
    /// The tenant's time when it released the application.
    pub told: TrustedTime,
}

/// The parts of a delivery that have arrived so far.
pub struct Delivery {
    deployment: Deployment,
    application: Vec<u8>,
    /// The key of a server is in it.
    configuration: Zeroizing<Vec<u8>>,
    decoded: Option<Configuration>,
    files: Vec<Vec<u8>>,
    secrets: Vec<Zeroizing<Vec<u8>>>,
    told: TrustedTime,
}

impl Delivery {
    /// Makes room for a deployment; `free` is the Keep's free memory in bytes.
    ///
    /// # Errors
    /// [`Refusal::Release`] if it does not fit.
    pub fn begin(deployment: &Deployment, free: u64) -> Result<Self, Refusal> {
        let files = deployment.files.iter().map(|file| file.size);
        let secrets = deployment.secrets.iter().map(|secret| secret.size);
        let sizes = [deployment.application.size, deployment.configuration.size];
        let total = sizes
            .into_iter()
            .chain(files.clone())
            .chain(secrets.clone())
            .fold(0, u64::saturating_add);
        if total > free {
            return Err(Unfit::TooLarge { total, free }.into());
        }
        let room = |size: u64| {
            let mut bytes = Vec::new();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            let reserved = bytes.try_reserve_exact(size);
            reserved.map(|()| bytes).map_err(|_| Unfit::NoMemory(size))
        };
        Ok(Self {
            told: TrustedTime::now(Duration::from_secs(deployment.now)),
            deployment: deployment.clone(),
            application: room(deployment.application.size)?,
            configuration: room(deployment.configuration.size).map(Zeroizing::new)?,
            decoded: None,
            files: files.map(room).collect::<Result<_, _>>()?,
            secrets: secrets
                .map(|size| room(size).map(Zeroizing::new))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Takes bytes of a part. There is room for as many as the deployment names, and `enarx_session` lets no more through.
    pub fn append(&mut self, part: Part, bytes: &[u8]) {
        let to = match part {
            Part::Application => Some(&mut self.application),
            Part::Configuration => Some(&mut *self.configuration),
            Part::File(index) => self.files.get_mut(index),
            Part::Secret(index) => self.secrets.get_mut(index).map(|secret| &mut **secret),
        };
        if let Some(to) = to {
            to.extend_from_slice(bytes);
        }
    }

    /// Looks into a part that is complete.
    ///
    /// # Errors
    /// [`Refusal::Release`] for an application that is native code where the deployment does not say so, or the other
    /// way round, for native code that is damaged or made by another version, for a configuration that this Keep does
    /// not understand or that requests things that a session does not give, and for a secret that should be a variable
    /// but is not text; [`Refusal::Contract`] for a configuration that requests doors that the contract does not have.
    pub fn complete(&mut self, part: Part, contract: &Contract) -> Result<(), Refusal> {
        match part {
            Part::Application => self.check_application(),
            Part::Configuration => self.configure(contract),
            Part::Secret(index) => self.check_secret(index),
            Part::File(_) => Ok(()),
        }
    }

    fn check_application(&self) -> Result<(), Refusal> {
        let native = is_precompiled(&self.application);
        let Some(source) = self.deployment.source else {
            return if native {
                Err(Unfit::UndeclaredNativeCode.into())
            } else {
                Ok(())
            };
        };
        if !native {
            return Err(Unfit::NoNativeCode.into());
        }
        let precompiled = Precompiled::decode(&self.application)
            .map_err(|error| Unfit::NativeCode(error.to_string()))?;
        if precompiled.source != source.0 {
            return Err(Unfit::OtherSource.into());
        }
        Ok(())
    }

    fn check_secret(&self, index: usize) -> Result<(), Refusal> {
        let (Some(secret), Some(value)) =
            (self.deployment.secrets.get(index), self.secrets.get(index))
        else {
            return Ok(());
        };
        let is_text = std::str::from_utf8(value).is_ok_and(|text| !text.contains('\0'));
        if secret.delivery == deployment::Delivery::Env && !is_text {
            return Err(Unfit::SecretIsNoText(secret.name.clone()).into());
        }
        Ok(())
    }

    fn configure(&mut self, contract: &Contract) -> Result<(), Refusal> {
        let configuration = Configuration::decode(&self.configuration)
            .map_err(|error| Unfit::Configuration(error.to_string()))?;
        if configuration.attest.is_some() {
            return Err(Unfit::AsksForEvidence.into());
        }
        let directories: Vec<(&str, bool)> = configuration
            .directories
            .iter()
            .map(|directory| (directory.guest_path.as_str(), directory.read_only))
            .collect();
        let listen = listeners(&configuration)?;
        let network = &configuration.network;
        contract.terms().doors.admit(&Wanted {
            tcp: network.tcp,
            udp: network.udp,
            name_lookup: network.name_lookup,
            listen: &listen,
            directories: &directories,
        })?;
        self.decoded = Some(configuration);
        Ok(())
    }

    /// Returns the delivery; `None` unless everything is complete.
    pub fn finish(self) -> Option<Delivered> {
        let mut configuration = self.decoded?;
        // The session reports timings, and the deployment says whether the application is native code.
        configuration.timings = false;
        configuration.compile = None;
        let is_native = self.deployment.source.is_some();
        configuration.precompiled = is_native;
        let paths = self.deployment.files.into_iter().map(|file| file.path);
        let mut secrets = Secrets::default();
        for (secret, value) in self.deployment.secrets.into_iter().zip(self.secrets) {
            match secret.delivery {
                deployment::Delivery::File => {
                    let path = format!("{SECRETS}/{}", secret.name);
                    secrets.files.push((path, value));
                }
                deployment::Delivery::Env => {
                    // It was checked when it was complete.
                    let text = std::str::from_utf8(&value).ok()?.to_owned();
                    secrets.variables.push((secret.name, Zeroizing::new(text)));
                }
            }
        }
        Some(Delivered {
            application: self.application,
            is_native,
            configuration,
            files: paths.zip(self.files).collect(),
            secrets,
            told: self.told,
        })
    }
}

/// The sockets that the Keep should open and listen at.
///
/// # Errors
/// [`Unfit`] for a server that has no socket of its own, because the host grants none here; and for one that
/// would speak in clear, unless the tenant says that it is meant so.
fn listeners(configuration: &Configuration) -> Result<Vec<(Option<IpAddr>, u16)>, Unfit> {
    let sockets = configuration.sockets.iter();
    let mut listeners: Vec<_> = sockets
        .filter_map(|socket| match &socket.peer {
            Peer::Listen { address, port, .. } => Some((*address, *port)),
            Peer::Connect { .. } => None,
        })
        .collect();
    if let Some(serve) = &configuration.serve {
        let Some(listen) = &serve.listen else {
            return Err(Unfit::NoAddress);
        };
        if serve.tls.is_none() && !serve.insecure_http {
            return Err(Unfit::NoCertificate);
        }
        listeners.push((listen.address, listen.port));
    }
    Ok(listeners)
}
