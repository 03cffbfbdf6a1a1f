// SPDX-License-Identifier: Apache-2.0

//! Quotas of directories.

use super::*;

/// The size of all files below a folder, in blocks, and a block for each name; links themselves do not count.
fn weight(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let of = |entry: fs::DirEntry| {
        let record = entry.metadata().unwrap();
        4096 + match record.file_type() {
            kind if kind.is_dir() => weight(&entry.path()),
            kind if kind.is_file() => record.len().next_multiple_of(4096),
            _ => 0,
        }
    };
    entries.map(of).sum()
}

#[test]
fn a_directory_becomes_no_fuller_than_its_quota_allows() {
    const QUOTA: u64 = 40 << 10;
    let dir = sample();
    let root = dir.path().join("root");
    let full = weight(&root) + QUOTA;
    let mut keep = Keep::with_grant(
        [null(), null(), null()],
        &[(&root, false)],
        NetworkGrant::default(),
        [None, None],
        Some(QUOTA),
    );
    let new = READ | OpenFlags::WRITE | OpenFlags::CREATE;
    let bytes = vec![7; 64 << 10];
    let space = |keep: &mut Keep| {
        let file = keep.open("probe", new).unwrap();
        let mut most = 0;
        for blocks in 1..=16 {
            let size = blocks << 12;
            match keep.call(&Call::SetSize { handle: file, size }, b"") {
                Ok(_) => most = size,
                Err(status) => assert_eq!(status, Status::Quota),
            }
        }
        keep.call(&Call::Close { handle: file }, b"").unwrap();
        let unlink = |path_length| Call::Unlink {
            dir: ROOT,
            path_length,
        };
        keep.path("probe", unlink).unwrap();
        most
    };
    // One of the ten blocks is for the file's own name.
    assert_eq!(space(&mut keep), QUOTA - 4096);
    assert_eq!(
        space(&mut keep),
        QUOTA - 4096,
        "removed files count no more"
    );

    // Every way to grow: writing, appending, extending the length, and past the end of the host's existing data.
    let file = keep.open("file", new).unwrap();
    let write_at = |length, offset| Call::WriteAt {
        handle: file,
        offset,
        length,
    };
    let whole = 64 << 10;
    assert_eq!(
        keep.call(&write_at(whole, 0), &bytes).map(drop),
        Err(Status::Quota)
    );
    assert_eq!(
        keep.call(&write_at(1, 1 << 40), &bytes[..1]).map(drop),
        Err(Status::Quota)
    );
    let append = Call::Append {
        handle: file,
        length: whole,
    };
    assert_eq!(keep.call(&append, &bytes).map(drop), Err(Status::Quota));
    let size = u64::from(whole);
    let longer = Call::SetSize { handle: file, size };
    assert_eq!(keep.call(&longer, b"").map(drop), Err(Status::Quota));
    assert_eq!(fs::read(root.join("file")).unwrap(), b"contents");
    assert_eq!(space(&mut keep), QUOTA - 4096, "what failed takes nothing");
    keep.call(&write_at(8, 0), &bytes[..8]).unwrap();
    assert_eq!(space(&mut keep), QUOTA - 4096, "the length stays");

    // A file that is removed while open keeps its space until it is closed.
    let file = keep.open("gone", new).unwrap();
    let again = keep.open("gone", READ).unwrap();
    let length = 20 << 10;
    let write = Call::WriteAt {
        handle: file,
        offset: 0,
        length,
    };
    keep.call(&write, &bytes[..20 << 10]).unwrap();
    let unlink = |path_length| Call::Unlink {
        dir: ROOT,
        path_length,
    };
    keep.path("gone", unlink).unwrap();
    let left = QUOTA - 4096 - u64::from(length);
    assert_eq!(space(&mut keep), left);
    keep.call(&Call::Close { handle: again }, b"").unwrap();
    assert_eq!(space(&mut keep), left);
    keep.call(&Call::Close { handle: file }, b"").unwrap();
    assert_eq!(space(&mut keep), QUOTA - 4096);

    // Names by themselves: ten blocks are ten names, of any kind.
    let create = |path_length| Call::CreateDir {
        dir: ROOT,
        path_length,
    };
    for number in 0..3 {
        keep.path(&format!("d{number}"), create).unwrap();
        keep.symlink("x", &format!("l{number}")).unwrap();
        keep.link("file", &format!("h{number}"), false).unwrap();
    }
    keep.open("last", new).unwrap();
    assert_eq!(keep.path("d9", create), Err(Status::Quota));
    assert_eq!(keep.symlink("x", "l9"), Err(Status::Quota));
    assert_eq!(keep.link("file", "h9", false), Err(Status::Quota));
    assert_eq!(keep.open("f9", new), Err(Status::Quota));
    assert_eq!(weight(&root), full + 3 * 4096, "hard links have one file");
    // Replacing frees a name; renaming to another name of the same file frees nothing.
    keep.rename("h0", "h1").unwrap();
    assert_eq!(keep.symlink("x", "l9"), Err(Status::Quota));
    keep.rename("l0", "l1").unwrap();
    keep.symlink("x", "l9").unwrap();
    assert_eq!(keep.symlink("x", "l8"), Err(Status::Quota));
}

#[test]
fn nothing_moves_from_one_quota_into_another() {
    let [one, other] = [sample(), sample()];
    let folders = [one.path().join("root"), other.path().join("root")];
    let mut keep = Keep::with_grant(
        [null(), null(), null()],
        &[(&folders[0], false), (&folders[1], false)],
        NetworkGrant::default(),
        [None, None],
        Some(1 << 20),
    );
    let rename = Call::Rename {
        from_dir: ROOT,
        to_dir: Handle(ROOT.0 + 1),
        from_length: 4,
        to_length: 3,
    };
    let moved = keep.two_paths(&rename, "file", "new");
    assert_eq!(moved, Err(Status::CrossDevice));
    let link = Call::Link {
        from_dir: ROOT,
        to_dir: Handle(ROOT.0 + 1),
        follow: false,
        from_length: 4,
        to_length: 3,
    };
    let linked = keep.two_paths(&link, "file", "new");
    assert_eq!(linked, Err(Status::CrossDevice));
}
