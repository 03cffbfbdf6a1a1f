// SPDX-License-Identifier: Apache-2.0

//! Files and directories; no path leads out of a directory.

use super::*;

#[test]
fn files_are_opened_read_written_and_cut() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let flags = READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let handle = keep.open("sub/../new", flags).unwrap();
    assert_eq!(handle, Handle(3));
    assert_eq!(keep.open("new", flags), Err(Status::Exists));
    let write_at = |offset| Call::WriteAt {
        handle,
        offset,
        length: 3,
    };
    let far = (1 << 32) + 5;
    assert_eq!(keep.call(&write_at(far), b"abc").unwrap().0.value, 3);
    assert_eq!(keep.call(&write_at(0), b"xyz").unwrap().0.value, 3);
    let append = Call::Append { handle, length: 2 };
    assert_eq!(keep.call(&append, b"!!").unwrap().0.value, 2);
    let read_at = |offset| Call::ReadAt {
        handle,
        offset,
        length: 10,
    };
    assert_eq!(keep.call(&read_at(far), b"").unwrap().1, b"abc!!");
    assert_eq!(keep.call(&read_at(far + 5), b"").unwrap().1, b"");
    assert_eq!(
        keep.call(&read_at(u64::MAX), b"").map(drop),
        Err(Status::Invalid)
    );
    assert_eq!(
        keep.call(&write_at(u64::MAX), b"abc").map(drop),
        Err(Status::FileTooLarge)
    );
    keep.call(&Call::SetSize { handle, size: 3 }, b"").unwrap();
    assert_eq!(
        keep.call(
            &Call::SetSize {
                handle,
                size: u64::MAX
            },
            b""
        )
        .map(drop),
        Err(Status::FileTooLarge)
    );
    for data_only in [false, true] {
        keep.call(&Call::Sync { handle, data_only }, b"").unwrap();
    }
    assert_eq!(fs::read(dir.path().join("root/new")).unwrap(), b"xyz");

    keep.call(&Call::Close { handle }, b"").unwrap();
    assert_eq!(
        keep.call(&read_at(0), b"").map(drop),
        Err(Status::BadHandle)
    );
    let flags = OpenFlags::WRITE | OpenFlags::TRUNCATE;
    assert_eq!(keep.open("new", flags).unwrap(), Handle(3));
    assert_eq!(fs::read(dir.path().join("root/new")).unwrap(), b"");
    assert_eq!(
        keep.call(&read_at(0), b"").map(drop),
        Err(Status::BadHandle)
    );
}

#[test]
fn no_path_leads_out_of_a_directory() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let absolute = dir.path().join("secret");
    let outside = [
        "..",
        "../secret",
        "sub/../../secret",
        "out",
        "absolute",
        "up",
        "up/secret",
        "up/root/file",
        "/etc/passwd",
        "/",
        absolute.to_str().unwrap(),
    ];
    for path in outside {
        assert_eq!(
            keep.open(path, READ),
            Err(Status::NotCapable),
            "open {path}"
        );
        assert_eq!(
            keep.stat(path, true).map(drop),
            Err(Status::NotCapable),
            "stat {path}"
        );
        let times = |path_length| Call::SetTimesAt {
            dir: ROOT,
            follow: true,
            atim: TimeChange::Now,
            mtim: TimeChange::At(Time::default()),
            path_length,
        };
        assert_eq!(
            keep.path(path, times),
            Err(Status::NotCapable),
            "times {path}"
        );
    }
    let outside = [
        "..",
        "../secret",
        "../new",
        "up/secret",
        "sub/../../x",
        "/x",
        "//",
    ];
    for path in outside {
        let calls: [fn(u32) -> Call; 4] = [
            |path_length| Call::CreateDir {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::RemoveDir {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::Unlink {
                dir: ROOT,
                path_length,
            },
            |path_length| Call::ReadLink {
                dir: ROOT,
                path_length,
            },
        ];
        for call in calls {
            assert_eq!(keep.path(path, call), Err(Status::NotCapable), "{path}");
        }
        assert_eq!(keep.rename("file", path), Err(Status::NotCapable), "{path}");
        assert_eq!(keep.rename(path, "new"), Err(Status::NotCapable), "{path}");
        assert_eq!(keep.symlink("x", path), Err(Status::NotCapable), "{path}");
        assert_eq!(
            keep.link("file", path, false),
            Err(Status::NotCapable),
            "{path}"
        );
        assert_eq!(
            keep.link(path, "new", false),
            Err(Status::NotCapable),
            "{path}"
        );
    }
    // Links are reported as links, and a slash after one does not follow it.
    assert_eq!(
        keep.stat("out", false).unwrap().file_type(),
        Some(FileType::SymbolicLink)
    );
    let read_link = |path_length| Call::ReadLink {
        dir: ROOT,
        path_length,
    };
    assert_eq!(keep.path("out", read_link).unwrap(), b"../secret");
    assert_eq!(keep.path("up/", read_link), Err(Status::NotCapable));
    assert_eq!(keep.link("up/", "x", false), Err(Status::NotCapable));
    assert_eq!(
        keep.open("inside", READ | OpenFlags::NOFOLLOW),
        Err(Status::Loop)
    );
    keep.open("inside", READ).unwrap();
    assert_eq!(keep.symlink("/etc/passwd", "x"), Err(Status::NotCapable));
    assert_eq!(keep.link("inside", "x", true), Err(Status::Invalid));
    assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn a_read_only_directory_refuses_every_change() {
    let dir = sample();
    let root = dir.path().join("root");
    let mut keep = Keep::with_directory(&root, true);
    let before = fs::metadata(root.join("file")).unwrap();
    for flags in [
        OpenFlags::WRITE,
        READ | OpenFlags::TRUNCATE,
        READ | OpenFlags::CREATE,
        READ | OpenFlags::APPEND,
    ] {
        assert_eq!(keep.open("file", flags), Err(Status::ReadOnly));
        assert_eq!(keep.open("new", flags), Err(Status::ReadOnly));
    }
    let handle = keep.open("file", READ).unwrap();
    let sub = keep.open("sub", READ | OpenFlags::DIRECTORY).unwrap();
    let (atim, mtim) = (at(5, 0), at(5, 0));
    let calls = [
        (
            Call::WriteAt {
                handle,
                offset: 0,
                length: 1,
            },
            "x",
        ),
        (Call::Append { handle, length: 1 }, "x"),
        (Call::SetSize { handle, size: 0 }, ""),
        (Call::SetTimes { handle, atim, mtim }, ""),
        (
            Call::SetTimes {
                handle: sub,
                atim,
                mtim,
            },
            "",
        ),
        (
            Call::SetTimesAt {
                dir: ROOT,
                follow: true,
                atim,
                mtim,
                path_length: 4,
            },
            "file",
        ),
        (
            Call::CreateDir {
                dir: sub,
                path_length: 1,
            },
            "x",
        ),
        (
            Call::RemoveDir {
                dir: sub,
                path_length: 4,
            },
            "deep",
        ),
        (
            Call::Unlink {
                dir: ROOT,
                path_length: 4,
            },
            "file",
        ),
    ];
    for (call, input) in calls {
        assert_eq!(
            keep.call(&call, input.as_bytes()).map(drop),
            Err(Status::ReadOnly),
            "{call:?}"
        );
    }
    assert_eq!(keep.rename("file", "x"), Err(Status::ReadOnly));
    assert_eq!(keep.link("file", "x", false), Err(Status::ReadOnly));
    assert_eq!(keep.symlink("file", "x"), Err(Status::ReadOnly));
    let after = fs::metadata(root.join("file")).unwrap();
    assert_eq!(
        (before.mtime_nsec(), before.ctime_nsec(), before.len()),
        (after.mtime_nsec(), after.ctime_nsec(), after.len())
    );
    let read = Call::ReadAt {
        handle,
        offset: 0,
        length: 100,
    };
    assert_eq!(keep.call(&read, b"").unwrap().1, b"contents");
}

#[test]
fn special_files_are_not_opened() {
    let dir = sample();
    let fifo = dir.path().join("root/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    assert_eq!(keep.open("fifo", READ), Err(Status::NotSupported));
    assert_eq!(
        keep.stat("fifo", true).unwrap().file_type(),
        Some(FileType::Unknown)
    );
    let mut keep = Keep::with_directory(Path::new("/dev"), true);
    assert_eq!(keep.open("null", READ), Err(Status::NotSupported));
}

#[test]
fn special_file_systems_are_not_entered() {
    let mut keep = Keep::with_directory(Path::new("/"), false);
    let change = READ | OpenFlags::WRITE;
    // Through the first the Keep would write to this process; the others reveal facts about it and others.
    for (path, flags) in [
        ("proc/self/mem", change),
        ("proc/self/mem", READ),
        ("proc/self/../self/task/../mem", change),
        ("proc/self/maps", READ),
        ("proc/1/cmdline", READ),
        ("proc", READ | OpenFlags::DIRECTORY),
        ("proc/self", READ | OpenFlags::DIRECTORY),
        ("sys", READ | OpenFlags::DIRECTORY),
        ("sys/kernel/uevent_seqnum", READ),
    ] {
        assert_eq!(keep.open(path, flags), Err(Status::NotSupported), "{path}");
    }
    for path in ["proc/self/exe", "proc/1/exe"] {
        let found = keep.stat(path, false).map(drop);
        assert_eq!(found, Err(Status::NotSupported), "{path}");
        let target = keep.path(path, |path_length| Call::ReadLink {
            dir: ROOT,
            path_length,
        });
        assert_eq!(target, Err(Status::NotSupported), "{path}");
    }
    // If one file system is mounted in another, files are still files.
    keep.open("usr", READ | OpenFlags::DIRECTORY).unwrap();
    // These are refused as grants, too.
    let proc = || GrantedDirectory {
        directory: fs::File::open("/proc/self").unwrap().into(),
        read_only: true,
        quota: None,
    };
    let grant = Grant {
        directories: vec![proc()],
        ..Grant::of_streams([null(), null(), null()])
    };
    let region: Vec<AtomicU64> = (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
    let region = Region::from_static(Box::leak(region.into_boxed_slice())).unwrap();
    let objects = Objects::program(Vec::new(), Vec::new());
    let refused = SharedExecutor::new(region, Facts::default(), grant, objects).unwrap_err();
    assert!(refused.to_string().contains("/proc"), "{refused}");
}

#[test]
fn names_are_made_moved_and_removed() {
    let dir = sample();
    let root = dir.path().join("root");
    let mut keep = Keep::with_directory(&root, false);
    let create = |path_length| Call::CreateDir {
        dir: ROOT,
        path_length,
    };
    let remove = |path_length| Call::RemoveDir {
        dir: ROOT,
        path_length,
    };
    let unlink = |path_length| Call::Unlink {
        dir: ROOT,
        path_length,
    };
    keep.path("made/", create).unwrap();
    assert_eq!(keep.path("made", create), Err(Status::Exists));
    keep.rename("file", "made/file").unwrap();
    assert_eq!(keep.path("made", remove), Err(Status::NotEmpty));
    assert_eq!(keep.path("made", unlink), Err(Status::IsDirectory));
    keep.symlink("file", "made/link").unwrap();
    keep.link("made/file", "hard", false).unwrap();
    assert_eq!(keep.stat("hard", false).unwrap().nlink, 2);
    assert_eq!(keep.stat("made/link", true).unwrap().size, 8);
    assert_eq!(keep.stat("made/link", false).unwrap().size, 4);
    for path in ["made/link", "made/file"] {
        keep.path(path, unlink).unwrap();
    }
    keep.path("made/", remove).unwrap();
    assert_eq!(keep.path("made", remove), Err(Status::NoEntry));
    assert_eq!(keep.path(".", remove), Err(Status::Invalid));
    assert_eq!(keep.path("sub/..", remove), Err(Status::NotEmpty));
    assert_eq!(keep.path("hard/", unlink), Err(Status::NotDirectory));
    assert_eq!(keep.path("", unlink), Err(Status::NoEntry));
    assert_eq!(keep.path("a\0b", unlink), Err(Status::IllegalSequence));
    assert_eq!(
        keep.path(&"x".repeat(5000), unlink),
        Err(Status::NameTooLong)
    );
    assert_eq!(
        keep.path(&"x".repeat(300), unlink),
        Err(Status::NameTooLong)
    );
    assert_eq!(fs::read(root.join("hard")).unwrap(), b"contents");
}

/// A change of a time.
fn at(seconds: i64, nanoseconds: u32) -> TimeChange {
    TimeChange::At(Time::new(seconds, nanoseconds).unwrap())
}

#[test]
fn times_are_set_to_the_nanosecond() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    let change = |atim, mtim, follow| {
        move |path_length| Call::SetTimesAt {
            dir: ROOT,
            follow,
            atim,
            mtim,
            path_length,
        }
    };
    keep.path("inside", change(at(1, 500_000_007), at(-1, 9), true))
        .unwrap();
    let stat = keep.stat("file", false).unwrap();
    assert_eq!((stat.atim, stat.atim_ns), (1, 500_000_007));
    assert_eq!((stat.mtim, stat.mtim_ns), (-1, 9));
    keep.path("inside", change(TimeChange::Keep, at(0, 9), false))
        .unwrap();
    assert_eq!(keep.stat("file", false).unwrap().mtim, -1);
    let stat = keep.stat("inside", false).unwrap();
    assert_eq!((stat.mtim, stat.mtim_ns), (0, 9));
    let handle = keep.open("file", READ).unwrap();
    let (atim, mtim) = (TimeChange::Keep, TimeChange::Now);
    keep.call(&Call::SetTimes { handle, atim, mtim }, b"")
        .unwrap();
    let (_, bytes) = keep.call(&Call::Stat { handle }, b"").unwrap();
    let stat = Stat::decode(bytes.as_slice().try_into().unwrap()).unwrap();
    assert_eq!((stat.atim, stat.atim_ns), (1, 500_000_007));
    assert!(stat.mtim > 1_600_000_000);
}

#[test]
fn a_directory_is_listed_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for n in 0..500 {
        let name = format!("{n:0>40}");
        fs::write(dir.path().join(&name), "").unwrap();
        expected.push(name.into_bytes());
    }
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink("d", dir.path().join("l")).unwrap();
    expected.extend([b"d".to_vec(), b"l".to_vec()]);
    let mut keep = Keep::with_directory(dir.path(), true);
    let mut found = Vec::new();
    let mut cookie = 0;
    loop {
        let call = Call::ReadDir {
            handle: ROOT,
            cookie,
            length: 1000,
        };
        let (_, bytes) = keep.call(&call, b"").unwrap();
        if bytes.is_empty() {
            break;
        }
        for entry in Entries::new(&bytes) {
            let entry = entry.unwrap();
            cookie = entry.next_cookie;
            let kind = match entry.name {
                b"d" => FileType::Directory,
                b"l" => FileType::SymbolicLink,
                _ => FileType::RegularFile,
            };
            assert_eq!(entry.kind, kind);
            found.push(entry.name.to_vec());
        }
    }
    found.sort();
    expected.sort();
    assert!(found == expected);
    let call = Call::ReadDir {
        handle: ROOT,
        cookie: u64::MAX,
        length: 1000,
    };
    assert_eq!(keep.call(&call, b"").map(drop), Err(Status::Invalid));
}

#[test]
fn handles_are_bounded() {
    let dir = sample();
    let mut keep = Keep::with_directory(&dir.path().join("root"), false);
    keep.executor.lock().handles.limit_to(500);
    // They include the standard streams and the directory.
    let room = 500 - 4;
    for _ in 0..room {
        keep.open("file", READ).unwrap();
    }
    assert_eq!(keep.open("file", READ), Err(Status::TooManyHandles));
    keep.call(&Call::Close { handle: Handle(5) }, b"").unwrap();
    assert_eq!(keep.open("file", READ), Ok(Handle(5)));
}
