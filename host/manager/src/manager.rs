// SPDX-License-Identifier: Apache-2.0

//! The server: it listens, speaks TLS and HTTP/1.1, and ends in order.

use crate::certificate::Certificate;
use crate::keeps::{self, Keeps, Parts};
use crate::metrics::Metrics;
use crate::places::{Place, Places};
use crate::pool;
use crate::process::Starter;
use crate::routes::{Routes, closed};
use crate::store::Store;
use crate::tokens::Tokens;
use crate::{ManagerError, Settings, State, StateError, files};
use enarx_contract::PublicKey;
use enarx_contract::canonical::{Hex, Name};
use enarx_manager_api::{Offer, VERSION, code, limit};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::convert::Infallible;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections of one token for each request that it may have under way: a client may keep one for the next request.
const CONNECTIONS_PER_REQUEST: usize = 2;

/// Time for a TLS handshake and for the head of a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(limit::REQUEST_SECONDS);

/// Milliseconds after which a client that takes no bytes is cut (TCP_USER_TIMEOUT, tcp(7)).
const UNREAD_TIMEOUT: u32 = 90_000;

/// Interval for checking tokens, for sessions whose token was revoked.
const TOKENS_INTERVAL: Duration = Duration::from_secs(1);

/// How often old records are removed.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// How long killed Keeps may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How long answers under way may take at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The wait after the system refused a connection: it has no descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A manager that listens.
pub struct Manager {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    fingerprint: Hex<32>,
    routes: Arc<Routes>,
    places: Arc<Places>,
    closing: watch::Sender<bool>,
    grace: Duration,
    /// Unlocked by the system when this is dropped, or the process ends.
    _lock: File,
}

impl Manager {
    /// Opens the state folder, ends in the record what a killed manager left, and listens.
    ///
    /// # Errors
    /// [`ManagerError`].
    pub async fn bind(settings: Settings) -> Result<Self, ManagerError> {
        let name =
            Name::new(&settings.name).ok_or_else(|| StateError::Name(settings.name.clone()))?;
        if settings.rates.launches_per_minute == 0 || settings.rates.requests == 0 {
            return Err(ManagerError::Setting {
                setting: "rates",
                range: "at least 1 each",
            });
        }
        pool::check(&settings)?;
        settings.doors.check().map_err(|_| ManagerError::Setting {
            setting: "doors",
            range: "such as a contract can have: at most 256 of each kind",
        })?;
        let state = State::open(&settings.state)?;
        let lock = lock(&state)?;
        let certificate = match &settings.certificate {
            Some((chain, key)) => Certificate::given(chain, key)?,
            None => state.own_certificate()?,
        };
        let fingerprint = certificate.fingerprint();
        let acceptor = TlsAcceptor::from(certificate.server()?);

        let doors = state.clean_doors()?;
        let store = Store::open(&state.store_file())?;
        let lost = keeps::end_lost(&store).map_err(|error| error.of(&state.store_file()))?;
        if lost > 0 {
            tracing::warn!(lost, "a manager was killed, and its Keeps with it");
        }
        let metrics = Arc::new(Metrics::new());
        let requests = usize::try_from(settings.rates.requests).unwrap_or(usize::MAX);
        let place = cgroup_name(state.key().public());
        let cgroups = settings.cgroups.map(|cgroups| cgroups.of_keeps(place));
        let starter =
            Starter::new(settings.keep, cgroups.transpose()?).map_err(ManagerError::System)?;
        let keeps = Arc::new(Keeps::new(Parts {
            offer: Offer {
                version: VERSION,
                key: state.key().public(),
                name,
                platforms: settings.platforms,
                limits: settings.limits,
                doors: settings.doors,
                classes: settings.classes.iter().map(pool::offered).collect(),
                ready: Vec::new(),
            },
            capacity: settings.capacity,
            classes: settings.classes,
            fresh: settings.fresh,
            rates: settings.rates,
            key: state.key().clone(),
            doors,
            store,
            starter,
            metrics: metrics.clone(),
        }));

        let refused = |error| ManagerError::Listen {
            address: settings.listen,
            error,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let closing = watch::Sender::new(false);
        Ok(Self {
            listener,
            address,
            acceptor,
            fingerprint,
            places: Places::new(requests.saturating_mul(CONNECTIONS_PER_REQUEST)),
            routes: Arc::new(Routes {
                keeps,
                tokens: Arc::new(Tokens::new(state.tokens_file())),
                metrics,
                collateral: settings.collateral,
                closing: closing.subscribe(),
            }),
            closing,
            grace: settings.grace,
            _lock: lock,
        })
    }

    /// The address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line for `--to`: the address, and SHA-256 of the certificate, which clients pin.
    #[must_use]
    pub fn to(&self) -> String {
        format!("https://{}#sha256={}", self.address, self.fingerprint)
    }

    /// Serves until `shutdown`. Then no new Keep is launched; those that live may go on for the settings' grace, and are
    /// ended.
    ///
    /// # Errors
    /// [`ManagerError::Left`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ManagerError> {
        let keeps = self.routes.keeps.clone();
        tracing::info!(address = %self.address, "the manager serves");
        let filling = tokio::spawn(keeps.clone().fill());
        let serve = self.serve();
        let end = async {
            shutdown.await;
            tracing::info!(keeps = keeps.count(), "the manager is ending");
            keeps.close().await;
            let _ = timeout(self.grace, keeps.all_ended()).await;
            keeps.end_all(Duration::ZERO, code::end::SHUTDOWN);
            let _ = timeout(END_LIMIT, keeps.all_ended()).await;
            self.closing.send_replace(true);
        };
        tokio::join!(serve, end);
        filling.abort();
        match keeps.count() {
            0 => Ok(()),
            left => Err(ManagerError::Left(left)),
        }
    }

    /// Accepts connections until it is closing, and sees them end.
    async fn serve(&self) {
        let mut closing = self.closing.subscribe();
        let mut connections = JoinSet::new();
        let mut tokens = interval(TOKENS_INTERVAL);
        tokens.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forget = interval(FORGET_INTERVAL);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((client, peer)) => {
                        let place = self.places.take(peer.ip());
                        let connection = self.connection(client, place.clone());
                        connections.spawn(async move {
                            tokio::select! {
                                () = connection => {}
                                () = place.over() => {}
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = tokens.tick() => self.routes.tokens.refresh(),
                _ = forget.tick() => self.routes.keeps.forget().await,
                () = closed(&mut closing) => break,
            }
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        // Connections that are left then are cut, as the set is dropped.
        let _ = timeout(CLOSE_LIMIT, ended).await;
    }

    /// Serves one connection.
    fn connection(&self, client: TcpStream, place: Arc<Place>) -> impl Future<Output = ()> + use<> {
        let (routes, acceptor) = (self.routes.clone(), self.acceptor.clone());
        let mut closing = self.closing.subscribe();
        async move {
            let _counted = routes.metrics.connection();
            // Without them, bytes arrive later, and a client that reads nothing holds its place for longer.
            let _ = client.set_nodelay(true);
            let _ = set_tcp_user_timeout(&client, UNREAD_TIMEOUT);
            let Ok(Ok(client)) = timeout(REQUEST_LIMIT, acceptor.accept(client)).await else {
                return;
            };
            let service = service_fn(move |request| {
                let (routes, place) = (routes.clone(), place.clone());
                async move { Ok::<_, Infallible>(routes.answer(request, &place).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_LIMIT)
                .max_header_size(limit::HEAD)
                .max_buf_size(2 * limit::HEAD)
                .serve_connection(TokioIo::new(client), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = closed(&mut closing) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a connection has ended early");
            }
        }
    }
}

/// The name of the cgroups of this host's Keeps.
fn cgroup_name(key: PublicKey) -> Hex<8> {
    let digest = key.digest();
    Hex(std::array::from_fn(|index| digest[index]))
}

/// The lock against a second manager.
fn lock(state: &State) -> Result<File, ManagerError> {
    let path = state.manager_lock();
    let file = files::open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ManagerError::Locked(state.folder().to_owned())),
        Err(TryLockError::Error(error)) => Err(files::error(&path, error).into()),
    }
}
