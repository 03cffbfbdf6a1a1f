// SPDX-License-Identifier: Apache-2.0

//! The status codes of the firmware that the simulated processor gives (56860, status codes).

/// Why the secure processor refused a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u32)]
pub enum Status {
    /// POLICY_FAILURE.
    #[error(
        "the guest policy does not fit this machine or the ID block: change the policy or the machine's settings"
    )]
    PolicyFailure = 0x07,
    /// INVALID_ADDRESS.
    #[error(
        "a guest physical address is not that of a page: align it to 4096 bytes and keep it below 2^52"
    )]
    InvalidAddress = 0x09,
    /// BAD_SIGNATURE.
    #[error("a signature of the ID block is wrong: sign it again with the key that belongs to it")]
    BadSignature = 0x0A,
    /// BAD_MEASUREMENT.
    #[error("the launch digest is not that of the ID block, or a guest message is not authentic")]
    BadMeasurement = 0x0B,
    /// INVALID_PARAM.
    #[error(
        "a parameter is invalid: a reserved field, a length, a type or a value that this machine refuses"
    )]
    InvalidParam = 0x16,
    /// INVALID_PAGE_STATE.
    #[error("the page was already added to the launch: add each page once")]
    InvalidPageState = 0x1A,
    /// AEAD_OFLOW.
    #[error(
        "the sequence number is not the next one for its key: send messages in order, each once"
    )]
    AeadOverflow = 0x1D,
}

impl Status {
    /// The number that the firmware gives.
    pub const fn code(self) -> u32 {
        self as u32
    }
}
