// SPDX-License-Identifier: Apache-2.0

//! The messages between the manager and the process of one Keep: lines of JSON over a Unix stream socket, which is the
//! standard input of the process, its *control socket*. For both ends.
//!
//! 1. The manager sends one [`Order`], then nothing more.
//! 2. The process binds the door, listens on it, and launches the Keep. Once the virtual machine runs, it sends
//!    [`Report::Ready`].
//! 3. When the Keep has ended, it sends [`Report::Ended`] and ends itself.
//!
//! **If the control socket ends, the process ends at once**, and the Keep with it: then the manager has ended. It also
//! asks for SIGKILL when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)); a manager that ended before that
//! has closed the socket. To end a Keep, the manager sends SIGKILL to the process. Its standard error is the Keep's
//! log.
//!
//! The manager trusts the process little, because a Keep may have taken it over: it takes bounded lines of these two
//! forms, in this order, and nothing else.

use enarx_contract::canonical::{Base64, printable};
use enarx_manager_api::limit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Longest line of an order in bytes, without its end: a contract in base64, and room.
pub const MAX_ORDER: usize = 128 << 10;

/// Longest line of a report in bytes, without its end.
pub const MAX_REPORT: usize = 4 << 10;

/// The Keep that the process should serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The contract's canonical bytes. Platform, resources and doors are in it, and their SHA-256 is HOST_DATA of the
    /// launch.
    pub contract: Base64,
    /// The absolute path of the Unix socket that the process binds and listens on: the Keep's door. It fits into
    /// `sun_path`.
    pub door: PathBuf,
}

/// A message of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "event", rename_all = "lowercase")]
pub enum Report {
    /// The virtual machine runs, and its door is open.
    Ready,
    /// The Keep has ended.
    Ended {
        /// A name for programs, or a sentence.
        reason: String,
        /// The exit code, as `enarx run` would have it.
        code: Option<i32>,
    },
}

/// Why the other end of a control socket was not understood.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be read or written.
    #[error("the control socket cannot be used: {0}")]
    System(#[from] io::Error),
    /// It ended.
    #[error("the control socket has ended")]
    End,
    /// A line that is too long.
    #[error("a line on the control socket is longer than {0} bytes")]
    TooLong(usize),
    /// A line of another form.
    #[error("a line on the control socket is not understood: {0}")]
    Form(String),
}

/// The line of `value`, with its end.
///
/// # Errors
/// [`ControlError::TooLong`]; [`ControlError::Form`] for a path that is not UTF-8.
fn line(value: &impl Serialize, limit: usize) -> Result<Vec<u8>, ControlError> {
    let mut line = serde_json::to_vec(value).map_err(|error| form(&error))?;
    if line.len() > limit {
        return Err(ControlError::TooLong(limit));
    }
    line.push(b'\n');
    Ok(line)
}

fn form(error: &serde_json::Error) -> ControlError {
    ControlError::Form(printable(&error.to_string(), limit::TEXT))
}

/// Bytes of a peer, cut into lines.
#[derive(Debug)]
struct Lines {
    bytes: Vec<u8>,
    limit: usize,
}

impl Lines {
    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            if self.bytes.len() > self.limit {
                return Err(ControlError::TooLong(self.limit));
            }
            return Ok(None);
        };
        let rest = self.bytes.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.pop();
        if line.len() > self.limit {
            return Err(ControlError::TooLong(self.limit));
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| form(&error))
    }
}

/// The manager's end: reports out of bytes, without input and output.
#[derive(Debug)]
pub struct Reports(Lines);

impl Default for Reports {
    fn default() -> Self {
        Self(Lines {
            bytes: Vec::new(),
            limit: MAX_REPORT,
        })
    }
}

impl Reports {
    /// Takes bytes of the process. The caller takes all reports out before it gives more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.bytes.extend_from_slice(bytes);
    }

    /// The next report, `None` when its bytes are not complete.
    ///
    /// # Errors
    /// [`ControlError::TooLong`] and [`ControlError::Form`]: the process is not itself any more.
    pub fn take(&mut self) -> Result<Option<Report>, ControlError> {
        self.0.next()
    }
}

impl Order {
    /// The order as the manager sends it.
    ///
    /// # Errors
    /// [`ControlError::TooLong`]; [`ControlError::Form`] for a door whose path is not UTF-8.
    pub fn line(&self) -> Result<Vec<u8>, ControlError> {
        line(self, MAX_ORDER)
    }
}

/// The process' end of the control socket. It blocks.
#[derive(Debug)]
pub struct Control {
    socket: UnixStream,
}

impl Control {
    /// The control socket on standard input, which must not be read otherwise.
    ///
    /// # Errors
    /// The system's.
    pub fn from_stdin() -> io::Result<Self> {
        let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        Ok(Self::new(socket.into()))
    }

    /// The control socket.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    /// A second handle on the same socket, for another thread.
    ///
    /// # Errors
    /// The system's.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.socket.try_clone().map(Self::new)
    }

    /// Waits for the order.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn order(&mut self) -> Result<Order, ControlError> {
        let mut lines = Lines {
            bytes: Vec::new(),
            limit: MAX_ORDER,
        };
        loop {
            if let Some(order) = lines.next()? {
                // The manager says nothing more before its end.
                return if lines.bytes.is_empty() {
                    Ok(order)
                } else {
                    Err(ControlError::Form("more than one order".to_string()))
                };
            }
            if read_some(&mut self.socket, &mut lines.bytes)? == 0 {
                return Err(ControlError::End);
            }
        }
    }

    /// Tells the manager.
    ///
    /// # Errors
    /// [`ControlError::System`] when the manager is gone; [`ControlError::TooLong`] for a reason of thousands of bytes.
    pub fn report(&mut self, report: &Report) -> Result<(), ControlError> {
        Ok(self.socket.write_all(&line(report, MAX_REPORT)?)?)
    }

    /// Returns when the control socket has ended: the process ends then, at once.
    pub fn wait_for_end(&mut self) {
        loop {
            match self.socket.read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A byte that no manager sends, or an error, is an end too.
                _ => return,
            }
        }
    }
}

/// Appends the bytes of one read to `bytes`; 0: the end.
fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(length) => {
                bytes.extend(part.iter().take(length));
                return Ok(length);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            contract: Base64(vec![7; 64 << 10]),
            door: PathBuf::from("/state/keeps/00.sock"),
        }
    }

    fn pair() -> (UnixStream, Control) {
        let (manager, process) = UnixStream::pair().unwrap();
        (manager, Control::new(process))
    }

    #[test]
    fn an_order_arrives_in_pieces_of_any_size() {
        let line = order().line().unwrap();
        for size in [1, 4096, 100_000] {
            let (mut manager, mut control) = pair();
            let line = line.clone();
            let sender = std::thread::spawn(move || {
                for part in line.chunks(size) {
                    manager.write_all(part).unwrap();
                }
                manager
            });
            assert_eq!(control.order().unwrap(), order());
            drop(sender.join().unwrap());
            control.wait_for_end();
        }
    }

    #[test]
    fn malformed_orders_are_refused() {
        type Refused = fn(&ControlError) -> bool;
        let ended: Refused = |error| matches!(error, ControlError::End);
        let too_long: Refused = |error| matches!(error, ControlError::TooLong(MAX_ORDER));
        let other_form: Refused = |error| matches!(error, ControlError::Form(_));
        let line = order().line().unwrap();
        let small = Order {
            contract: Base64(vec![7]),
            ..order()
        };
        let small = String::from_utf8(small.line().unwrap()).unwrap();
        for (sent, refused) in [
            (vec![], ended),
            (line[..line.len() - 1].to_vec(), ended),
            (vec![b'x'; MAX_ORDER + 4096], too_long),
            (b"junk\n".to_vec(), other_form),
            (
                small.replace("\"door\"", "\"x\":1,\"door\"").into(),
                other_form,
            ),
            (small.replace("Bw==", "B").into(), other_form),
            (format!("{small}{small}").into(), other_form),
        ] {
            let (mut manager, mut control) = pair();
            let sender = std::thread::spawn(move || {
                // The other end may have had enough.
                let _ = manager.write_all(&sent);
            });
            let error = control.order().unwrap_err();
            assert!(refused(&error), "{error}");
            drop(control);
            sender.join().unwrap();
        }
        let long = Order {
            contract: Base64(vec![0; MAX_ORDER]),
            ..order()
        };
        assert!(matches!(long.line(), Err(ControlError::TooLong(_))));
    }

    #[test]
    fn reports_arrive_in_pieces_of_any_size() {
        let reports = [
            Report::Ready,
            Report::Ended {
                reason: "a\nb".to_string(),
                code: Some(70),
            },
            Report::Ended {
                reason: String::new(),
                code: None,
            },
        ];
        let (mut manager, mut control) = pair();
        for report in &reports {
            control.report(report).unwrap();
        }
        drop(control);
        let mut sent = Vec::new();
        manager.read_to_end(&mut sent).unwrap();
        assert!(sent.starts_with(b"{\"event\":\"ready\"}\n"));
        for size in [1, 3, sent.len()] {
            let mut reader = Reports::default();
            let mut found = Vec::new();
            for part in sent.chunks(size) {
                reader.push(part);
                while let Some(report) = reader.take().unwrap() {
                    found.push(report);
                }
            }
            assert_eq!(found, reports);
        }
    }

    #[test]
    fn malformed_reports_are_refused() {
        for sent in [
            "junk\n",
            "{}\n",
            "{\"event\":\"Ready\"}\n",
            "{\"event\":\"ended\"}\n",
            "{\"event\":\"ended\",\"reason\":\"a\",\"code\":1.5}\n",
            "{\"event\":\"ended\",\"reason\":\"a\",\"code\":1,\"x\":1}\n",
            "\n",
            &"x".repeat(MAX_REPORT + 1),
            &format!("\"{}\"\n", "x".repeat(MAX_REPORT)),
        ] {
            let mut reader = Reports::default();
            reader.push(sent.as_bytes());
            assert!(reader.take().is_err(), "{sent}");
        }
        let long = Report::Ended {
            reason: "x".repeat(MAX_REPORT),
            code: None,
        };
        let (_manager, mut control) = pair();
        assert!(matches!(
            control.report(&long),
            Err(ControlError::TooLong(_))
        ));
    }
}
