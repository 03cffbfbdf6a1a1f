// SPDX-License-Identifier: Apache-2.0

//! The Keep's log on the host: its lines, and its last messages. It never waits for a reader: lines
//! that cannot be written at once, or come too fast, are dropped, counted and reported.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::rate::{Bucket, Rate};
use super::streams::Stream;

/// Longest line that the host takes into its log, in bytes.
pub const MAX_LINE: u32 = 4096;
/// Burst of bytes that the log accepts: several backtraces.
const RATE: Rate = Rate {
    burst: 256 << 10,
    per_second: 64 << 10,
};

/// Interval for reporting dropped lines; also reported at the end.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// The log of one Keep.
#[derive(Debug)]
pub struct Log {
    stream: Stream,
    state: Mutex<State>,
    /// Bytes that were left out since it was last said.
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    bucket: Bucket,
    /// The text written last does not end a line.
    in_line: bool,
    /// When it was last said that something was left out.
    said: Option<Instant>,
}

impl Log {
    /// The log on a descriptor for standard error.
    pub fn new(stderr: OwnedFd) -> Self {
        let bucket = Bucket::new(RATE, Instant::now());
        Self {
            stream: Stream::output(stderr),
            state: Mutex::new(State {
                bucket,
                in_line: false,
                said: None,
            }),
            lost: AtomicU64::new(0),
        }
    }

    /// Writes a line of the Keep. Control characters could control a terminal, so they are replaced.
    pub fn line(&self, bytes: &[u8]) {
        let mut line = String::from("enarx: keep: ");
        line.extend(String::from_utf8_lossy(bytes).chars().map(visible));
        line.push('\n');
        let mut state = self.lock();
        self.end_line(&mut state);
        self.write(&mut state, line.as_bytes());
    }

    /// Writes last messages of the Keep's C library, which come outside the ring and in pieces of
    /// lines.
    pub fn words(&self, bytes: &[u8]) {
        let text: Vec<u8> = bytes
            .iter()
            .map(|&byte| match byte {
                b'\n' => byte,
                byte if byte.is_ascii_graphic() => byte,
                _ => b' ',
            })
            .collect();
        self.write(&mut self.lock(), &text);
    }

    /// Ends the line that the Keep did not end itself, because another of its threads ended all of
    /// them, and reports dropped lines. A log in which a thread hangs is not touched.
    pub fn finish(&self) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.end_line(&mut state);
        self.report_lost(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters are consistent whatever happened to the thread that held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_line(&self, state: &mut State) {
        if state.in_line && self.put(state, b"\n") == 1 {
            state.in_line = false;
        }
    }

    /// Writes text of the Keep, within its rate.
    fn write(&self, state: &mut State, text: &[u8]) {
        let now = Instant::now();
        let mut lost = text.len();
        if u32::try_from(lost).is_ok_and(|count| state.bucket.take(count, now)) {
            let due = |said: Instant| now.saturating_duration_since(said) >= LOST_INTERVAL;
            if state.said.is_none_or(due) {
                self.report_lost(state);
            }
            lost -= self.put(state, text);
        }
        self.lost.fetch_add(lost as u64, Ordering::Relaxed);
    }

    /// Reports dropped lines, if this can be written now.
    fn report_lost(&self, state: &mut State) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let mut text = String::from(if state.in_line { "\n" } else { "" });
        let _ = writeln!(
            text,
            "enarx: {lost} bytes of the Keep's log were dropped: they came too fast, or nobody read them"
        );
        // It is written as a whole or not at all: a pipe takes this much atomically.
        if self.put(state, text.as_bytes()) == text.len() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
            state.said = Some(Instant::now());
        }
    }

    /// Writes what can be written at once, and returns how many bytes that was.
    fn put(&self, state: &mut State, text: &[u8]) -> usize {
        let mut rest = text;
        while !rest.is_empty() {
            match self.stream.write_now(rest) {
                Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or(&[]),
                // There is no room now, or there will never be any.
                _ => break,
            }
        }
        let written = text.len() - rest.len();
        if let Some(last) = text.get(..written).and_then(<[u8]>::last) {
            state.in_line = *last != b'\n';
        }
        written
    }
}

fn visible(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use super::*;

    /// The present contents of the pipe.
    fn take(reader: &mut PipeReader) -> String {
        let mut bytes = vec![0; 1 << 20];
        let count = reader.read(&mut bytes).unwrap();
        bytes.truncate(count);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_slow_reader_delays_nobody_and_learns_what_it_missed() {
        let (mut reader, writer) = pipe().unwrap();
        let log = Log::new(writer.into());
        let line = [b'x'; MAX_LINE as usize - 13 - 1];
        // A pipe holds 64 KiB (pipe(7)): 16 lines of 4096 bytes.
        for _ in 0..20 {
            log.line(&line);
        }
        let mut all = take(&mut reader);
        while all.len() < 16 * 4096 {
            all += &take(&mut reader);
        }
        assert_eq!(all.lines().count(), 16);
        log.line(b"again");
        let said = "enarx: 16384 bytes of the Keep's log were dropped: they came too fast, or nobody read them\n";
        assert_eq!(take(&mut reader), format!("{said}enarx: keep: again\n"));
    }

    #[test]
    fn a_flood_is_limited_to_its_rate_and_counted_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Log::new(file.reopen().unwrap().into());
        let start = Instant::now();
        for _ in 0..1000 {
            log.line(&[b'x'; 4000]);
        }
        log.finish();
        let seconds = start.elapsed().as_secs() + 1;
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(
            text.len() as u64 <= u64::from(RATE.burst) + seconds * u64::from(RATE.per_second + 200)
        );
        let (lines, said): (Vec<_>, Vec<_>) = text
            .lines()
            .partition(|line| line.starts_with("enarx: keep: x"));
        let lost: usize = said
            .iter()
            .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(lost, 4014 * (1000 - lines.len()));
        assert!(said.len() as u64 <= seconds + 1, "{said:?}");
    }

    #[test]
    fn a_full_disk_and_a_closed_pipe_are_not_errors() {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let (reader, closed) = pipe().unwrap();
        drop(reader);
        for fd in [full.into(), closed.into()] {
            let log = Log::new(fd);
            log.line(b"x");
            log.words(b"y");
            log.finish();
        }
    }
}
