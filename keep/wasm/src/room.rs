// SPDX-License-Identifier: Apache-2.0

//! The memory that compiling needs, which is the Keep's. If there is clearly too little, this is reported before a
//! minute of work and not after it.

use enarx_configuration::precompiled::MEMORY_FOR_BYTE;
use wasmtime::OutOfMemory;

use crate::ground::EngineEnvironment;
use crate::segments;

/// Lower bound of the compiler's memory for each byte of code: slightly less than was ever seen (`MEMORY_FOR_BYTE`).
const MIN_MEMORY_PER_BYTE: u64 = 17;
/// Code below this size, in bytes, is compiled without checking the memory: asking is a system call or more, and
/// failures occur quickly.
const SMALL: u64 = 4 << 20;
/// Granularity of the memory that is recommended, in bytes.
const STEP: u64 = 256 << 20;

/// Refuses an application for whose compiler there is clearly not enough memory.
///
/// # Errors
/// A sentence with the memory that it takes.
pub fn check(ground: &dyn EngineEnvironment, application: &[u8]) -> wasmtime::Result<()> {
    // Most applications are smaller than that as a whole: their sections are not walked once more at each start.
    if (application.len() as u64) < SMALL {
        return Ok(());
    }
    let code = segments::code_size(application);
    if code < SMALL {
        return Ok(());
    }
    let free = ground.free_memory();
    let least = code.saturating_mul(MIN_MEMORY_PER_BYTE);
    if least <= free {
        return Ok(());
    }
    // With the program itself, and some for the rest.
    let enough = code
        .saturating_mul(MEMORY_FOR_BYTE)
        .saturating_add(application.len() as u64)
        .saturating_add(STEP)
        .checked_next_multiple_of(STEP)
        .unwrap_or(u64::MAX);
    wasmtime::bail!(
        "compiling its {} MiB of code takes more memory than the Keep has: {} MiB at least, and {} are free; give it \
         --memory {}M",
        code >> 20,
        least >> 20,
        free >> 20,
        enough >> 20
    );
}

/// The error of a compiler; in a sentence if the system refused it memory.
pub fn explained(error: wasmtime::Error) -> wasmtime::Error {
    // ENOMEM, as the standard library writes it. The engine has no kind for it: its error is that of a library inside of it, which
    // is another type with each version.
    let is_refused = format!("{error:#}").contains("(os error 12)");
    if !is_refused && !error.is::<OutOfMemory>() {
        return error;
    }
    wasmtime::format_err!(
        "compiling it takes more memory than the Keep has: give it more with --memory"
    )
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use super::*;

    /// An environment with this much free memory.
    struct FixedMemory(u64);

    impl EngineEnvironment for FixedMemory {
        fn free_memory(&self) -> u64 {
            self.0
        }

        fn release_heap(&self) {}

        fn processors(&self) -> NonZero<usize> {
            NonZero::<usize>::MIN
        }
    }

    /// A module with this many bytes of code, of which only the length is used.
    fn module(size: u64) -> Vec<u8> {
        // One type and one function of it, then the code.
        let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
        // The length of the section in LEB128 of five bytes. The number of functions is a part of it.
        for shift in [0, 7, 14, 21, 28] {
            let [part, ..] = ((size + 1) >> shift & 0x7f).to_le_bytes();
            module.push(if shift < 28 { part | 0x80 } else { part });
        }
        module.push(1);
        module.resize(module.len() + usize::try_from(size).unwrap(), 0);
        module
    }

    #[test]
    fn too_little_memory_is_reported_with_the_amount_needed() {
        let sixty = module(60 << 20);
        check(&FixedMemory(1020 << 20), &sixty).unwrap();
        let error = check(&FixedMemory((1020 << 20) - 1), &sixty).unwrap_err();
        assert_eq!(
            error.to_string(),
            "compiling its 60 MiB of code takes more memory than the Keep has: 1020 MiB at least, and 1019 are free; give it \
             --memory 2304M"
        );
        let told = |cause: wasmtime::Error| explained(cause.context("no buffer")).to_string();
        let system = |number| told(std::io::Error::from_raw_os_error(number).into());
        assert!(system(12).contains("--memory"));
        assert_eq!(system(13), "no buffer");
        assert!(told(OutOfMemory::new(1).into()).contains("--memory"));
        check(&FixedMemory(0), &module(SMALL - 1)).unwrap();
        check(&FixedMemory(0), &module(SMALL)).unwrap_err();
    }
}
