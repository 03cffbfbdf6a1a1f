// SPDX-License-Identifier: Apache-2.0

//! The directories and standard streams of this machine that a program is given.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use enarx_executor::grant::GrantedDirectory;
use enarx_executor::interfaces::is_listed;
use rustix::fs::{Mode, OFlags};

use crate::failure::{Exit, Failure};
use crate::values::Directory;
use crate::workload::Stream;

/// Opens a directory of `--dir`.
///
/// # Errors
/// [`Exit::Input`].
pub fn open_directory(directory: &Directory) -> Result<GrantedDirectory, Failure> {
    let host = &directory.host;
    let wrong = |cause: &str| {
        // Other commands divide by one colon.
        let one_colon = match host.to_str().and_then(|host| host.split_once(':')) {
            Some((host, guest)) if Path::new(host).is_dir() => {
                format!("; did you mean {host}::{guest}?")
            }
            _ => String::new(),
        };
        Failure::of(
            Exit::Input,
            format!(
                "the directory {} cannot be opened: {cause}: create it, or correct --dir{one_colon}",
                host.display()
            ),
        )
    };
    // A pipe that has this name is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(host, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| wrong(&io::Error::from(error).to_string()))?;
    match opened.metadata() {
        // The process that serves the Keep looks, too.
        Ok(metadata) if is_listed(metadata.dev()).unwrap_or_default() => Err(Failure::of(
            Exit::Input,
            format!(
                "the directory {} is an interface of the kernel, not real files, and gives access to this command, too; correct --dir",
                host.display()
            ),
        )),
        Ok(metadata) if metadata.is_dir() => Ok(GrantedDirectory {
            directory: opened.into(),
            read_only: directory.read_only,
            quota: directory.quota,
        }),
        Ok(_) => Err(wrong("it is not a directory")),
        Err(error) => Err(wrong(&error.to_string())),
    }
}

/// Descriptors for the standard streams of the program.
pub fn standard_streams([stdin, stdout, stderr]: [Stream; 3]) -> Result<[OwnedFd; 3], Failure> {
    let copy = |stream: Stream| {
        let copied = match stream {
            Stream::Null => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from),
            Stream::Stdin => io::stdin().as_fd().try_clone_to_owned(),
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        copied.map_err(|error| {
            Failure::new(format!(
                "a standard stream could not be duplicated: {error}"
            ))
        })
    };
    Ok([copy(stdin)?, copy(stdout)?, copy(stderr)?])
}
