// SPDX-License-Identifier: Apache-2.0

//! Bodies of requests and answers, read whole. Trusts nobody.

use http_body_util::{BodyExt, Limited};
use std::error::Error;

/// The bytes of a body, at most `limit`. They are copied into one buffer: keeping a piece of one
/// byte as it came would need a record forty times its size.
///
/// # Errors
/// Those of the body; `http_body_util::LengthLimitError` for more bytes than `limit`.
pub async fn whole<B>(body: B, limit: usize) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>
where
    B: BodyExt<Data: AsRef<[u8]>, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    let mut body = Limited::new(body, limit);
    let mut bytes = Vec::new();
    while let Some(piece) = body.frame().await {
        if let Some(piece) = piece?.data_ref() {
            bytes.extend_from_slice(piece.as_ref());
        }
    }
    Ok(bytes)
}
