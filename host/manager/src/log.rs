// SPDX-License-Identifier: Apache-2.0

//! The last log lines of a Keep process. A Keep may have taken it over, so they are bounded, and untrusted
//! data for readers.

use enarx_manager_api::limit;
use std::collections::VecDeque;

/// The last [`limit::LOG`] bytes that were written.
#[derive(Debug, Default)]
pub(crate) struct Log(VecDeque<u8>);

impl Log {
    /// Appends bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let beyond = self.0.len().saturating_sub(limit::LOG);
        self.0.drain(..beyond);
    }

    /// All bytes, as text.
    pub(crate) fn text(&self) -> String {
        let (first, second) = self.0.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept() {
        let mut log = Log::default();
        for number in 0..20_000 {
            log.push(format!("{number}\n").as_bytes());
        }
        let text = log.text();
        assert_eq!(text.len(), limit::LOG);
        assert!(text.ends_with("19998\n19999\n"));
        log.push(&vec![0xff; 100_000]);
        assert!(log.text().chars().all(|c| c == char::REPLACEMENT_CHARACTER));
    }
}
