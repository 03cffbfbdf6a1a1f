// SPDX-License-Identifier: Apache-2.0

//! The deliveries that a Keep has no room for, or cannot run. Sizes and texts are the tenant's.

use alloc::string::String;

/// The reason why a Keep does not run its delivery.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// All parts together are more than the Keep has free.
    #[error("the delivery has {total} bytes, the Keep has room for {free}: give it more memory")]
    TooLarge {
        /// Bytes of all parts.
        total: u64,
        /// Bytes that are free in the Keep.
        free: u64,
    },
    /// No memory for a part of this many bytes.
    #[error("there is no memory for a part of {0} bytes")]
    NoMemory(usize),
    /// Native code that the deployment does not declare.
    #[error("the application is native code, but the deployment does not say so")]
    UndeclaredNativeCode,
    /// No native code, although the deployment says so.
    #[error("the application is not native code, but the deployment says that it is")]
    NoNativeCode,
    /// Native code that cannot be used. The text is its reader's.
    #[error("the application: {0}")]
    NativeCode(String),
    /// Native code of another application than the deployment names.
    #[error("the application was not compiled from the WebAssembly that the deployment names")]
    OtherSource,
    /// The secret of this name should be a variable, but is not text.
    #[error("the secret {0} is not text: deliver it as a file")]
    SecretIsNoText(String),
    /// A configuration that cannot be read. The text is its reader's.
    #[error("{0}")]
    Configuration(String),
    /// A configuration that asks for evidence.
    #[error("the configuration asks for evidence, which the session gives anyway")]
    AsksForEvidence,
    /// A server that names no address and port.
    #[error("the configuration's server names no address and port at which it answers")]
    NoAddress,
    /// A server without a certificate that the tenant did not explicitly allow.
    #[error(
        "the configuration's server has no certificate, so that its host would read every request: deliver one, or set `insecure_http`"
    )]
    NoCertificate,
}
