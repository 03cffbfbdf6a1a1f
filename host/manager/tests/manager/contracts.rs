// SPDX-License-Identifier: Apache-2.0

//! Contracts of a tenant of the tests.

use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{
    Backend, Contract, Doors, Host, Platform, Resources, Side, Tee, Tenant, Terms, Times,
    signing_input,
};
use enarx_manager_api::NewKeep;
use enarx_tls::Key;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Memory of a Keep of the tests, in bytes.
pub const MEMORY: u64 = 1 << 20;

/// The platform of every Keep of these tests.
pub fn platform() -> Platform {
    Platform {
        tee: Tee::None,
        backend: Backend::Process,
        product: None,
        guest_policy: None,
        min_tcb: None,
    }
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A tenant.
pub struct Signer {
    pub key: Key,
}

impl Signer {
    pub fn new() -> Self {
        Self {
            key: Key::generate().unwrap(),
        }
    }

    /// Terms that the host of the tests accepts. The Keep behaves as `class` says.
    pub fn terms(&self, host: Host, class: &str) -> Terms {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut id = [0; 16];
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        id[..8].copy_from_slice(&number.to_be_bytes());
        Terms {
            version: enarx_contract::VERSION,
            id: Hex(id),
            host,
            tenant: Tenant::Named(self.key.public()),
            platform: platform(),
            image: None,
            resources: Resources {
                vcpus: 1,
                memory: MEMORY,
            },
            doors: Doors::default(),
            times: Times {
                not_before: now(),
                not_after: now() + 3600,
                unprovisioned_seconds: 60,
                detached_seconds_max: 60,
                runtime_seconds_max: 60,
            },
            class: Name::new(class).unwrap(),
        }
    }

    /// The request for the Keep of these terms.
    pub fn sign(&self, terms: Terms) -> NewKeep {
        self.sign_contract(&Contract::new(terms).unwrap())
    }

    pub fn sign_contract(&self, contract: &Contract) -> NewKeep {
        let input = signing_input(Side::Tenant, contract.digest());
        NewKeep {
            contract: Base64(contract.bytes().to_vec()),
            tenant_signature: self.key.sign(&input).unwrap(),
            tenant_key: None,
        }
    }
}
