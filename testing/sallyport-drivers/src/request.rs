// SPDX-License-Identifier: Apache-2.0

//! Request records as a hostile Keep may write them.

use enarx_sallyport::layout::BUFFER_SIZE;
use enarx_sallyport::request::Request;

/// Decodes any record: it gives an error, or a call that encodes to the very same record and whose lengths
/// fit the buffer. True if it was a call.
pub fn decode_any(words: [u64; 8]) -> bool {
    let request = Request::from_words(words);
    assert_eq!(request.to_words(), words);
    let Ok(call) = request.decode() else {
        return false;
    };
    let encoded = Request {
        id: request.id,
        ..call.encode()
    };
    assert_eq!(encoded, request);
    assert!(call.input_length() <= BUFFER_SIZE);
    if let Some(limits) = call.reply_limits() {
        assert!(limits.minimum <= limits.capacity && limits.capacity <= BUFFER_SIZE);
    }
    true
}
