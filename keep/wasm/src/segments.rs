// SPDX-License-Identifier: Apache-2.0

//! The data segments of an application: how many there are decides how memories are filled.
//!
//! Wasmtime compiles code that copies each segment, or joins them while it compiles and copies the image. The
//! first is less work for a handful of segments; linkers that leave zeros out make tens of thousands.

use wasmparser::{Chunk, Parser, Payload};

/// From this number on, in one module, segments are joined: compiling the copy of one takes some 40 µs.
const JOIN_THRESHOLD: u32 = 16;

/// The size of a WebAssembly page, as a power of two (core specification, 4.2.8).
const PAGE_LOG2: u32 = 16;

/// True if one of the modules of an application has many data segments. False for one that cannot be parsed: the
/// compiler will report the error.
pub fn has_many(application: &[u8]) -> bool {
    any_section(
        application,
        |section| matches!(section, Payload::DataSection(section) if section.count() >= JOIN_THRESHOLD),
    )
}

/// Returns the number of elements that the largest table of an application starts with.
pub fn largest_table(application: &[u8]) -> u64 {
    let mut largest = 0;
    any_section(application, |section| {
        if let Payload::TableSection(tables) = section {
            let tables = tables.clone().into_iter().flatten();
            largest = tables.map(|table| table.ty.initial).fold(largest, u64::max);
        }
        false
    });
    largest
}

/// Returns the bytes that the largest memory of an application starts with.
pub fn largest_memory(application: &[u8]) -> u64 {
    let mut largest = 0;
    any_section(application, |section| {
        if let Payload::MemorySection(memories) = section {
            let memories = memories.clone().into_iter().flatten();
            let bytes = memories.map(|memory| {
                let page = 1_u64 << memory.page_size_log2.unwrap_or(PAGE_LOG2).min(PAGE_LOG2);
                memory.initial.saturating_mul(page)
            });
            largest = bytes.fold(largest, u64::max);
        }
        false
    });
    largest
}

/// Returns the bytes of all code of an application, as far as it is there.
pub fn code_size(application: &[u8]) -> u64 {
    let whole = application.len() as u64;
    let mut size = 0_u64;
    any_section(application, |section| {
        if let Payload::CodeSectionStart { size: more, .. } = section {
            size = size.saturating_add(u64::from(*more)).min(whole);
        }
        false
    });
    size
}

/// True for an application with a section for which `wanted` is true, in one of its modules. Later sections are not
/// examined.
pub fn any_section(application: &[u8], mut wanted: impl FnMut(&Payload<'_>) -> bool) -> bool {
    let mut parser = Parser::new(0);
    let mut outer = Vec::new();
    let mut rest = application;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else {
            return false;
        };
        rest = rest.get(consumed..).unwrap_or_default();
        if wanted(&payload) {
            return true;
        }
        match payload {
            Payload::CodeSectionStart { size, .. } => {
                // Functions are of no interest here, and there may be many.
                parser.skip_section();
                let Some(behind) = usize::try_from(size).ok().and_then(|size| rest.get(size..))
                else {
                    return false;
                };
                rest = behind;
            }
            Payload::ModuleSection { parser: inner, .. }
            | Payload::ComponentSection { parser: inner, .. } => {
                outer.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match outer.pop() {
                Some(back) => parser = back,
                None => return false,
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn module(segments: u32) -> String {
        let mut text = String::from("(memory 1) (func) (func)");
        for index in 0..segments {
            write!(text, "(data (i32.const {index}) \"x\")").unwrap();
        }
        text
    }

    fn many(text: &str) -> bool {
        has_many(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn segments_are_counted_in_each_module() {
        let (few, enough) = (module(JOIN_THRESHOLD - 1), module(JOIN_THRESHOLD));
        assert!(!many(&format!("(module {few})")));
        assert!(many(&format!("(module {enough})")));
        assert!(!many(&format!(
            "(component (core module {few}) (core module {few}))"
        )));
        assert!(many(&format!(
            "(component (core module {few}) (component (core module {enough})) (core module {few}))"
        )));
    }

    #[test]
    fn the_largest_table_and_memory_are_found() {
        let largest = |text: &str| largest_table(&wat::parse_str(text).unwrap());
        assert_eq!(largest("(module (memory 1))"), 0);
        let text = "(component (core module (table 7 funcref))
            (core module (table 2 funcref) (func) (table 99 100 externref)) (core module (func)))";
        assert_eq!(largest(text), 99);
        let text = "(component (core module (memory 3)) (core module (memory 2 9)))";
        assert_eq!(largest_memory(&wat::parse_str(text).unwrap()), 3 << 16);
    }

    #[test]
    fn the_code_of_all_modules_is_counted() {
        let size = |text: &str| code_size(&wat::parse_str(text).unwrap());
        assert_eq!(size("(module (memory 1) (data (i32.const 0) \"x\"))"), 0);
        // Of each function its length, its number of locals and its end.
        let module = "(core module (func) (func))";
        assert_eq!(
            size(&format!(
                "(component {module} (component {module}) {module})"
            )),
            3 * 6
        );
    }

    #[test]
    fn truncated_modules_have_no_segments() {
        let whole = wat::parse_str(format!("(module {})", module(JOIN_THRESHOLD))).unwrap();
        for length in 0..whole.len() {
            has_many(&whole[..length]);
        }
        assert!(!has_many(&whole[..whole.len() / 2]));
        assert!(!has_many(b""));
    }
}
