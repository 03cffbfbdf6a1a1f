// SPDX-License-Identifier: Apache-2.0

//! The data segments of an application: how many there are decides how memories are filled.
//!
//! Wasmtime compiles code that copies each segment, or joins them while it compiles and copies the image. The
//! first is less work for a handful of segments; linkers that leave zeros out make tens of thousands.

use wasmparser::{Chunk, Parser, Payload};

/// From this number on, in one module, segments are joined: compiling the copy of one takes some 40 µs.
const MANY: u32 = 16;

/// Tells if one of the modules of an application has many data segments. Of what cannot be parsed the
/// compiler says what is wrong with it.
pub fn are_many(application: &[u8]) -> bool {
    let mut parser = Parser::new(0);
    let mut outer = Vec::new();
    let mut rest = application;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else {
            return false;
        };
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            Payload::DataSection(section) if section.count() >= MANY => return true,
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
        are_many(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn segments_are_counted_in_each_module() {
        let (few, enough) = (module(MANY - 1), module(MANY));
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
    fn what_is_cut_off_has_none() {
        let whole = wat::parse_str(format!("(module {})", module(MANY))).unwrap();
        for length in 0..whole.len() {
            are_many(&whole[..length]);
        }
        assert!(!are_many(&whole[..whole.len() / 2]));
        assert!(!are_many(b""));
    }
}
