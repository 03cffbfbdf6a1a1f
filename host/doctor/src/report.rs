// SPDX-License-Identifier: Apache-2.0

//! The answers of an examination: a check for each requirement, a report for each backend, and their text.

use std::fmt::Write;

use serde::Serialize;

/// Recommended requirements, without which a Keep is less confined.
pub(crate) const PROTECTIONS: [&str; 3] = [LANDLOCK, USER_NAMESPACES, MSR_FILTERS];
/// Filters of a virtual machine's registers.
pub(crate) const MSR_FILTERS: &str = "MSR filters in KVM";
/// Landlock.
pub(crate) const LANDLOCK: &str = "Landlock";
/// Namespaces of this user's own.
pub(crate) const USER_NAMESPACES: &str = "user namespaces";

/// Version of the JSON form; it grows when a reader of the old form would misunderstand the new one.
pub const SCHEMA: u32 = 1;

/// The answer to a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Fulfilled.
    Ok,
    /// Not fulfilled.
    Missing,
    /// Could not be determined.
    Unknown,
}

/// One requirement of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The requirement.
    pub name: &'static str,
    /// The answer.
    pub state: State,
    /// Without it the backend does not work; otherwise it works less well.
    pub required: bool,
    /// The finding, in words.
    pub found: String,
    /// The next command to type, or step to take, if it is not fulfilled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Check {
    /// Makes it required, unless its state is unknown: then another check will show it.
    pub(crate) fn required_unless_unknown(self) -> Self {
        Self {
            required: self.state != State::Unknown,
            ..self
        }
    }
}

/// A backend and its requirements.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers, each a field of the JSON form"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendReport {
    /// The name on the command line.
    pub name: &'static str,
    /// A description: what it is and what it protects.
    pub about: &'static str,
    /// True if it protects the application from the host.
    pub protects_application: bool,
    /// True if this build contains it.
    pub built_in: bool,
    /// True if this machine fulfils every requirement.
    pub supported: bool,
    /// True if a Keep of this kind can be launched here and now: supported and built in.
    pub usable: bool,
    /// The requirements.
    pub checks: Vec<Check>,
}

impl BackendReport {
    /// Returns the protections that this backend lacks; empty if nothing is missing.
    pub fn weaknesses(&self) -> Vec<&'static str> {
        let weaker = |check: &&Check| {
            !check.required && check.state == State::Missing && PROTECTIONS.contains(&check.name)
        };
        self.checks
            .iter()
            .filter(weaker)
            .map(|check| check.name)
            .collect()
    }

    /// The first requirement that is in the way.
    pub fn obstacle(&self) -> Option<&Check> {
        self.checks
            .iter()
            .find(|check| check.required && check.state == State::Missing)
    }
}

/// The whole examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub version: &'static str,
    /// The processor's name.
    pub cpu: String,
    /// The kernel's release.
    pub kernel: String,
    /// The backend that `enarx run` uses by default; `None` if no Keep can be launched here.
    pub auto: Option<&'static str>,
    /// Every backend, the best first.
    pub backends: Vec<BackendReport>,
}

impl Report {
    /// The backend of that name.
    pub fn backend(&self, name: &str) -> Option<&BackendReport> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// The report as a tree of text.
    pub fn to_tree(&self) -> String {
        let mut text = format!(
            "enarx {} on {}, Linux {}\n",
            self.version, self.cpu, self.kernel
        );
        let auto = self.auto.and_then(|name| self.backend(name));
        // Writing to a string does not fail.
        let _ = match auto {
            Some(backend) => writeln!(
                text,
                "`enarx run` uses {} here, unless --backend says otherwise ({})",
                backend.name, backend.about
            ),
            None => writeln!(text, "`enarx run` cannot launch a Keep here"),
        };
        for backend in &self.backends {
            let weaknesses = backend.weaknesses();
            let verdict = match (backend.usable, backend.built_in) {
                (true, _) if weaknesses.is_empty() => "usable".to_owned(),
                (true, _) => format!("usable, weaker without {}", weaknesses.join(" and ")),
                (false, false) if backend.supported => {
                    "supported by this machine, not built into this command".to_owned()
                }
                (false, false) => "not usable, and not built into this command".to_owned(),
                (false, true) => "not usable".to_owned(),
            };
            let _ = writeln!(text, "\n{}: {verdict} ({})", backend.name, backend.about);
            let last = backend.checks.len().saturating_sub(1);
            for (index, check) in backend.checks.iter().enumerate() {
                let (branch, below) = if index == last {
                    ("└─", "  ")
                } else {
                    ("├─", "│ ")
                };
                let state = match check.state {
                    State::Ok => "ok     ",
                    State::Missing => "missing",
                    State::Unknown => "unknown",
                };
                let _ = writeln!(text, "{branch} {state}  {}: {}", check.name, check.found);
                if let Some(next) = &check.next {
                    let _ = writeln!(text, "{below}          next: {next}");
                }
            }
        }
        text
    }
}

/// A requirement; `fulfilled` is `None` if that could not be determined.
pub(crate) fn check(
    name: &'static str,
    fulfilled: Option<bool>,
    found: impl Into<String>,
    next: impl Into<String>,
) -> Check {
    let state = match fulfilled {
        Some(true) => State::Ok,
        Some(false) => State::Missing,
        None => State::Unknown,
    };
    Check {
        name,
        state,
        required: true,
        found: found.into(),
        next: (state != State::Ok).then(|| next.into()),
    }
}

/// The same, if the backend works without it, though less well.
pub(crate) fn advice(check: Check) -> Check {
    Check {
        required: false,
        ..check
    }
}
