// SPDX-License-Identifier: Apache-2.0

//! Shared by the tests: the record of everything that hosts see, and the tenant of the tests.

use crate::chip::{Chip, image};
use crate::host::Host;
use enarx_agent::{
    DeployError, Deployed, Failed, Order, Platforms, Refused, Secret, Stop, Streams, Target, Times,
    Trust, deploy,
};
use enarx_contract::{Doors, Image, Resources, Tee};
use enarx_manager_api::PlatformOffer;
use enarx_session::deployment::{Delivery, Detached, Output, Part, Sink, WhenFull};
use enarx_session::frame::Kind;
use enarx_tls::Key;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Memory of every Keep here.
pub const MEMORY: u64 = 1 << 28;

/// Stands in everything that may reach an accepted Keep only.
pub const MARKER: &[u8] = b"MARKER-7f3a9c";

/// Longest time of a test.
const TEST: Duration = Duration::from_mins(1);

pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs()
}

/// Everything that a host sees.
#[derive(Default)]
pub struct Record {
    /// Method and path of every request.
    pub requests: Vec<String>,
    /// Every byte that the manager received: requests in the clear, sessions as they pass.
    pub bytes: Vec<u8>,
    /// Every byte of the session after the inner TLS, where that ended at the host or in its Keep.
    pub plain: Vec<u8>,
    /// Plaintext that a man in the middle handed on.
    pub relayed: Vec<u8>,
    /// Frames that Keeps received, as far as they write them down.
    pub frames: Vec<Kind>,
    /// The parts that were delivered.
    pub parts: Vec<(Part, Vec<u8>)>,
    pub refusals: Vec<String>,
    pub deployment: Option<[u8; 32]>,
    /// Sessions that ended in order.
    pub ended: usize,
}

/// A record that many hold.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Record>>);

impl Log {
    pub fn read<T>(&self, read: impl FnOnce(&mut Record) -> T) -> T {
        read(&mut self.0.lock().expect("no test panics while it holds it"))
    }

    pub fn request(&self, line: &str) {
        self.read(|record| record.requests.push(line.to_owned()));
    }

    pub fn bytes(&self, bytes: &[u8]) {
        self.read(|record| record.bytes.extend_from_slice(bytes));
    }

    pub fn plain(&self, bytes: &[u8]) {
        self.read(|record| record.plain.extend_from_slice(bytes));
    }

    pub fn relayed(&self, bytes: &[u8]) {
        self.read(|record| record.relayed.extend_from_slice(bytes));
    }

    pub fn frame(&self, kind: Kind) {
        self.read(|record| record.frames.push(kind));
    }

    pub fn refusal(&self, code: &str) {
        self.read(|record| record.refusals.push(code.to_owned()));
    }

    pub fn released(&self, digest: [u8; 32]) {
        self.read(|record| record.deployment = Some(digest));
    }

    pub fn deployment(&self) -> Option<[u8; 32]> {
        self.read(|record| record.deployment)
    }

    pub fn ended(&self) {
        self.read(|record| record.ended += 1);
    }

    pub fn part(&self, part: Part, bytes: &[u8]) {
        self.read(|record| match record.parts.last_mut() {
            Some((last, content)) if *last == part => content.extend_from_slice(bytes),
            _ => record.parts.push((part, bytes.to_vec())),
        });
    }

    /// True if a request of this method and path, or of a path below it, was made.
    pub fn asked(&self, start: &str) -> bool {
        self.read(|record| record.requests.iter().any(|line| line.starts_with(start)))
    }
}

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
            buffer_bytes: 256 << 10,
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
            runtime_seconds_max: 600,
        },
        unattested: None,
    }
}

/// The outcome of a deployment, with what was written.
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

    /// The hosts that were not taken, when evidence is why.
    #[track_caller]
    pub fn refused(self) -> Vec<Refused> {
        match self.result {
            Err(DeployError::Refused(hosts)) => hosts,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The hosts that were not taken, when none came to be judged.
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
