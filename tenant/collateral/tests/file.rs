// SPDX-License-Identifier: Apache-2.0

//! Files in a folder of unknown origin: bounded, regular, read completely or not at all.

use enarx_collateral::file::{MAX_LEN, read, read_bounded, read_up_to, replace};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

#[test]
fn only_regular_files_of_a_sane_length_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), b"1234").unwrap();
    symlink(path("file"), path("link")).unwrap();
    assert_eq!(read(&path("file")).unwrap(), b"1234");
    assert_eq!(read(&path("link")).unwrap(), b"1234");
    assert_eq!(read_up_to(&path("file"), 4).unwrap(), b"1234");
    let error = read_up_to(&path("file"), 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);

    // A pipe that nobody writes to, an endless device, a folder: each is refused at once.
    let made = Command::new("mkfifo").arg(path("pipe")).status().unwrap();
    assert!(made.success());
    symlink("/dev/zero", path("zero")).unwrap();
    for odd in [
        &path("pipe"),
        &path("zero"),
        Path::new("/dev/zero"),
        folder.path(),
    ] {
        let error = read(odd).unwrap_err();
        assert_eq!(error.to_string(), "not a regular file", "{}", odd.display());
    }
    assert_eq!(read(&path("none")).unwrap_err().kind(), ErrorKind::NotFound);

    // A file that claims to be short but is not (like those below /proc): the bytes that are read count.
    let large = fs::File::create(path("large")).unwrap();
    large.set_len(MAX_LEN + 1).unwrap();
    assert_eq!(
        read(&path("large")).unwrap_err().kind(),
        ErrorKind::FileTooLarge
    );
    large.set_len(MAX_LEN).unwrap();
    assert_eq!(read(&path("large")).unwrap().len() as u64, MAX_LEN);
    assert!(
        read(Path::new("/proc/self/status"))
            .unwrap()
            .starts_with(b"Name:")
    );
    assert!(read_bounded(std::io::repeat(0), 100).is_err());
}

#[test]
fn files_are_replaced_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    replace(&path, b"first").unwrap();
    replace(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    // A link is replaced, but not its target.
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    replace(&link, b"third").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    // A failed write leaves nothing behind.
    fs::create_dir(folder.path().join("folder")).unwrap();
    replace(&folder.path().join("folder"), b"x").unwrap_err();
    replace(&folder.path().join("none/file"), b"x").unwrap_err();
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["file", "folder", "link"]);
}

#[test]
fn a_file_is_read_into_one_buffer_so_that_no_part_of_a_secret_stays_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    for length in [0, 1, 138, 10_000] {
        fs::write(&path, vec![7; length]).unwrap();
        let bytes = read(&path).unwrap();
        assert_eq!(bytes.len(), length);
        assert!(bytes.capacity() <= length + 64, "{}", bytes.capacity());
    }
}
