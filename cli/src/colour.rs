// SPDX-License-Identifier: Apache-2.0

//! Colours of verdicts and of `enarx doctor`: for words that state a result, only on a terminal. The text is
//! the same without them, and hostile characters in it have been replaced before.

use std::env;
use std::io::{self, IsTerminal};

use anstyle::{AnsiColor, Style};

/// The words at the beginning of a line, after a tree's branches, or after the name of a kind of Keep. Longer
/// words come before those with which they begin.
const WORDS: [(&str, AnsiColor); 16] = [
    ("pass", AnsiColor::Green),
    ("valid", AnsiColor::Green),
    ("usable", AnsiColor::Green),
    ("ok", AnsiColor::Green),
    ("FAIL", AnsiColor::Red),
    ("invalid", AnsiColor::Red),
    ("not usable", AnsiColor::Red),
    ("missing", AnsiColor::Red),
    ("warn", AnsiColor::Yellow),
    ("warning", AnsiColor::Yellow),
    ("degraded", AnsiColor::Yellow),
    ("simulated", AnsiColor::Yellow),
    ("accepted, but NOT compared", AnsiColor::Yellow),
    ("supported by this machine", AnsiColor::Yellow),
    ("unknown", AnsiColor::Yellow),
    ("not checked", AnsiColor::BrightBlack),
];

/// True if standard output is a terminal that shows colours, and they are not
/// disabled (<https://no-color.org>).
pub fn are_enabled() -> bool {
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// The text with colours.
pub fn coloured(text: &str) -> String {
    text.split_inclusive('\n').map(coloured_line).collect()
}

fn coloured_line(line: &str) -> String {
    let start = line
        .find(|c: char| !matches!(c, ' ' | '│' | '├' | '└' | '─'))
        .unwrap_or(line.len());
    // The line about a kind of Keep begins with its name.
    let behind_name = if start == 0 {
        line.find(": ").map(|colon| colon + 2)
    } else {
        None
    };
    let places = [Some(start), behind_name].into_iter().flatten();
    for place in places {
        let (before, rest) = line.split_at(place);
        for (word, colour) in WORDS {
            let Some(behind) = rest.strip_prefix(word) else {
                continue;
            };
            if behind.starts_with(|c: char| c.is_alphanumeric()) {
                continue;
            }
            let style = Style::new().fg_color(Some(colour.into()));
            return format!("{before}{style}{word}{style:#}{behind}");
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_of_a_status_are_coloured() {
        for (line, word) in [
            ("valid: AMD SEV-SNP under policy x at 2026\n", Some("valid")),
            (
                "invalid: Intel TDX under policy x at 2026\n",
                Some("invalid"),
            ),
            (
                "       FAIL  crl.fresh: expected x, found y\n",
                Some("FAIL"),
            ),
            (
                "not checked  chip.denied: the policy names none\n",
                Some("not checked"),
            ),
            ("warning: snp: any guest passes\n", Some("warning")),
            ("├─ ok       /dev/kvm: readable\n", Some("ok")),
            ("└─ missing  /dev/sev: does not exist", Some("missing")),
            (
                "kvm: usable, weaker without Landlock (virtual machine)\n",
                Some("usable"),
            ),
            ("snp: not usable (AMD SEV-SNP)\n", Some("not usable")),
            (
                "│           next: nothing: the processor comes first\n",
                None,
            ),
            ("             run `enarx certs fetch`\n", None),
            ("passing by\n", None),
            ("enarx 0.8.0 on a processor, Linux 6\n", None),
            ("\n", None),
        ] {
            let coloured = coloured(line);
            let Some(word) = word else {
                assert_eq!(coloured, line);
                continue;
            };
            let (before, rest) = coloured.split_once('\x1b').expect(line);
            let (_, rest) = rest.split_once('m').unwrap();
            let (inner, behind) = rest.split_once("\x1b[0m").unwrap();
            assert_eq!(inner, word, "{line}");
            assert_eq!(format!("{before}{inner}{behind}"), line);
        }
    }
}
