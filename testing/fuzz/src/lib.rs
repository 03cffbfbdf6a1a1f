// SPDX-License-Identifier: Apache-2.0

//! A fuzz target is a program: with `--cfg fuzzing` it is libFuzzer's, which makes up inputs and watches the code that
//! they reach; without, it takes the inputs of the files that are named, so that whatever the fuzzer has found is seen again
//! under a debugger, by the stable compiler. `.ci/fuzz` builds and runs them.

use std::{env, fs, io};

#[doc(hidden)]
pub use arbitrary;

/// Makes a program that passes any input of a type to a block, which panics if it finds a fault. An expression after
/// `init` is evaluated before the first input and is not part of its time: an input that takes a minute is a fault.
#[macro_export]
macro_rules! target {
    (|$input:ident: $type:ty| $block:block) => {
        $crate::target!(init: (), |$input: $type| $block);
    };
    (init: $init:expr, |$input:ident: $type:ty| $block:block) => {
        #[cfg(fuzzing)]
        ::libfuzzer_sys::fuzz_target!(init: $init, |$input: $type| $block);

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $init;
            fn run(bytes: &[u8]) {
                let bytes = $crate::arbitrary::Unstructured::new(bytes);
                // Bytes that make no input of this type say nothing to libFuzzer, too.
                if let Ok(input) = $crate::arbitrary::Arbitrary::arbitrary_take_rest(bytes) {
                    (|$input: $type| $block)(input);
                }
            }
            $crate::replay(run)
        }
    };
}

/// Gives the content of each file of the command line to a target.
///
/// # Errors
/// No file is named, or one cannot be read.
pub fn replay(run: fn(&[u8])) -> io::Result<()> {
    let files: Vec<_> = env::args_os().skip(1).collect();
    if files.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "name the files with inputs",
        ));
    }
    for file in files {
        run(&fs::read(file)?);
    }
    Ok(())
}
