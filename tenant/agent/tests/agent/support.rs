// SPDX-License-Identifier: Apache-2.0

//! Shared by the tests: the tenant of the tests, and its order.

use enarx_agent::{
    DeployError, Deployed, Failed, Order, Platforms, Refused, Secret, Stop, Streams, Target, Times,
    Trust, deploy,
};
use enarx_contract::canonical::Hex;
use enarx_contract::{Doors, Image, Resources, Tee};
use enarx_hostile_host::chip::{Chip, image};
use enarx_hostile_host::host::{Host, TOKEN};
pub use enarx_hostile_host::unix_seconds;
use enarx_hostile_host::{MEMORY, RUNTIME};
use enarx_manager_api::PlatformOffer;
use enarx_session::deployment::{Delivery, Detached, Output, Sink, WhenFull};
use enarx_tls::Key;
use std::time::Duration;
use zeroize::Zeroizing;

/// A marker in everything that may reach only an accepted Keep.
pub const MARKER: &[u8] = b"MARKER-7f3a9c";

/// Longest time of a test.
const TEST: Duration = Duration::from_mins(1);

/// The result of `work`, which must not take longer than a test may.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(TEST, Box::pin(work)).await;
    result.expect("the test takes too long")
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// A host that accepts deployments.
pub trait Targeted {
    fn target(&self) -> Target;
    fn target_with(&self, pin: Hex<32>, token: &str) -> Target;
}

impl Targeted for Host {
    fn target(&self) -> Target {
        self.target_with(self.pin, TOKEN)
    }

    fn target_with(&self, pin: Hex<32>, token: &str) -> Target {
        let url = format!("https://{}#sha256={pin}", self.address);
        Target::parse(&url, Zeroizing::new(token.to_owned())).expect("a target")
    }
}

/// The tenant of the tests.
pub struct Tenant {
    pub key: Key,
    pub trust: Trust,
    pub accepts: Vec<Tee>,
    pub image: Image,
    pub stop: Stop,
}

impl Platforms for Tenant {
    fn image(&self, _: &PlatformOffer, _: u32) -> Option<Image> {
        Some(self.image.clone())
    }

    fn accepts(&self, tee: Tee) -> bool {
        self.accepts.contains(&tee)
    }
}

/// An order with the marker in every part.
pub fn order() -> Order {
    let marked = |text: &str| [text.as_bytes(), MARKER].concat();
    Order {
        application: marked("application "),
        source: None,
        configuration: Zeroizing::new(marked("configuration ")),
        files: vec![
            ("www/b.html".to_owned(), marked("page ")),
            ("www/a".to_owned(), Vec::new()),
        ],
        secrets: vec![
            Secret {
                name: "PASSWORD".to_owned(),
                delivery: Delivery::Env,
                value: Zeroizing::new(marked("hunter2 ")),
            },
            Secret {
                name: "KEY".to_owned(),
                delivery: Delivery::File,
                value: Zeroizing::new(Vec::new()),
            },
        ],
        output: Output {
            stdout: Some(Sink::Session),
            stderr: Some(Sink::Session),
        },
        detached: Detached {
            seconds: 30,
            buffer_bytes: 1 << 20,
            when_full: WhenFull::Block,
        },
        doors: Doors::default(),
        resources: Resources {
            vcpus: 1,
            memory: MEMORY,
        },
        times: Times {
            valid_seconds: 3600,
            unprovisioned_seconds: 60,
            runtime_seconds_max: RUNTIME,
        },
        unattested: None,
        queue: None,
        started: None,
    }
}

/// The outcome of a deployment, with the output.
pub struct Run {
    pub result: Result<Deployed, DeployError>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Run {
    #[track_caller]
    pub fn deployed(self) -> Deployed {
        self.result.expect("it is accepted")
    }

    /// The hosts that were refused because of evidence.
    #[track_caller]
    pub fn refused(self) -> Vec<Refused> {
        match self.result {
            Err(DeployError::Refused(hosts)) => hosts,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The hosts that were refused, when none got as far as a verdict.
    #[track_caller]
    pub fn unavailable(self) -> Vec<Refused> {
        match self.result {
            Err(DeployError::Unavailable(hosts)) => hosts,
            other => panic!("not unavailable: {other:?}"),
        }
    }

    #[track_caller]
    pub fn failed(self) -> Failed {
        match self.result {
            Err(DeployError::Failed(failed)) => *failed,
            other => panic!("not failed: {other:?}"),
        }
    }
}

impl Tenant {
    pub fn new() -> Self {
        Self {
            key: Key::generate().expect("a key"),
            trust: Trust::new(Chip::new().policy()),
            accepts: vec![Tee::Simulated],
            image: image(),
            stop: Stop::new(Duration::from_secs(5)),
        }
    }

    /// Deploys the order of the tests with this standard input.
    pub async fn deploy(&self, hosts: &[&Host], stdin: &[u8]) -> Run {
        let targets: Vec<_> = hosts.iter().map(|host| host.target()).collect();
        self.deploy_to(&targets, order(), stdin).await
    }

    pub async fn deploy_to(&self, targets: &[Target], order: Order, stdin: &[u8]) -> Run {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let streams = Streams {
            stdin,
            stdout: &mut stdout,
            stderr: &mut stderr,
        };
        let work = deploy(
            targets,
            order,
            &self.key,
            &self.trust,
            self,
            streams,
            &self.stop,
        );
        let result = within(work).await;
        Run {
            result,
            stdout,
            stderr,
        }
    }
}
