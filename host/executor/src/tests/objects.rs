// SPDX-License-Identifier: Apache-2.0

//! The objects of a launch, as the Keep loads them.

use super::*;

#[test]
fn objects_are_loaded_in_pieces_and_never_past_their_end() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let load = |object, offset, length| Call::Load {
        object,
        offset,
        length,
    };
    let (reply, bytes) = keep
        .call(&load(Object::Configuration, 0, 100), b"")
        .unwrap();
    assert_eq!((reply.value, bytes.as_slice()), (2, b"{}".as_slice()));

    let mut application = Vec::new();
    loop {
        let offset = application.len() as u64;
        let (reply, bytes) = keep
            .call(&load(Object::Application, offset, 131_072), b"")
            .unwrap();
        assert_eq!(reply.value, 300_000);
        if bytes.is_empty() {
            break;
        }
        application.extend(bytes);
    }
    assert_eq!(application.len(), 300_000);
    assert_eq!(application[299_999], 299_999_u32.to_le_bytes()[0]);
    let (_, bytes) = keep
        .call(&load(Object::Application, u64::MAX, 131_072), b"")
        .unwrap();
    assert_eq!(bytes, b"");
}
