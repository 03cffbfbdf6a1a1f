// SPDX-License-Identifier: Apache-2.0

//! The bytes of a program: WebAssembly, its text, or code that `enarx compile` has made.

use std::path::Path;

use enarx_backend::Backend;
use enarx_configuration::precompiled::{Precompiled, is_precompiled};

use crate::failure::{Exit, Failure};
use crate::input;

/// First bytes of every binary module and component (WebAssembly core specification, section 5.5.16).
const MAGIC: &[u8] = b"\0asm";

/// The program's bytes, for a Keep of this kind on this machine; text is translated.
///
/// # Errors
/// As [`read_module`]; when it is precompiled and not allowed, not for this kind of Keep, or damaged.
pub fn read_program(path: &Path, precompiled: bool, backend: Backend) -> Result<Vec<u8>, Failure> {
    let bytes = input::read_program(path)?;
    if !is_precompiled(&bytes) {
        return translate(path, bytes);
    }
    let shown = input::shown(path);
    if !precompiled {
        return Err(Failure::usage(format!(
            "{shown} is precompiled: native code, which only the virtual machine of the Keep confines: allow it with \
             --allow-precompiled"
        )));
    }
    if backend == Backend::Process {
        return Err(Failure::of(
            Exit::Unavailable,
            format!(
                "{shown} is precompiled, and a process Keep cannot run it: it has no virtual machine, and WebAssembly \
                 would not confine it: take --backend kvm, or run the WebAssembly"
            ),
        ));
    }
    Precompiled::decode(&bytes).map_err(|error| Failure::data(format!("{shown}: {error}")))?;
    Ok(bytes)
}

/// True if the program may send requests through `wasi:http`: a component contains the names of its imports
/// unchanged, compiled or not.
pub fn may_ask_servers(application: &[u8]) -> bool {
    memchr::memmem::find(application, b"wasi:http/").is_some()
}

/// The WebAssembly of a program; text is translated.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`] for what is not WebAssembly.
pub fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    translate(path, input::read_program(path)?)
}

/// A program as `enarx deploy` delivers it: WebAssembly, into which text was translated, or native code.
///
/// # Errors
/// As [`read_module`].
pub fn read_delivered(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = input::read_program(path)?;
    if is_precompiled(&bytes) {
        return Ok(bytes);
    }
    translate(path, bytes)
}

/// The WebAssembly of the bytes of a program; text is translated.
///
/// # Errors
/// [`Exit::Data`] for what is not WebAssembly.
pub fn translate(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if bytes.starts_with(MAGIC) {
        return Ok(bytes);
    }
    let shown = input::shown(path);
    if is_precompiled(&bytes) {
        return Err(Failure::data(format!(
            "{shown} is precompiled, which only `enarx run`, `enarx serve` and `enarx deploy` take: give the WebAssembly"
        )));
    }
    let text = path.extension().is_some_and(|extension| extension == "wat")
        || bytes.trim_ascii_start().starts_with(b"(");
    if !text {
        let made_by_others = path.extension().is_some_and(|it| it == "cwasm");
        let remedy = if made_by_others {
            "code of other compilers is not accepted: make it with `enarx compile`"
        } else {
            "give a .wasm file (module or component) or a .wat file"
        };
        return Err(Failure::data(format!(
            "{shown} is not WebAssembly: {remedy}"
        )));
    }
    wat::parse_bytes(&bytes)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| {
            // The first line has the cause, the second the place.
            let error = error.to_string();
            let lines: Vec<&str> = error.lines().map(str::trim).take(2).collect();
            Failure::data(format!(
                "{shown} is not valid WebAssembly text: {}",
                lines.join(" ")
            ))
        })
}
