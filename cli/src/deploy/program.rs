// SPDX-License-Identifier: Apache-2.0

//! The bytes of a program that is deployed: WebAssembly, or code that `enarx compile` has made.

use std::path::Path;

use enarx_configuration::precompiled::{Precompiled, is_precompiled};

use crate::failure::Failure;
use crate::input;
use crate::local::program::translate;

/// A program as it is delivered.
pub struct Program {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of the WebAssembly that it was compiled from, if it is native code.
    pub source: Option<[u8; 32]>,
}

/// Reads a program, which may be native code if that is `allowed`.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for what is no program; [`crate::failure::Exit::Usage`] for
/// native code that is not allowed.
pub fn read_program(path: &Path, allowed: bool) -> Result<Program, Failure> {
    let bytes = input::read_program(path)?;
    if !is_precompiled(&bytes) {
        let bytes = translate(path, bytes)?;
        return Ok(Program {
            bytes,
            source: None,
        });
    }
    let shown = path.display();
    if !allowed {
        return Err(Failure::usage(format!(
            "{shown} is precompiled: native code, about which its receipt proves less: allow it with --allow-precompiled"
        )));
    }
    let found = Precompiled::decode(&bytes);
    let found = found.map_err(|error| Failure::data(format!("{shown}: {error}")))?;
    let source = Some(found.source);
    Ok(Program { bytes, source })
}
