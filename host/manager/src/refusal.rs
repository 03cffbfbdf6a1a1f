// SPDX-License-Identifier: Apache-2.0

//! Why a request was refused: one type, one name and one sentence for each reason, and the problem (RFC 9457) that the
//! client reads.

use crate::record::Unclaimable;
use crate::store::StoreError;
use enarx_contract::ContractError;
use enarx_manager_api::{Problem, code, limit};
use hyper::StatusCode;
use std::time::Duration;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the token is missing or not admitted")]
    Token,
    #[error("the metrics cover all tenants: only the token named metrics may read them")]
    Figures,
    #[error("the request cannot be read: {0}")]
    Request(String),
    #[error("there is nothing at this path")]
    Path,
    #[error("this path does not support the method")]
    Method { allowed: String },
    #[error("the request did not arrive in time")]
    Slow,
    #[error("the body of the request is too large")]
    Large,
    #[error("the media type of the request's body is not JSON")]
    MediaType,
    #[error("a session needs an upgrade of the connection")]
    Upgrade,
    #[error("the Keep has no session now")]
    NotReady { state: &'static str },
    #[error("the Keep already has as many sessions as it may have")]
    Connections,
    #[error("there is no such Keep for this token")]
    Keep,
    #[error("the Keep of this contract is another tenant's")]
    Taken,
    #[error("the Keep of this contract ended before anybody claimed it")]
    Gone,
    #[error("the tenant's key is {0}")]
    TenantKey(&'static str),
    #[error("there is no collateral for this chip and TCB version")]
    Collateral,
    #[error("{0}")]
    Contract(#[from] ContractError),
    #[error("the contract names another host")]
    Host {
        term: &'static str,
        expected: String,
        actual: String,
    },
    #[error("the contract names no tenant, and this host has no Keep ready under it")]
    Open,
    #[error("this host has no such platform")]
    Platform { expected: String, actual: String },
    #[error("the contract wants more than this token ever allows")]
    Resources {
        term: &'static str,
        limit: u64,
        wanted: u64,
    },
    #[error("the contract's times are longer than this host allows")]
    Times {
        term: &'static str,
        limit: u32,
        wanted: u32,
    },
    #[error("this host has no door for {0}")]
    Doors(String),
    #[error("this token's Keeps already use all that they may have at a time")]
    Limit {
        code: &'static str,
        limit: u64,
        wanted: u64,
    },
    #[error("this token has launched as often as it may for now")]
    Launches(Duration),
    #[error("this token already has as many requests in progress as it may have")]
    Requests { limit: u32 },
    #[error("this host is full")]
    Capacity,
    #[error("this host's manager is shutting down")]
    Draining,
    #[error("this host's manager cannot use its records")]
    Store(#[from] StoreError),
    #[error("this host's manager has failed")]
    Manager,
}

impl From<Unclaimable> for Refusal {
    fn from(reason: Unclaimable) -> Self {
        match reason {
            Unclaimable::Taken => Self::Taken,
            Unclaimable::Gone => Self::Gone,
            Unclaimable::Unknown => Self::Open,
        }
    }
}

/// Seconds after which to ask a full host again.
const CAPACITY_RETRY: u64 = 30;

impl Refusal {
    /// A fault of the manager itself, which is for the host's log.
    pub(crate) fn manager(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "the manager has failed");
        Self::Manager
    }

    /// The name, stable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Token => code::TOKEN,
            Self::Figures => code::FIGURES,
            Self::Request(_) | Self::TenantKey(_) => code::REQUEST,
            Self::Path => code::PATH,
            Self::Method { .. } => code::METHOD,
            Self::Slow => code::SLOW,
            Self::Large => code::LARGE,
            Self::MediaType => code::MEDIA_TYPE,
            Self::Upgrade => code::UPGRADE,
            Self::NotReady { .. } => code::NOT_READY,
            Self::Connections => code::CONNECTIONS,
            Self::Keep => code::KEEP,
            Self::Taken => code::TAKEN,
            Self::Gone => code::GONE,
            Self::Collateral => code::COLLATERAL,
            Self::Contract(error) => error.code(),
            Self::Host { .. } => code::HOST,
            Self::Open => code::OPEN,
            Self::Platform { .. } => code::PLATFORM,
            Self::Resources { .. } => code::RESOURCES,
            Self::Times { .. } => "contract.times",
            Self::Doors(_) => "contract.doors",
            Self::Limit { code, .. } => code,
            Self::Launches(_) => code::LIMIT_LAUNCHES,
            Self::Requests { .. } => code::LIMIT_CONNECTIONS,
            Self::Capacity => code::CAPACITY,
            Self::Draining => code::DRAINING,
            Self::Store(error) if error.is_full() => code::STORE_FULL,
            Self::Store(_) => code::STORE,
            Self::Manager => code::MANAGER,
        }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Figures => StatusCode::FORBIDDEN,
            Self::Request(_) | Self::TenantKey(_) => StatusCode::BAD_REQUEST,
            Self::Path | Self::Keep | Self::Collateral => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Large => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Upgrade => StatusCode::UPGRADE_REQUIRED,
            Self::NotReady { .. } | Self::Taken | Self::Gone => StatusCode::CONFLICT,
            Self::Contract(_)
            | Self::Host { .. }
            | Self::Open
            | Self::Platform { .. }
            | Self::Resources { .. }
            | Self::Times { .. }
            | Self::Doors(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Connections | Self::Limit { .. } | Self::Launches(_) | Self::Requests { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::Store(error) if error.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Capacity | Self::Draining | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Manager => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which the same request may succeed.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Launches(wait) => Some(wait.as_secs().saturating_add(1)),
            Self::Capacity => Some(CAPACITY_RETRY),
            _ => None,
        }
    }

    /// The expected value, and the value that was found.
    fn difference(&self) -> (Option<String>, Option<String>) {
        let both = |expected: String, actual: String| (Some(expected), Some(actual));
        match self {
            Self::Method { allowed } => (Some(allowed.clone()), None),
            Self::Large => (Some(format!("at most {} bytes", limit::BODY)), None),
            Self::MediaType => (Some("application/json".to_string()), None),
            Self::Upgrade => (Some(enarx_manager_api::PROTOCOL.to_string()), None),
            Self::NotReady { state } => both("ready".to_string(), (*state).to_string()),
            Self::Connections => (Some(format!("at most {}", limit::CONNECTIONS)), None),
            Self::Host {
                term,
                expected,
                actual,
            } => both(format!("{term} {expected}"), actual.clone()),
            Self::Platform { expected, actual } => both(expected.clone(), actual.clone()),
            Self::Resources {
                term,
                limit,
                wanted,
            } => both(format!("at most {limit} {term}"), wanted.to_string()),
            Self::Times {
                term,
                limit,
                wanted,
            } => both(format!("{term} of at most {limit}"), wanted.to_string()),
            Self::Limit { limit, wanted, .. } => {
                both(format!("at most {limit}"), wanted.to_string())
            }
            Self::Requests { limit } => (Some(format!("at most {limit}")), None),
            _ => (None, None),
        }
    }

    /// The remedy.
    fn fix(&self) -> Option<&'static str> {
        Some(match self {
            Self::Token => {
                "ask the host's owner for a token; `enarx deploy` takes it with --token-file, other clients send it as \
                Authorization: Bearer"
            }
            Self::Figures => {
                "ask the host's owner to make that token (`enarx host token add metrics`)"
            }
            Self::Upgrade => "send Connection: Upgrade and Upgrade: enarx-session",
            Self::NotReady { .. } => {
                "wait for the state ready, or ask for a Keep of a new contract"
            }
            Self::Connections | Self::Requests { .. } => "end another one first",
            Self::Taken | Self::Gone => {
                "make a contract with a new id, or claim another Keep of the host's offer"
            }
            Self::TenantKey(_) => {
                "send tenant_key with an open contract, and no other key than the named one with any other"
            }
            Self::Host { .. } => "take key and name from the host's offer",
            Self::Open => {
                "claim a Keep of the host's offer, or name the tenant's key in the contract"
            }
            Self::Platform { .. } => "take a platform of the host's offer",
            Self::Resources { .. } | Self::Times { .. } | Self::Doors(_) => {
                "keep to the limits and doors of the host's offer"
            }
            Self::Contract(ContractError::Times { .. }) => {
                "make a new contract, and compare the clocks of tenant and host"
            }
            Self::Limit { .. } => "end a Keep first",
            Self::Launches(_) | Self::Capacity => "try again later, or use another host",
            Self::Draining => "use another host",
            Self::Collateral => {
                "have the host's owner fetch them (`enarx certs fetch REPORT`), or bring your own"
            }
            Self::Store(_) | Self::Manager => "tell the host's owner, or use another host",
            _ => return None,
        })
    }

    /// The body of the answer. Text from the client appears in it only as printable ASCII.
    pub(crate) fn problem(&self) -> Problem {
        let status = self.status();
        let (expected, actual) = self.difference();
        let detail = match self {
            Self::Store(error) => {
                tracing::error!(%error, "a record could not be used");
                // Further details of the host are for its log.
                let full = if error.is_full() {
                    ": its disk is full"
                } else {
                    ""
                };
                format!("this host's manager cannot use its records{full}")
            }
            other => other.to_string(),
        };
        Problem {
            title: status.canonical_reason().unwrap_or_default().to_string(),
            status: status.as_u16(),
            detail: enarx_contract::canonical::printable(&detail, limit::TEXT),
            code: self.code().to_string(),
            expected,
            actual,
            fix: self.fix().map(str::to_string),
        }
    }
}
