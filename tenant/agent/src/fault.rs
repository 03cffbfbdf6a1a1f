// SPDX-License-Identifier: Apache-2.0

//! The fault of one host, and its consequence: whether another attempt has a chance, with the same Keep or another.
//! Texts from hosts in it are printable ASCII, and no more trustworthy than their hosts.

use crate::target::TargetError;
use enarx_attestation::Check;
use enarx_contract::ContractError;
use enarx_contract::canonical::{Hex, Name};
use enarx_manager_api::code;
use enarx_session::Refusal;
use enarx_tls::TlsError;
use std::fmt;

/// The status of a manager that is asked too often (RFC 6585 section 4).
const TOO_MANY_REQUESTS: u16 = 429;
/// The status of a request whose token is not admitted (RFC 9110 section 15.5.2).
const UNAUTHORIZED: u16 = 401;

/// How the names of everything that happens to sessions begin.
const SESSION_PREFIX: &str = "session.";

/// The chance of another try after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chance {
    /// The same again, with the same Keep: it passes by itself.
    SameKeep,
    /// Another deployment: this Keep is lost, or somebody has taken over the session with it.
    AnotherKeep,
    /// The same would happen.
    None,
}

/// The chance after a fault with this name, whoever gave it: this end of a session, the Keep or the manager.
fn of_code(name: &str) -> Chance {
    /// Names after which a session with the same Keep may go well: it was cut, or there was no room or no report yet.
    const TEMPORARY_NAMES: [&str; 4] = [
        "session.truncated",
        "session.timeout",
        "session.full",
        "evidence.busy",
    ];
    if TEMPORARY_NAMES.contains(&name) {
        Chance::SameKeep
    } else if name.starts_with(SESSION_PREFIX) || name == code::CAPACITY {
        Chance::AnotherKeep
    } else {
        Chance::None
    }
}

/// A fault of one host, or of the connection to it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No TCP connection.
    #[error("no connection to its manager: {0}: check that it runs, and that the address is right")]
    Unreachable(std::io::ErrorKind),
    /// A name for which this machine finds no address.
    #[error(
        "its name cannot be resolved: check the name, and that this machine uses a name server"
    )]
    Name,
    /// The manager ended a connection before it answered, again and again.
    #[error("its manager ends connections before it answers: {0}; it may have too many of them")]
    Unanswered(std::io::ErrorKind),
    /// A time was over.
    #[error("its manager did not answer in time: no {0}")]
    Timeout(&'static str),
    /// Another certificate than the pinned one.
    #[error(
        "its manager has the certificate sha256={found}, not sha256={expected}; ask its owner whether that is right, \
        and then deploy with the line that the manager prints"
    )]
    Pin {
        /// The digest that the target names.
        expected: Hex<32>,
        /// The digest of the certificate that was shown.
        found: Hex<32>,
    },
    /// The outer TLS handshake failed for another reason.
    #[error("no TLS connection to its manager: {0}")]
    OuterTls(String),
    /// The manager does not keep to its API.
    #[error("its manager violates the API: {0}")]
    Api(String),
    /// The manager refused a request, in its own words.
    #[error("its manager refuses: {sentence}")]
    Manager {
        /// HTTP status.
        status: u16,
        /// The manager's name for the reason.
        code: Name,
        /// The manager's words, with its name for the reason.
        sentence: String,
    },
    /// The host offers no platform that the tenant accepts.
    #[error("it offers no platform that you accept: it has {0}")]
    Platform(String),
    /// The contract, or the host's signature on it.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The Keep ended before it was used; the reason is what the host says.
    #[error("its Keep ended: {0}")]
    KeepEnded(String),
    /// No way through the manager to the Keep.
    #[error("its manager does not forward the session: {0}")]
    Relay(String),
    /// The handshake with the Keep failed.
    #[error("no TLS connection to its Keep: {0}")]
    Tls(#[from] TlsError),
    /// The session's refusal; of evidence, above all.
    #[error(transparent)]
    Session(#[from] Refusal),
    /// Standard input could not be read.
    #[error("standard input cannot be read: {0}")]
    Input(std::io::ErrorKind),
    /// An output could not be written.
    #[error("output cannot be written: {0}")]
    Output(std::io::ErrorKind),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The tenant's clock is before 1970.
    #[error("the clock shows a time before 1970: set it")]
    Clock,
    /// The end was requested.
    #[error("stopped on request")]
    Cancelled,
    /// A token that no manager makes.
    #[error(transparent)]
    Token(#[from] TargetError),
    /// The vendor's revocation lists had to be fetched, and were not available.
    #[error("today's revocation lists could not be fetched: {0}")]
    Lists(String),
}

impl Fault {
    /// The fault of a connection that the manager ended before it answered; `None` for an error of another kind.
    pub(crate) fn unanswered(kind: std::io::ErrorKind) -> Option<Self> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

        let is_ended = matches!(
            kind,
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
        );
        is_ended.then_some(Self::Unanswered(kind))
    }

    /// The stable name of the fault. For [`Self::Manager`] and a Keep that refuses, the other side chose it.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable(_) | Self::Name => "manager.unreachable",
            Self::Unanswered(_) => "manager.unanswered",
            Self::Timeout(_) => "manager.timeout",
            Self::Pin { .. } => "manager.pin",
            Self::OuterTls(_) => "manager.tls",
            Self::Api(_) => "manager.protocol",
            Self::Manager { code, .. } => code.as_str(),
            Self::Platform(_) => "host.platform",
            Self::Contract(error) => error.code(),
            Self::KeepEnded(_) => "keep.ended",
            Self::Relay(_) => "relay.protocol",
            Self::Tls(error) => error.code(),
            Self::Session(refusal) => refusal.code(),
            Self::Input(_) => "agent.input",
            Self::Output(_) => "agent.output",
            Self::Random => "agent.random",
            Self::Clock => "agent.clock",
            Self::Cancelled => "agent.cancelled",
            Self::Token(error) => error.code(),
            Self::Lists(_) => "lists.unfetched",
        }
    }

    /// The chance of another try.
    fn chance(&self) -> Chance {
        match self {
            Self::Unreachable(_)
            | Self::Name
            | Self::Unanswered(_)
            | Self::Timeout(_)
            | Self::OuterTls(_)
            | Self::Relay(_) => Chance::SameKeep,
            Self::Manager { status, .. } if *status >= 500 || *status == TOO_MANY_REQUESTS => {
                Chance::SameKeep
            }
            Self::Manager { code, .. } => of_code(code.as_str()),
            Self::KeepEnded(_) | Self::Lists(_) => Chance::AnotherKeep,
            Self::Tls(error) => of_code(error.code()),
            Self::Session(refusal) => of_code(refusal.code()),
            _ => Chance::None,
        }
    }

    /// True if a connection was cut or not made, and another may be: the Keep's state is not to blame.
    pub(crate) fn is_cut(&self) -> bool {
        self.chance() == Chance::SameKeep
    }

    /// True if asking again may help: nothing is wrong with the tenant or the Keep, as far as the host shows.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.chance() != Chance::None
    }

    /// True if the host has no room now, for this tenant or for anybody: it will probably have some later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        /// Names for that.
        const FULL: [&str; 6] = [
            code::CAPACITY,
            code::LIMIT_KEEPS,
            code::LIMIT_VCPUS,
            code::LIMIT_MEMORY,
            code::LIMIT_LAUNCHES,
            code::LIMIT_CONNECTIONS,
        ];
        match self {
            Self::Manager { code, .. } => FULL.contains(&code.as_str()),
            // It has more connections than it can hear.
            Self::Unanswered(_) => true,
            _ => false,
        }
    }

    /// True if the host was asked, and has no platform that the tenant accepts.
    #[must_use]
    pub fn lacks_platform(&self) -> bool {
        matches!(self, Self::Platform(_))
    }

    /// True if the tenant could not write the application's output.
    #[must_use]
    pub fn is_output_failure(&self) -> bool {
        matches!(self, Self::Output(_))
    }

    /// True if the manager refuses a claim: another tenant was faster, or the Keep is more than the token may have. Another
    /// Keep may still be had, unless it is the token that is refused.
    pub(crate) fn is_refused_claim(&self) -> bool {
        matches!(self, Self::Manager { status, .. } if (400..500).contains(status) && *status != UNAUTHORIZED)
    }

    /// True if evidence was judged, and the verdict is against this Keep.
    #[must_use]
    pub fn is_evidence_refusal(&self) -> bool {
        match self {
            // A contract is compared after the verdict; the host's signature comes before there is a Keep.
            Self::Session(refusal) => matches!(
                refusal,
                Refusal::Evidence(_)
                    | Refusal::Unchecked(_)
                    | Refusal::Format(_)
                    | Refusal::State(_)
                    | Refusal::Sequence { .. }
                    | Refusal::Contract(_)
                    | Refusal::Continuity(_)
            ),
            _ => false,
        }
    }
}

/// A host that was not taken. Nothing was released to it.
#[derive(Debug)]
pub struct Refused {
    /// Its name, `HOST:PORT`.
    pub host: String,
    /// Why.
    pub fault: Fault,
    /// The checks of the verifier that failed, with what was expected and what was found.
    pub checks: Vec<Check>,
}

impl Refused {
    /// The name of the reason, stable: [`Fault::code`].
    #[must_use]
    pub fn code(&self) -> &str {
        self.fault.code()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, explained(&self.fault, &self.checks))
    }
}

/// A fault, with what was expected and found by the checks that failed.
pub(crate) fn explained(fault: &Fault, checks: &[Check]) -> String {
    let checks = checks.iter().map(|check| {
        let Check {
            name,
            expected,
            actual,
            ..
        } = check;
        format!("; {name}: expected {expected}, found {actual}")
    });
    format!("{fault}{}", checks.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_name_has_one_retry_rule() {
        for (name, chance) in [
            ("session.truncated", Chance::SameKeep),
            ("session.timeout", Chance::SameKeep),
            ("session.full", Chance::SameKeep),
            ("evidence.busy", Chance::SameKeep),
            ("session.replaced", Chance::AnotherKeep),
            ("session.handshake", Chance::AnotherKeep),
            (code::CAPACITY, Chance::AnotherKeep),
            ("guest.measurement", Chance::None),
            ("evidence.unchecked", Chance::None),
            ("release.refused", Chance::None),
            ("contract.terms", Chance::None),
        ] {
            assert_eq!(of_code(name), chance, "{name}");
        }
    }

    #[test]
    fn an_error_name_is_treated_alike_from_any_source() {
        let fault = |status, code| Fault::Manager {
            status,
            code: Name::cleaned(code),
            sentence: String::new(),
        };
        let here = Fault::Session(Refusal::Truncated);
        assert!(here.is_cut() && here.is_temporary());
        let busy = Fault::Session(Refusal::Busy);
        assert!(busy.is_cut() && busy.is_temporary());
        let replaced = Fault::Session(Refusal::Replaced);
        assert!(!replaced.is_cut() && replaced.is_temporary());
        let unanswered = Fault::Unanswered(std::io::ErrorKind::ConnectionReset);
        assert!(unanswered.is_cut() && unanswered.is_temporary() && unanswered.is_full());
        let unreachable = Fault::Unreachable(std::io::ErrorKind::ConnectionRefused);
        assert!(unreachable.is_cut() && !unreachable.is_full());
        let gone = Fault::KeepEnded("it ended".to_owned());
        assert!(!gone.is_cut() && gone.is_temporary());
        for (status, code, cut, passing) in [
            (503, code::CAPACITY, true, true),
            (409, code::CAPACITY, false, true),
            (429, "limit.requests", true, true),
            (409, "session.replaced", false, true),
            (409, "keep.taken", false, false),
        ] {
            let fault = fault(status, code);
            assert_eq!(
                (fault.is_cut(), fault.is_temporary()),
                (cut, passing),
                "{code}"
            );
        }
    }
}
