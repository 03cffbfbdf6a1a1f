// SPDX-License-Identifier: Apache-2.0

//! PEM as RFC 7468 lets it be: lines of any length, blanks anywhere, text before, between and after. The decoded bytes
//! are hostile until they are checked; the text around them says nothing.

use base64ct::{Base64, Encoding};
use der::asn1::AnyRef;
use der::{Decode, Tag, Tagged};

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its label, such as `CERTIFICATE`.
    pub label: String,
    /// The decoded contents.
    pub bytes: Vec<u8>,
}

/// Why a text is not PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// A beginning without its end.
    #[error("truncated PEM")]
    CutOff,
    /// Something else than Base64 between them.
    #[error("PEM whose contents are not Base64")]
    NotBase64,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const DASHES: &[u8] = b"-----";

/// True if this is PEM: no DER structure, and a document begins in it.
pub fn is_pem(bytes: &[u8]) -> bool {
    let is_der = AnyRef::from_der(bytes).is_ok_and(|any| any.tag() == Tag::Sequence);
    !is_der && find(bytes, BEGIN).is_some()
}

/// The documents in a text, in their order.
///
/// # Errors
/// When one of them is cut off or is not Base64.
pub fn documents(text: &[u8]) -> Result<Vec<Document>, PemError> {
    let mut documents = Vec::new();
    let mut rest = text;
    while let Some(begin) = find(rest, BEGIN) {
        let after = rest.split_at(begin + BEGIN.len()).1;
        let end = find(after, DASHES).ok_or(PemError::CutOff)?;
        let (label, body) = after.split_at(end);
        let body = body.split_at(DASHES.len()).1;
        let closing = [b"-----END ", label, DASHES].concat();
        let end = find(body, &closing).ok_or(PemError::CutOff)?;
        let (encoded, after) = body.split_at(end);
        let digits: Vec<u8> = encoded
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let digits = std::str::from_utf8(&digits).map_err(|_| PemError::NotBase64)?;
        documents.push(Document {
            label: String::from_utf8_lossy(label).into_owned(),
            bytes: Base64::decode_vec(digits).map_err(|_| PemError::NotBase64)?,
        });
        rest = after.split_at(closing.len()).1;
    }
    Ok(documents)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn truncated_text_and_invalid_base64_are_errors() {
        assert_eq!(documents(b"no PEM"), Ok(Vec::new()));
        // A text that begins as a DER structure does.
        assert!(is_pem(
            "0\u{feff}-----BEGIN X-----\n-----END X-----".as_bytes()
        ));
        assert!(!is_pem(&[&[0x30, 11], BEGIN].concat()));
        for cut in [
            "-----BEGIN X",
            "-----BEGIN X-----\nAA==\n",
            "-----BEGIN X-----\nAA==\n-----END Y-----",
        ] {
            assert_eq!(documents(cut.as_bytes()), Err(PemError::CutOff), "{cut}");
        }
        for wrong in ["A", "A:b==", "AA=", "AAA", "ü==="] {
            let text = format!("-----BEGIN X-----\n{wrong}\n-----END X-----");
            assert_eq!(
                documents(text.as_bytes()),
                Err(PemError::NotBase64),
                "{wrong}"
            );
        }
    }

    proptest! {
        /// The contents are read the same for all columns, blanks and text around them.
        #[test]
        fn every_layout_is_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            columns in 1usize..120,
            end in prop::sample::select(&["\n", "\r\n", " \n", "\n\n", "\t\r\n"][..]),
            before in "[ -,.-~\n\u{feff}]{0,40}",
            after in "[ -,.-~\n\0]{0,40}",
        ) {
            let digits = Base64::encode_string(&bytes);
            let lines: Vec<_> = digits.as_bytes().chunks(columns).map(|l| std::str::from_utf8(l).unwrap()).collect();
            let body = lines.join(end);
            let one = format!("{before}-----BEGIN X Y-----{end}{body}{end}-----END X Y-----{end}");
            let text = format!("{one}{one}{after}");
            let document = Document { label: "X Y".to_owned(), bytes };
            prop_assert_eq!(documents(text.as_bytes()), Ok(vec![document.clone(), document]));
            prop_assert!(is_pem(text.as_bytes()));
        }

        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = documents(&bytes);
            let _ = is_pem(&bytes);
        }
    }
}
