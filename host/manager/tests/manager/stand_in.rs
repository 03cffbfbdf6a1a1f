// SPDX-License-Identifier: Apache-2.0

//! A stand-in for the process of a Keep: it speaks the control protocol, and its Keep echoes what a session sends. The
//! contract's class selects its behaviour.

use enarx_contract::Contract;
use enarx_manager::keep_process::{Control, Report};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{ExitCode, exit};
use std::time::Duration;

/// The argument that requests this.
pub const ARGUMENT: &str = "keep-stand-in";

/// The last bytes of an echo whose peer has ended.
pub const LAST: &[u8] = b"that was all";

/// The bytes that make a Keep end by itself.
pub const EXIT: &[u8] = b"please exit";

/// The longest life of any stand-in, whatever a test does.
const LIFETIME: Duration = Duration::from_mins(2);

fn say(line: &str) {
    let mut errors = std::io::stderr();
    writeln!(errors, "{line}").unwrap();
}

fn ended(reason: &str, code: Option<i32>) -> Report {
    Report::Ended {
        reason: reason.to_string(),
        code,
    }
}

/// Serves a Keep.
pub fn serve() -> ExitCode {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    if getppid() != parent {
        return ExitCode::FAILURE;
    }
    std::thread::spawn(|| {
        std::thread::sleep(LIFETIME);
        exit(1);
    });
    let mut control = Control::from_stdin().unwrap();
    let order = control.order().unwrap();
    let contract = Contract::decode(&order.contract.0).unwrap();
    let door = UnixListener::bind(&order.door).unwrap();
    say(&format!("pid {}", std::process::id()));
    match contract.terms().class.as_str() {
        "mute" => {}
        "junk" => junk(),
        "endless" => endless(),
        "twice" => {
            control.report(&Report::Ready).unwrap();
            control.report(&Report::Ready).unwrap();
        }
        "fails" => {
            say("the contract is another one");
            control
                .report(&ended("contract.host-data\u{1b}[2J", Some(70)))
                .unwrap();
            return ExitCode::from(70);
        }
        "dies" => return ExitCode::from(7),
        "lingers" => control.report(&ended("exited", Some(0))).unwrap(),
        "chatty" => {
            for number in 0..20_000 {
                say(&format!("line {number}"));
            }
            control.report(&Report::Ready).unwrap();
        }
        _ => {
            control.report(&Report::Ready).unwrap();
            let control = control.try_clone().unwrap();
            std::thread::spawn(move || accept(&door, &control));
            // The manager's end is the Keep's.
        }
    }
    control.wait_for_end();
    ExitCode::SUCCESS
}

/// Writes messages to the control socket that no Keep process sends.
fn junk() {
    let socket = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .unwrap();
    UnixStream::from(socket)
        .write_all(b"{\"event\":\"rea\n")
        .unwrap();
}

fn endless() {
    let socket = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .unwrap();
    let mut socket = UnixStream::from(socket);
    // Until the manager closes the socket.
    while socket.write_all(&[b'x'; 4096]).is_ok() {}
}

fn accept(door: &UnixListener, control: &Control) {
    for client in door.incoming().take(100) {
        let mut control = control.try_clone().unwrap();
        let mut client = client.unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 10_000];
            loop {
                match client.read(&mut bytes) {
                    Ok(0) | Err(_) => break,
                    Ok(length) if bytes[..length].ends_with(EXIT) => {
                        client.write_all(&bytes[..length]).unwrap();
                        control.report(&ended("exited", Some(3))).unwrap();
                        exit(3);
                    }
                    Ok(length) => {
                        if client.write_all(&bytes[..length]).is_err() {
                            break;
                        }
                    }
                }
            }
            // A client that was cut does not receive it.
            let _ = client.write_all(LAST);
        });
    }
}
