// SPDX-License-Identifier: Apache-2.0

//! Directory listings as a hostile host may send them.

use enarx_sallyport::directory::{Entries, EntryWriter, HEADER_SIZE, NAME_MAX};

/// Parses any bytes: legal entries, then the end or one error. The entries, written again, are the bytes
/// they were parsed from. Returns how many there were, and whether an error ended them.
pub fn parse_any(bytes: &[u8]) -> (usize, bool) {
    let mut again = vec![0; bytes.len()];
    let mut writer = EntryWriter::new(&mut again);
    let mut count = 0;
    let mut entries = Entries::new(bytes);
    let failed = loop {
        match entries.next() {
            None => break false,
            Some(Err(_)) => break true,
            Some(Ok(entry)) => {
                assert!((1..=NAME_MAX).contains(&entry.name.len()));
                assert!(!entry.name.contains(&b'/') && !entry.name.contains(&0));
                assert!(entry.name != b"." && entry.name != b"..");
                writer.push(&entry).expect("it was there before");
                count += 1;
            }
        }
    };
    assert!(
        entries.next().is_none(),
        "nothing follows the end or an error"
    );
    let length = writer.length();
    assert!(length >= count * (HEADER_SIZE + 1));
    assert_eq!(again[..length], bytes[..length]);
    assert_eq!(failed, length != bytes.len());
    (count, failed)
}
