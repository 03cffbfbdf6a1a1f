// SPDX-License-Identifier: Apache-2.0

//! Requests in, answers out. Which routes there are, and which ask for a token, is `enarx_manager_api::openapi::ROUTES`; a
//! request of no route there reaches nothing here.

use crate::keeps::{Found, Keeps};
use crate::metrics::Metrics;
use crate::places::Place;
use crate::refusal::Refusal;
use crate::relay;
use crate::settings::Collaterals;
use crate::tokens::{Owner, Tokens};
use bytes::Bytes;
use enarx_contract::canonical::{Hex, Name, printable};
use enarx_manager_api::openapi::{METRICS_TEXT, ROUTES, Route, TEXT, openapi};
use enarx_manager_api::{KeepState, NewKeep, PROBLEM_JSON, PROTOCOL, body, code, limit, path};
use http_body_util::{Full, LengthLimitError};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Waits until the manager is closing.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // Without its sender there is no manager either.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Media type of answers.
const JSON: &str = "application/json";

/// Longest text of a client's that an error repeats, in characters.
const ECHO: usize = 160;

/// The server's parts that answer requests.
pub(crate) struct Routes {
    pub keeps: Arc<Keeps>,
    pub tokens: Arc<Tokens>,
    pub metrics: Arc<Metrics>,
    pub collateral: Arc<dyn Collaterals>,
    /// True once all sessions are to end.
    pub closing: watch::Receiver<bool>,
}

/// A request that was found among the routes.
struct Call<'a> {
    route: &'static Route,
    parameters: Vec<String>,
    query: Option<&'a str>,
}

impl Call<'_> {
    /// The bytes of a parameter in the path.
    fn hex<const N: usize>(&self, index: usize) -> Result<Hex<N>, Refusal> {
        let text = self.parameters.get(index).ok_or(Refusal::Path)?;
        parse_hex(text).ok_or(Refusal::Path)
    }

    /// The value in the query, which has no other.
    fn query(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let Some(query) = self.query.filter(|query| !query.is_empty()) else {
            return Ok(None);
        };
        match query.split_once('=') {
            Some((key, value)) if key == name => Ok(Some(value)),
            _ => Err(Refusal::Request(format!(
                "the query is {}, and may be {name}=… only",
                printable(query, ECHO)
            ))),
        }
    }
}

/// The bytes that this text has in the documents.
fn parse_hex<const N: usize>(text: &str) -> Option<Hex<N>> {
    serde_json::from_value(serde_json::Value::String(text.to_string())).ok()
}

/// The parameters of `path` if it is one of `template`.
fn parameters(template: &str, path: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut parts = path.split('/');
    for expected in template.split('/') {
        let part = parts.next()?;
        if expected.starts_with('{') {
            found.push(part.to_string());
        } else if expected != part {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

fn find_route<'a>(method: &str, uri: &'a hyper::Uri) -> Result<Call<'a>, Refusal> {
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(parameters) = parameters(route.path, uri.path()) else {
            continue;
        };
        if route.method == method {
            return Ok(Call {
                route,
                parameters,
                query: uri.query(),
            });
        }
        allowed.push(route.method);
    }
    if allowed.is_empty() {
        return Err(Refusal::Path);
    }
    Err(Refusal::Method {
        allowed: allowed.join(", "),
    })
}

impl Routes {
    /// Answers a request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        place: &Place,
    ) -> Answer {
        match self.route(request, place).await {
            Ok(answer) => answer,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        self.metrics.refused(refusal.code());
        let mut answer = json(refusal.status(), &refusal.problem());
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match refusal {
            Refusal::Token => {
                let bearer = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            Refusal::Method { allowed } => set(headers, header::ALLOW, allowed),
            Refusal::Upgrade => set(headers, header::UPGRADE, PROTOCOL),
            // The rest of the request is not read.
            Refusal::Slow | Refusal::Large => set(headers, header::CONNECTION, "close"),
            _ => {}
        }
        if let Some(seconds) = refusal.retry_after() {
            set(headers, header::RETRY_AFTER, &seconds.to_string());
        }
        answer
    }

    async fn route(
        &self,
        mut request: Request<Incoming>,
        place: &Place,
    ) -> Result<Answer, Refusal> {
        let uri = request.uri().clone();
        let call = find_route(request.method().as_str(), &uri)?;
        if !call.route.token {
            return self.open(&call);
        }
        let (owner, name) = self.authenticate(request.headers())?;
        place.show(owner)?;
        let permit = self.keeps.request(owner)?;
        match (call.route.method, call.route.path) {
            ("GET", path::OFFER) => Ok(json(StatusCode::OK, &self.keeps.offer())),
            ("GET", path::COLLATERAL) => {
                let known = request.headers().get(header::IF_NONE_MATCH).cloned();
                self.collateral(call.hex(0)?, call.hex(1)?, known).await
            }
            ("POST", path::KEEPS) => {
                let new: NewKeep = read_json(request).await?;
                let (answer, is_new) = self.keeps.launch(owner, new).await?;
                let status = if is_new {
                    StatusCode::CREATED
                } else {
                    StatusCode::OK
                };
                let mut response = json(status, &answer);
                let location = path::keep(&answer.keep.id);
                set(response.headers_mut(), header::LOCATION, &location);
                Ok(response)
            }
            ("GET", path::KEEPS) => Ok(json(StatusCode::OK, &self.keeps.list(owner).await?)),
            ("GET", path::KEEP) => self.keep(&owner, &call).await,
            ("DELETE", path::KEEP) => self.delete(&owner, &call).await,
            ("GET", path::SESSION) => {
                let found = self.keeps.find(&owner, call.hex(0)?).await?;
                self.session(owner, &found, &mut request, permit)
            }
            ("GET", path::LOG) => {
                let found = self.keeps.find(&owner, call.hex(0)?).await?;
                Ok(text(TEXT, self.keeps.log(&found).await?))
            }
            // By them one tenant would follow the sessions of another, byte by byte.
            ("GET", path::METRICS) if name.as_str() != path::FIGURES_TOKEN => Err(Refusal::Figures),
            ("GET", path::METRICS) => Ok(text(METRICS_TEXT, self.keeps.metrics())),
            _ => Err(Refusal::Path),
        }
    }

    /// Answers without a token.
    fn open(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        match (call.route.method, call.route.path) {
            ("GET", path::HEALTHZ) => Ok(text(TEXT, "alive\n".to_string())),
            ("GET", path::READYZ) if self.keeps.is_open() => Ok(text(TEXT, "ready\n".to_string())),
            ("GET", path::READYZ) => Err(Refusal::Draining),
            ("GET", path::OPENAPI) => Ok(json(StatusCode::OK, &openapi())),
            _ => Err(Refusal::Path),
        }
    }

    /// The owner of the token in `Authorization: Bearer` (RFC 6750 section 2.1), and its name.
    fn authenticate(&self, headers: &HeaderMap) -> Result<(Owner, Name), Refusal> {
        let found = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| self.tokens.find(token));
        let (owner, name) = found.ok_or(Refusal::Token)?;
        tracing::debug!(token = name.as_str(), "a token was admitted");
        Ok((owner, name))
    }

    async fn collateral(
        &self,
        chip: Hex<64>,
        tcb: Hex<8>,
        known: Option<HeaderValue>,
    ) -> Result<Answer, Refusal> {
        let source = self.collateral.clone();
        let found = spawn_blocking(move || source.get(&chip.0, &tcb.0)).await;
        let collateral = found.ok().flatten().ok_or(Refusal::Collateral)?;
        let mut answer = json(StatusCode::OK, &collateral);
        let bytes = serde_json::to_vec(&collateral).unwrap_or_default();
        let digest = Hex::<32>(Sha256::digest(&bytes).into());
        let tag = format!("\"{digest}\"");
        if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        }
        set(answer.headers_mut(), header::ETAG, &tag);
        Ok(answer)
    }

    async fn keep(&self, owner: &Owner, call: &Call<'_>) -> Result<Answer, Refusal> {
        let wanted = call
            .query("wait")?
            .map(|name| {
                KeepState::by_name(name).ok_or_else(|| {
                    let name = printable(name, ECHO);
                    Refusal::Request(format!("there is no state {name}"))
                })
            })
            .transpose()?;
        let found = self.keeps.find(owner, call.hex(0)?).await?;
        if let (Some(wanted), Found::Living(keep)) = (wanted, &found) {
            keep.wait_bounded(wanted).await;
        }
        Ok(json(StatusCode::OK, &found.info()))
    }

    async fn delete(&self, owner: &Owner, call: &Call<'_>) -> Result<Answer, Refusal> {
        let grace = match call.query("grace")? {
            None => limit::DEFAULT_GRACE_SECONDS,
            Some(text) => text
                .parse()
                .ok()
                .filter(|grace| *grace <= limit::GRACE_SECONDS)
                .ok_or_else(|| {
                    Refusal::Request(format!(
                        "grace is {}, and may be 0 to {} seconds",
                        printable(text, ECHO),
                        limit::GRACE_SECONDS
                    ))
                })?,
        };
        let found = self.keeps.find(owner, call.hex(0)?).await?;
        if let Found::Living(keep) = &found {
            keep.end_after(Duration::from_secs(grace.into()), code::end::DELETED);
        }
        Ok(json(StatusCode::ACCEPTED, &found.info()))
    }

    /// Answers 101, and passes on bytes from then on.
    fn session(
        &self,
        owner: Owner,
        found: &Found,
        request: &mut Request<Incoming>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Refusal> {
        if !wants_session(request) {
            return Err(Refusal::Upgrade);
        }
        let keep = match found {
            Found::Living(keep)
                if matches!(keep.state(), KeepState::Ready | KeepState::Provisioned) =>
            {
                keep.clone()
            }
            other => {
                return Err(Refusal::NotReady {
                    state: other.info().state.name(),
                });
            }
        };
        let session = keep.sessions.clone().try_acquire_owned();
        let session = session.map_err(|_| Refusal::Connections)?;
        let upgrade = hyper::upgrade::on(request);
        let (tokens, metrics) = (self.tokens.clone(), self.metrics.clone());
        let mut closing = self.closing.clone();
        tokio::spawn(async move {
            let _permits = (permit, session, metrics.session());
            let limit = Duration::from_secs(limit::REQUEST_SECONDS);
            let Ok(Ok(client)) = timeout(limit, upgrade).await else {
                return;
            };
            tracing::debug!(keep = %keep.id, "a session begins");
            keep.used();
            tokio::select! {
                result = relay::relay(TokioIo::new(client), &keep, &metrics) => {
                    tracing::debug!(keep = %keep.id, ?result, "a session has ended");
                }
                () = tokens.revoked(&owner) => {
                    tracing::info!(keep = %keep.id, "a session was cut, because its token was revoked");
                }
                () = closed(&mut closing) => {}
            }
        });
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        set(answer.headers_mut(), header::CONNECTION, "upgrade");
        set(answer.headers_mut(), header::UPGRADE, PROTOCOL);
        Ok(answer)
    }
}

/// True if the request asks for [`PROTOCOL`] on this connection (RFC 9110 section 7.8).
fn wants_session(request: &Request<Incoming>) -> bool {
    let names = |name: HeaderName, wanted: &str| {
        request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(wanted))
    };
    request.version() == Version::HTTP_11
        && names(header::CONNECTION, "upgrade")
        && names(header::UPGRADE, PROTOCOL)
}

/// Reads the body of a request.
async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let media = request.headers().get(header::CONTENT_TYPE);
    let is_json = media
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case(JSON));
    if !is_json {
        return Err(Refusal::MediaType);
    }
    let body = whole(request.into_body());
    let bytes = timeout(Duration::from_secs(limit::REQUEST_SECONDS), body)
        .await
        .map_err(|_| Refusal::Slow)??;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::Request(printable(&error.to_string(), ECHO)))
}

/// The bytes of a body.
async fn whole(body: Incoming) -> Result<Vec<u8>, Refusal> {
    body::whole(body, limit::BODY).await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::Large
        } else {
            Refusal::Request("the body is cut".to_string())
        }
    })
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // The types of the interface have string keys and finite numbers only: they are always encoded.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Full::from(bytes));
    *answer.status_mut() = status;
    set(answer.headers_mut(), header::CONTENT_TYPE, JSON);
    set(answer.headers_mut(), header::CACHE_CONTROL, "no-store");
    answer
}

fn text(media: &str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    set(answer.headers_mut(), header::CONTENT_TYPE, media);
    set(
        answer.headers_mut(),
        header::X_CONTENT_TYPE_OPTIONS,
        "nosniff",
    );
    answer
}

/// Sets a header to a text of this program's.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_exactly_the_paths() {
        let found = |method: &str, uri: &str| {
            let uri = uri.parse().unwrap();
            find_route(method, &uri)
                .map(|call| (call.route.path, call.parameters.len()))
                .map_err(|refusal| refusal.code())
        };
        assert_eq!(found("GET", "/v1/keeps"), Ok((path::KEEPS, 0)));
        assert_eq!(found("GET", "/v1/keeps/a?wait=b"), Ok((path::KEEP, 1)));
        assert_eq!(
            found("GET", "/v1/collateral/a/b"),
            Ok((path::COLLATERAL, 2))
        );
        assert_eq!(found("PUT", "/v1/keeps"), Err(code::METHOD));
        for uri in [
            "/",
            "/v1",
            "/v1/keeps/a/b",
            "/v1/keeps/a/log/",
            "/v1/offer/",
            "//v1/offer",
        ] {
            assert_eq!(found("GET", uri), Err(code::PATH), "{uri}");
        }
        for route in ROUTES {
            let uri = route.path.replace(['{', '}'], "");
            assert_eq!(
                found(route.method, &uri).map(|(path, _)| path),
                Ok(route.path)
            );
        }
    }
}
