// SPDX-License-Identifier: Apache-2.0

//! The ID block and its authentication (56860 SNP_LAUNCH_FINISH), which the guest's owner signs before a launch.

use crate::assert_layout;
use crate::report::Signature;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// VERSION of the ID block.
pub const ID_BLOCK_VERSION: u32 = 1;
/// CURVE of P-384 (56860, ECDSA public key format).
pub const CURVE_P384: u32 = 2;

/// The ID block (56860 ID_BLOCK), 60h bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IdBlock {
    /// The launch digest that is expected.
    pub launch_digest: [u8; 48],
    /// Family id, opaque to the firmware.
    pub family_id: [u8; 16],
    /// Image id, opaque to the firmware.
    pub image_id: [u8; 16],
    /// [`ID_BLOCK_VERSION`].
    pub version: U32,
    /// Security version number of the guest.
    pub guest_svn: U32,
    /// The guest policy that is expected.
    pub policy: U64,
}
assert_layout!(
    IdBlock, 0x60,
    launch_digest @ 0x00, family_id @ 0x30, image_id @ 0x40, version @ 0x50, guest_svn @ 0x54, policy @ 0x58,
);

/// An ECDSA public key (56860, ECDSA public key format), 404h bytes; the digests of ID and author keys are SHA-384
/// over all of them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct PublicKey {
    /// The curve, [`CURVE_P384`].
    pub curve: U32,
    /// x, little-endian, zero-extended.
    pub qx: [u8; 72],
    /// y, little-endian, zero-extended.
    pub qy: [u8; 72],
    /// Reserved, zero.
    pub reserved: [u8; 880],
}
assert_layout!(PublicKey, 0x404, curve @ 0, qx @ 4, qy @ 0x4C, reserved @ 0x94);

/// The authentication of an ID block (56860 ID_AUTHENTICATION_INFORMATION), one page.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct IdAuth {
    /// Algorithm of the ID key, 1 = ECDSA P-384 with SHA-384.
    pub id_key_algo: U32,
    /// Algorithm of the author key.
    pub author_key_algo: U32,
    /// Reserved, zero.
    pub reserved0: [u8; 56],
    /// Signature of the ID key over the ID block.
    pub id_block_signature: Signature,
    /// The ID key.
    pub id_key: PublicKey,
    /// Reserved, zero.
    pub reserved1: [u8; 60],
    /// Signature of the author key over the ID key.
    pub id_key_signature: Signature,
    /// The author key.
    pub author_key: PublicKey,
    /// Reserved, zero.
    pub reserved2: [u8; 892],
}
assert_layout!(
    IdAuth, 0x1000,
    id_key_algo @ 0x000, author_key_algo @ 0x004, id_block_signature @ 0x040, id_key @ 0x240,
    id_key_signature @ 0x680, author_key @ 0x880, reserved2 @ 0xC84,
);
