// SPDX-License-Identifier: Apache-2.0

//! Text from outside (evidence, certificates, manifests, file names), made safe to print: its author must not be able
//! to move the cursor, hide or reverse neighbouring text, or add a line that looks like ours.

/// Characters of the longest text that is shown whole.
pub const MAX_LEN: usize = 2000;

/// True for a character that does more on a terminal than take a place of its own: control characters (C0, DEL, C1),
/// those that change the direction of text or the line (Unicode Bidi_Control, Zl, Zp), and invisible ones (Unicode
/// Default_Ignorable_Code_Point).
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{AD}'
                | '\u{34F}'
                | '\u{61C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

/// One line: each character that acts on a terminal is written as `\u{…}`, and text longer than [`MAX_LEN`] is cut off
/// with a note.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_LEN));
    for character in text.chars().take(MAX_LEN) {
        push(&mut shown, character);
    }
    let length = text.chars().count();
    if length > MAX_LEN {
        shown += "… (";
        shown += &length.to_string();
        shown += " characters in all)";
    }
    shown
}

/// As [`printable`], for text of several lines and any length: ends of lines stay.
pub fn printable_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' {
            shown.push('\n');
        } else {
            push(&mut shown, character);
        }
    }
    shown
}

/// As [`printable_lines`], for JSON: characters that act on a terminal can occur only in strings there, and become
/// JSON escapes (RFC 8259, section 7), so the value stays the same.
pub fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || !acts(character) {
            shown.push(character);
            continue;
        }
        let mut units = [0; 2];
        let units = character.encode_utf16(&mut units);
        let escapes = units.iter().map(|unit| format!("\\u{unit:04x}"));
        shown.extend(escapes);
    }
    shown
}

fn push(shown: &mut String, character: char) {
    if acts(character) {
        shown.extend(character.escape_unicode());
    } else {
        shown.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, shown) in [
            ("Milan-B0 ← ≤ ü", "Milan-B0 ← ≤ ü"),
            ("\u{1b}[2J\u{1b}[Hvalid", "\\u{1b}[2J\\u{1b}[Hvalid"),
            ("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("\u{202e}dilav", "\\u{202e}dilav"),
            ("in\u{200b}valid", "in\\u{200b}valid"),
            ("\u{2028}", "\\u{2028}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\n\u{7}"), "a\n\\u{7}");
        let json = serde_json::json!({ "a\u{9b}": "\u{e0001}\u{202e}x\n" });
        let shown = printable_json(&format!("{json:#}"));
        assert!(
            shown.contains("\\u009b") && shown.contains("\\udb40\\udc01\\u202ex\\n"),
            "{shown}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            json
        );
        let long = printable(&"x".repeat(MAX_LEN + 1));
        assert!(long.ends_with("x… (2001 characters in all)"));
        assert_eq!(printable(&"x".repeat(MAX_LEN)).len(), MAX_LEN);
    }
}
