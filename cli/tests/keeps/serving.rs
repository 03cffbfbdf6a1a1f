// SPDX-License-Identifier: Apache-2.0

//! A command that serves HTTP, `enarx serve` or `enarx deploy`: started, read until it names its address, and ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for its end.
const PATIENCE: Duration = Duration::from_mins(1);

/// The command. Ended when dropped.
pub struct Serving {
    child: Child,
    begun: String,
    said: Option<JoinHandle<String>>,
}

impl Serving {
    /// Starts it, and waits until it says that it serves.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut begun = String::new();
        loop {
            let start = begun.len();
            if stderr.read_line(&mut begun).unwrap() == 0 {
                let status = child.wait().unwrap();
                panic!("{status}: {begun}");
            }
            if begun[start..].starts_with("enarx: serving HTTP") {
                break;
            }
        }
        let said = thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        Self {
            child,
            begun,
            said: Some(said),
        }
    }

    /// All of its output until it began to serve.
    pub fn begun(&self) -> &str {
        &self.begun
    }

    /// The address and port at which it says that it serves.
    pub fn place(&self) -> &str {
        let (_, url) = self.begun.rsplit_once("://").unwrap();
        let (place, _) = url.split_once('/').unwrap();
        place
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: the exit code, and its output since it began to serve.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + PATIENCE;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < end, "the command does not end");
            thread::sleep(Duration::from_millis(10));
        };
        (code, self.said.take().unwrap().join().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        // A test that fails because the command ended shows the reason.
        if let (true, Some(said)) = (thread::panicking(), self.said.take()) {
            let said = said.join().unwrap_or_default();
            let _ = writeln!(io::stderr(), "{}{status:?}: {said}", self.begun);
        }
    }
}
