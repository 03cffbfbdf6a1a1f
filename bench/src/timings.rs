//! Reads what `enarx run --timings` prints on standard error.

/// Phases and counts of one run, in the order in which they were printed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timings {
    /// Phase and its length in microseconds. `runtime …` phases lie within the last `vmm …` phase.
    pub phases: Vec<(String, f64)>,
    /// What was counted, and how often.
    pub counts: Vec<(String, f64)>,
}

impl Timings {
    /// Reads the lines that tell of timings; all others are the program's.
    pub fn parse(stderr: &str) -> Self {
        let mut timings = Self::default();
        for line in stderr.lines() {
            timings.line(line);
        }
        timings
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("enarx-runtime: ") {
            self.microseconds("runtime", rest);
        } else if let Some(rest) = line.strip_prefix("enarx: vmm: ") {
            self.microseconds("vmm", rest);
        } else if let Some(rest) = line.strip_prefix("enarx: count: ") {
            if let Some((name, count)) = split_number(rest) {
                self.counts.push((name.to_owned(), count));
            }
        } else if let Some(rest) = line.strip_prefix("enarx: timings: ") {
            for phase in rest.split(", ") {
                if let Some((name, length)) = phase.rsplit_once(' ')
                    && let Some(length) = duration(length)
                {
                    self.phases.push((format!("vmm {name}"), length));
                }
            }
        }
    }

    fn microseconds(&mut self, who: &str, rest: &str) {
        if let Some((name, length)) = rest.strip_suffix(" us").and_then(split_number) {
            self.phases.push((format!("{who} {name}"), length));
        }
    }

    /// The length of a phase in microseconds.
    pub fn phase(&self, name: &str) -> Option<f64> {
        find(&self.phases, name)
    }

    /// A count.
    pub fn count(&self, name: &str) -> Option<f64> {
        find(&self.counts, name)
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

/// A name and the number that follows it.
fn split_number(text: &str) -> Option<(&str, f64)> {
    let (name, number) = text.rsplit_once(' ')?;
    Some((name, number.parse().ok()?))
}

/// A duration as Rust prints it for debugging, in microseconds.
fn duration(text: &str) -> Option<f64> {
    // "s" ends them all: it comes last.
    let units = [("ns", 0.001), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)];
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machines_timings_are_read() {
        let timings = Timings::parse(
            "enarx: backend kvm: protects the host (--quiet silences this)\n\
             something of the program's: 7 us\n\
             enarx-runtime: start 179 us\n\
             enarx-runtime: compile 7926 us\n\
             enarx: vmm: plan 705 us\n\
             enarx: vmm: keep 45530 us\n\
             enarx: count: system calls 47\n\
             enarx: count: instructions emulated by KVM 28988\n",
        );
        let expected = [
            ("runtime start", 179.0),
            ("runtime compile", 7926.0),
            ("vmm plan", 705.0),
            ("vmm keep", 45530.0),
        ];
        assert_eq!(
            timings.phases,
            expected.map(|(name, length)| (name.to_owned(), length))
        );
        assert_eq!(timings.count("system calls"), Some(47.0));
        assert_eq!(timings.count("instructions emulated by KVM"), Some(28988.0));
        assert_eq!(timings.count("exits"), None);
        assert_eq!(timings.phase("vmm keep"), Some(45530.0));
        assert!((timings.total("runtime ") - 8105.0).abs() < 1e-6);
    }

    #[test]
    fn a_processs_timings_are_read() {
        let timings =
            Timings::parse("enarx: timings: prepare 8.6ms, start and confine 950.5µs, run 1.5s\n");
        assert_eq!(timings.phase("vmm prepare"), Some(8600.0));
        assert_eq!(timings.phase("vmm start and confine"), Some(950.5));
        assert_eq!(timings.phase("vmm run"), Some(1_500_000.0));
    }

    #[test]
    fn what_is_not_a_timing_is_left_alone() {
        for text in [
            "",
            "enarx-runtime: start soon us",
            "enarx-runtime: 5 us",
            "enarx: vmm: us",
            "enarx: count: system calls many",
            "enarx: timings: prepare, run 5 minutes",
        ] {
            assert_eq!(Timings::parse(text), Timings::default(), "{text}");
        }
    }
}
