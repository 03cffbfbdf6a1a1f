// SPDX-License-Identifier: Apache-2.0

//! Files and secrets delivered with a program: it can read but not change them, and is free around them.

use std::time::Duration;

use enarx_configuration::{Configuration, Directory};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::TrustedTime;
use enarx_wasi::context::{Context, Secrets, Surroundings};
use enarx_wasi::error::Errno;
use enarx_wasi::fs::{Descriptor, OpenOptions, TimeChange};
use zeroize::Zeroizing;

const READ: OpenOptions = OpenOptions {
    read: true,
    write: false,
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    mutate: false,
    follow: true,
};

const CREATE: OpenOptions = OpenOptions {
    write: true,
    create: true,
    ..READ
};

/// A program's context with a file, a secret file and a secret variable.
fn context() -> Context {
    let (port, _host) = InProcess::start(World::default());
    let configuration = Configuration {
        env: vec![
            ("PLAIN".to_owned(), "plain".to_owned()),
            ("KEY".to_owned(), "overridden".to_owned()),
        ],
        ..Configuration::default()
    };
    let surroundings = Surroundings {
        files: vec![("etc/app/motd".to_owned(), b"hello".to_vec())],
        secrets: Secrets {
            variables: vec![("KEY".to_owned(), Zeroizing::new("secret".to_owned()))],
            files: vec![(
                "run/secrets/key".to_owned(),
                Zeroizing::new(b"secret".to_vec()),
            )],
        },
        ..Surroundings::default()
    };
    Context::new(&port, &configuration, &Budget::new(1 << 30), surroundings).unwrap()
}

fn content(root: &Descriptor, path: &str) -> Vec<u8> {
    let mut buffer = [0; 64];
    let file = root.open(path, READ).unwrap();
    let count = file.read_at(0, &mut buffer).unwrap();
    buffer[..count].to_vec()
}

#[test]
fn secrets_are_variables_and_files() {
    let context = context();
    let variables = [("PLAIN", "plain"), ("KEY", "secret")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(context.environment, variables);
    let root = &context.preopens[0].directory;
    assert_eq!(content(root, "run/secrets/key"), b"secret");
    assert_eq!(content(root, "etc/app/motd"), b"hello");
}

#[test]
fn nothing_is_delivered_into_a_directory_of_the_host() {
    let (port, _host) = InProcess::start(World {
        directories: 1,
        ..World::default()
    });
    let configuration = Configuration {
        directories: vec![Directory {
            guest_path: "/data".to_owned(),
            read_only: false,
        }],
        ..Configuration::default()
    };
    let context = |surroundings| {
        let budget = Budget::new(1 << 30);
        Context::new(&port, &configuration, &budget, surroundings).map(drop)
    };
    assert_eq!(context(Surroundings::default()), Ok(()));
    let files = vec![("etc/app/motd".to_owned(), b"hello".to_vec())];
    let secret = ("key".to_owned(), Zeroizing::new(b"secret".to_vec()));
    let secrets = Secrets {
        files: vec![secret],
        ..Secrets::default()
    };
    for surroundings in [
        Surroundings {
            files,
            ..Surroundings::default()
        },
        Surroundings {
            secrets,
            ..Surroundings::default()
        },
    ] {
        assert_eq!(context(surroundings), Err(Errno::NotSupported));
    }
}

#[test]
fn nothing_changes_what_was_delivered() {
    let context = context();
    let root = &context.preopens[0].directory;
    drop(root.open("new", CREATE).unwrap());
    let refused = Some(Errno::NotPermitted);
    for path in ["etc/app/motd", "run/secrets/key"] {
        for options in [
            OpenOptions {
                write: true,
                ..READ
            },
            OpenOptions {
                truncate: true,
                ..READ
            },
            CREATE,
        ] {
            assert_eq!(root.open(path, options).err(), refused, "{path}");
        }
        let exclusive = OpenOptions {
            exclusive: true,
            ..CREATE
        };
        assert_eq!(root.open(path, exclusive).err(), Some(Errno::Exists));
        let file = root.open(path, READ).unwrap();
        let (keep, now) = (TimeChange::Keep, TimeChange::Now);
        assert_eq!(file.set_times(keep, now).err(), refused);
        assert_eq!(root.set_times_at(path, true, keep, now).err(), refused);
        assert_eq!(root.unlink(path).err(), refused);
        assert_eq!(root.rename(path, root, "elsewhere").err(), refused);
        assert_eq!(root.rename("new", root, path).err(), refused);
        assert_eq!(root.link(path, false, root, "other").err(), refused);
    }
    // Nor through a directory that leads to it.
    for path in ["etc", "etc/app", "run/secrets"] {
        assert_eq!(
            root.rename(path, root, "elsewhere").err(),
            refused,
            "{path}"
        );
        assert_eq!(root.remove_directory(path).err(), Some(Errno::NotEmpty));
    }
    // Nor through a symbolic link.
    root.symlink("etc/app/motd", "link").unwrap();
    let write = OpenOptions {
        write: true,
        ..READ
    };
    assert_eq!(root.open("link", write).err(), refused);
    root.unlink("link").unwrap();
    assert_eq!(content(root, "etc/app/motd"), b"hello");
    assert_eq!(content(root, "run/secrets/key"), b"secret");
}

#[test]
fn a_program_can_write_around_delivered_files() {
    let context = context();
    let root = &context.preopens[0].directory;
    for path in ["new", "etc/new", "etc/app/new"] {
        let file = root.open(path, CREATE).unwrap();
        assert_eq!(file.write_at(0, b"mine").unwrap(), 4);
        assert_eq!(content(root, path), b"mine");
        root.rename(path, root, "moved").unwrap();
        root.unlink("moved").unwrap();
    }
    root.create_directory("etc/folder").unwrap();
    root.rename("etc/folder", root, "folder").unwrap();
    root.remove_directory("folder").unwrap();
}

/// Nor does the host decide the time for judging certificates if a tenant has given one.
#[test]
fn certificates_are_judged_by_the_time_of_the_tenant() {
    const TOLD: Duration = Duration::from_secs(1_000_000_000);
    let (port, _host) = InProcess::start(World::default());
    let context = |told| {
        let surroundings = Surroundings {
            told,
            ..Surroundings::default()
        };
        let budget = Budget::new(1 << 30);
        Context::new(&port, &Configuration::default(), &budget, surroundings).unwrap()
    };
    let told = context(Some(TrustedTime::now(TOLD))).clocks;
    let judged = told.for_certificates().unwrap();
    assert!((TOLD..TOLD + Duration::from_mins(1)).contains(&judged));
    // The program's own clock is still the host's.
    let host = Duration::from_nanos(told.wall().unwrap());
    assert!(host.abs_diff(judged) > Duration::from_hours(1), "{host:?}");
    let without = context(None).clocks.for_certificates().unwrap();
    assert!(without.abs_diff(host) < Duration::from_mins(1));
}
