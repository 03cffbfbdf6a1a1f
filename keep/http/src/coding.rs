// SPDX-License-Identifier: Apache-2.0

//! Transfer codings of messages of HTTP/1.1 (RFC 9112, section 7). hyper decodes only `chunked`; components do not see
//! the field. With another coding they would treat encoded data as the body, and an oddly written one may end elsewhere
//! for a program in between. The peer is not trusted.

use hyper::HeaderMap;
use hyper::header::TRANSFER_ENCODING;

/// A message whose body is not what its bytes are without chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodingError {
    /// It has an unsupported coding: its name, as the peer writes it.
    Unknown(String),
    /// The field is one that programs read in different ways.
    Doubtful,
}

/// Checks that a message is in no coding, or once in `chunked`.
///
/// # Errors
/// [`CodingError`].
pub fn check(headers: &HeaderMap) -> Result<(), CodingError> {
    let values = headers.get_all(TRANSFER_ENCODING).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut is_chunked = false;
    for name in names.map(<[u8]>::trim_ascii) {
        let chunked = name.eq_ignore_ascii_case(b"chunked");
        if name.is_empty() || chunked && is_chunked {
            return Err(CodingError::Doubtful);
        }
        if !chunked {
            return Err(CodingError::Unknown(
                String::from_utf8_lossy(name).into_owned(),
            ));
        }
        is_chunked = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn checked(values: &[&'static str]) -> Result<(), CodingError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
        }
        check(&headers)
    }

    #[test]
    fn chunked_is_the_only_transfer_coding() {
        for plain in [&[][..], &["chunked"], &[" Chunked\t"]] {
            assert_eq!(checked(plain), Ok(()), "{plain:?}");
        }
        for twice in [
            &["chunked", "chunked"][..],
            &["chunked, chunked"],
            &[",chunked"],
            &["chunked,"],
            &[""],
        ] {
            assert_eq!(checked(twice), Err(CodingError::Doubtful), "{twice:?}");
        }
        for (other, name) in [
            (&["gzip, chunked"][..], "gzip"),
            (&["chunked", "gzip"], "gzip"),
            (&["identity", "chunked"], "identity"),
            (&["chunked;a=b"], "chunked;a=b"),
            (&["\"chunked\""], "\"chunked\""),
        ] {
            let unknown = Err(CodingError::Unknown(name.to_owned()));
            assert_eq!(checked(other), unknown, "{other:?}");
        }
    }
}
