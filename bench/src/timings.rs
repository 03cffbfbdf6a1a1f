// SPDX-License-Identifier: Apache-2.0

//! The data of one run: the report that `enarx run --report-to` writes, and the phases of the runtime inside
//! the Keep, which it can tell in its log only.

use serde::Deserialize;

use crate::error::Error;

/// Phases and counts of one run, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Phase and its length in microseconds. `runtime …` phases lie within the last `vmm …` phase.
    pub phases: Vec<(String, f64)>,
    /// The counted events, and how often each occurred.
    pub counts: Vec<(String, f64)>,
}

/// The report of the command, as far as it is used here.
#[derive(Deserialize)]
struct Report {
    phases: Vec<Phase>,
    counters: Vec<Counter>,
}

#[derive(Deserialize)]
struct Phase {
    name: String,
    microseconds: f64,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    count: u64,
}

impl Timings {
    /// Takes a report, and the phases of the runtime from the Keep's log; all else there is the program's.
    pub fn read(report: &[u8], log: &str) -> Result<Self, Error> {
        let report: Report = serde_json::from_slice(report)
            .map_err(|error| Error::Wrong(format!("the report cannot be read: {error}")))?;
        let own = report
            .phases
            .into_iter()
            .map(|phase| (format!("vmm {}", phase.name), phase.microseconds));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let counts = report
            .counters
            .into_iter()
            .map(|counter| (counter.name, counter.count as f64));
        Ok(Self {
            phases: log.lines().filter_map(runtime_phase).chain(own).collect(),
            counts: counts.collect(),
        })
    }

    /// The length of a phase in microseconds.
    pub fn phase(&self, name: &str) -> Option<f64> {
        find(&self.phases, name)
    }

    /// A count.
    pub fn count(&self, name: &str) -> Option<f64> {
        find(&self.counts, name)
    }

    /// How often all events occurred whose name begins so.
    pub fn occurred(&self, prefix: &str) -> f64 {
        let named = self.counts.iter();
        let named = named.filter(|(name, _)| name.starts_with(prefix));
        named.map(|(_, count)| count).sum()
    }

    /// Microseconds of all phases whose name begins so.
    pub fn total(&self, prefix: &str) -> f64 {
        self.phases
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, length)| length)
            .sum()
    }
}

fn find(all: &[(String, f64)], name: &str) -> Option<f64> {
    all.iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| *value)
}

/// The phase that the runtime tells in a line: `enarx-runtime: NAME MICROSECONDS us`.
fn runtime_phase(line: &str) -> Option<(String, f64)> {
    let phase = line.strip_prefix("enarx-runtime: ")?.strip_suffix(" us")?;
    let (name, length) = phase.rsplit_once(' ')?;
    Some((format!("runtime {name}"), length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_and_a_log_are_read() {
        let report = br#"{"phases":[{"name":"plan","microseconds":705.5},{"name":"keep","microseconds":45530}],
            "counters":[{"name":"system calls","count":47}],"confinement":[],"corrections":[],"left_behind":[]}"#;
        let timings = Timings::read(
            report,
            "something of the program's: 7 us\n\
             enarx-runtime: start 179 us\n\
             enarx-runtime: compile 7926 us\n\
             enarx-runtime: 5 us\n\
             enarx-runtime: start soon us\n",
        )
        .unwrap();
        let expected = [
            ("runtime start", 179.0),
            ("runtime compile", 7926.0),
            ("vmm plan", 705.5),
            ("vmm keep", 45530.0),
        ];
        assert_eq!(
            timings.phases,
            expected.map(|(name, length)| (name.to_owned(), length))
        );
        assert_eq!(timings.count("system calls"), Some(47.0));
        assert_eq!(timings.count("exits"), None);
        assert_eq!(timings.phase("vmm keep"), Some(45530.0));
        assert!((timings.total("runtime ") - 8105.0).abs() < 1e-6);
    }

    #[test]
    fn an_invalid_report_is_an_error() {
        for report in [
            "",
            "{}",
            "[]",
            r#"{"phases":[{"name":"plan"}],"counters":[]}"#,
        ] {
            assert!(Timings::read(report.as_bytes(), "").is_err(), "{report}");
        }
    }
}
