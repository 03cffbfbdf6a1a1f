// SPDX-License-Identifier: Apache-2.0

//! The body of every error (RFC 9457). `type` is left out, which means `about:blank`: `code` is the stable name.

use serde::{Deserialize, Serialize};

/// An error, for programs and for people. A client cleans its text before it prints it: a manager may write anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Problem {
    /// The status, in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// One sentence.
    pub detail: String,
    /// The name of the refusal, stable: one of [`crate::code`] or of `enarx_contract::ContractError`.
    pub code: String,
    /// The expected value.
    pub expected: Option<String>,
    /// The value that was found instead.
    pub actual: Option<String>,
    /// The remedy.
    pub fix: Option<String>,
}

impl std::fmt::Display for Problem {
    /// The sentence, what was expected and found, the remedy and the name, in printable ASCII.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use enarx_contract::canonical::printable;
        let text = |text: &str| printable(text, crate::limit::TEXT);
        f.write_str(&text(&self.detail))?;
        for (word, part) in [("expected", &self.expected), ("found", &self.actual)] {
            if let Some(part) = part {
                write!(f, "; {word} {}", text(part))?;
            }
        }
        if let Some(fix) = &self.fix {
            write!(f, "; {}", text(fix))?;
        }
        write!(f, " ({})", text(&self.code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_problems_do_not_act_on_a_terminal() {
        let problem = Problem {
            title: "Conflict".into(),
            status: 409,
            detail: "no\u{1b}[2J".into(),
            code: "keep.taken".into(),
            expected: Some("a".into()),
            actual: Some("b\n".into()),
            fix: Some("c".repeat(1000)),
        };
        let text = problem.to_string();
        assert!(
            text.starts_with("no?[2J; expected a; found b?; c"),
            "{text}"
        );
        assert!(text.ends_with("c (keep.taken)"), "{text}");
        assert!(text.len() < 600);
    }
}
