// SPDX-License-Identifier: Apache-2.0

//! Directory listings: valid entries parse, anything else stops the parser.

use enarx_sallyport::directory::{
    ENTRY_MAX, Entries, Entry, EntryWriter, MalformedEntry, NAME_MAX, WriteError,
};
use enarx_sallyport::types::FileType;
use proptest::prelude::*;

use enarx_sallyport_drivers::directory::parse_any;

fn owned_entry() -> impl Strategy<Value = (u64, u64, prop::sample::Index, Vec<u8>)> {
    let name = prop::collection::vec(any::<u8>(), 0..300);
    (
        any::<u64>(),
        any::<u64>(),
        any::<prop::sample::Index>(),
        name,
    )
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn listings_round_trip(entries in prop::collection::vec(owned_entry(), 0..20), space in 0usize..4000) {
        let mut bytes = vec![0; space];
        let mut writer = EntryWriter::new(&mut bytes);
        let mut written = Vec::new();
        for (next_cookie, ino, kind, name) in &entries {
            let entry = Entry { next_cookie: *next_cookie, ino: *ino, kind: *kind.get(FileType::ALL), name };
            let before = writer.length();
            match writer.push(&entry) {
                Ok(()) => written.push(entry),
                Err(WriteError::BadName) => prop_assert!(
                    name.is_empty() || name.len() > NAME_MAX || name.iter().any(|b| [0, b'/'].contains(b))
                        || name == b"." || name == b".."
                ),
                Err(WriteError::Full) => prop_assert!(before + ENTRY_MAX as usize > space),
            }
        }
        let length = writer.length();
        let parsed: Result<Vec<_>, _> = Entries::new(&bytes[..length]).collect();
        prop_assert_eq!(parsed, Ok(written));
    }

    #[test]
    fn any_bytes_parse_to_legal_entries_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        parse_any(&bytes);
    }

    #[test]
    fn a_changed_byte_does_no_harm(position in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = vec![0; 200];
        let mut writer = EntryWriter::new(&mut bytes);
        for name in [&b"a"[..], b"bin", b".hidden", b"...", b"data.json"] {
            let entry = Entry { next_cookie: 1, ino: 2, kind: FileType::RegularFile, name };
            writer.push(&entry).expect("there is space");
        }
        let length = writer.length();
        bytes.truncate(length);
        prop_assert_eq!(parse_any(&bytes), (5, false));
        bytes[position.index(length)] = value;
        parse_any(&bytes);
        parse_any(&bytes[..cut.index(length)]);
    }
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    for name in [
        &b"."[..],
        b"..",
        b"a/b",
        b"/",
        b"a\0b",
        b"",
        &[b'x'; NAME_MAX + 1],
    ] {
        let mut bytes = 7u64.to_le_bytes().to_vec();
        bytes.extend(8u64.to_le_bytes());
        bytes.extend([FileType::RegularFile.to_wire(), 0]);
        bytes.extend(u16::try_from(name.len()).expect("short").to_le_bytes());
        bytes.extend(name);
        let mut entries = Entries::new(&bytes);
        assert_eq!(entries.next(), Some(Err(MalformedEntry)));
        assert_eq!(entries.next(), None);
    }
}
