// SPDX-License-Identifier: Apache-2.0

//! Loads the objects that the host holds for the Keep.
//!
//! Sizes from the host are bounded; the users of the contents check them.

use enarx_configuration::ConfigurationError;
use enarx_sallyport::Call;
use enarx_sallyport::types::Object;
use enarx_wasi::error::Errno;
use enarx_wasi::port::{MAX_TRANSFER, Port};
use zeroize::Zeroize;

/// Largest application, in bytes.
pub const APPLICATION_MAX: usize = 512 << 20;

/// Why an object was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The host did not give it.
    #[error("the host did not give the {0}: {1}")]
    Refused(&'static str, Errno),
    /// It is too large.
    #[error("the {0} is too large: {1} bytes, at most {2} are accepted")]
    TooLarge(&'static str, u64, usize),
    /// There is no memory for it.
    #[error("the {0} of {1} bytes does not fit in the Keep: give it more memory")]
    NoMemory(&'static str, usize),
    /// The host gave fewer bytes than it promised or more, or another size.
    #[error("the host did not give the whole {0}")]
    Changed(&'static str),
    /// Evidence was requested, and there is none.
    #[error(transparent)]
    NoEvidence(#[from] crate::platform::ReportError),
    /// The host did not take the evidence.
    #[error("the host did not take the evidence: {0}")]
    Evidence(Errno),
    /// The session with the tenant could not be opened, or it failed.
    #[error(transparent)]
    Session(#[from] enarx_keep_session::SessionError),
    /// There is no thread for the session.
    #[error("the thread that serves the tenant could not be started: {0}")]
    Thread(std::io::Error),
    /// Native code was delivered, and nothing would confine it.
    #[error(
        "a process Keep cannot run native code: it has no virtual machine, and WebAssembly would not confine it"
    )]
    Unconfined,
    /// The configuration does not decode.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
}

fn name(object: Object) -> &'static str {
    match object {
        Object::Configuration => "configuration",
        Object::Application => "application",
        Object::Contract => "contract",
    }
}

/// Loads an object of at most `limit` bytes.
///
/// # Errors
/// [`LoadError`], all of it the host's doing except for [`LoadError::NoMemory`].
pub fn object(port: &Port, object: Object, limit: usize) -> Result<Vec<u8>, LoadError> {
    let name = name(object);
    let mut bytes = vec![0; MAX_TRANSFER.min(limit)];
    let (mut loaded, size) = piece(port, object, 0, &mut bytes)?;
    let total = usize::try_from(size)
        .ok()
        .filter(|total| *total <= limit)
        .ok_or(LoadError::TooLarge(name, size, limit))?;
    if loaded > total {
        return Err(LoadError::Changed(name));
    }
    if total > bytes.len() {
        // Growing the buffer would leave a copy of data that may be secret.
        let mut whole = Vec::new();
        whole
            .try_reserve_exact(total)
            .map_err(|_| LoadError::NoMemory(name, total))?;
        whole.extend_from_slice(&bytes);
        bytes.zeroize();
        bytes = whole;
    }
    bytes.resize(total, 0);
    while loaded < total {
        let rest = bytes.get_mut(loaded..).unwrap_or_default();
        let (length, now) = piece(port, object, loaded as u64, rest)?;
        if length == 0 || now != size {
            return Err(LoadError::Changed(name));
        }
        loaded += length;
    }
    Ok(bytes)
}

/// Loads one piece; its length and the object's whole size.
fn piece(
    port: &Port,
    object: Object,
    offset: u64,
    bytes: &mut [u8],
) -> Result<(usize, u64), LoadError> {
    let call = Call::Load {
        object,
        offset,
        length: u32::try_from(bytes.len().min(MAX_TRANSFER)).unwrap_or(u32::MAX),
    };
    port.call(&call, &[], bytes)
        .map(|answer| (answer.length, answer.value))
        .map_err(|error| LoadError::Refused(name(object), error))
}
