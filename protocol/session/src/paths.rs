// SPDX-License-Identifier: Apache-2.0

//! Names and paths in a deployment. A Keep refuses invalid ones; the author of a deployment checks them by
//! the same rules first.

/// Longest path of a file, in bytes (Linux: PATH_MAX without the NUL).
pub const MAX_PATH: usize = 4095;
/// Longest part of a path and longest name of a secret, in bytes (Linux: NAME_MAX).
pub const MAX_PART: usize = 255;

fn is_part(text: &str) -> bool {
    (1..=MAX_PART).contains(&text.len())
        && text != "."
        && text != ".."
        && !text
            .chars()
            .any(|c| c == '/' || c == '\\' || c.is_control())
}

/// True if `text` is a path in the package: relative, at most [`MAX_PATH`] bytes, every part a name, nothing that climbs.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.len() <= MAX_PATH && text.split('/').all(is_part)
}

/// True if `text` names a file below `/run/secrets`: one part of a path.
#[must_use]
pub fn is_file_name(text: &str) -> bool {
    is_part(text)
}

/// True if `text` names a variable of the environment (POSIX.1 section 8.1), in at most [`MAX_PART`] bytes.
#[must_use]
pub fn is_variable(text: &str) -> bool {
    text.len() <= MAX_PART
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Orders paths part by part, so that a directory comes right before its contents.
#[must_use]
pub fn compare(a: &str, b: &str) -> core::cmp::Ordering {
    a.split('/').cmp(b.split('/'))
}

/// True if `inner` would lie in a directory that is the file `outer`.
#[must_use]
pub fn lies_in(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn nothing_climbs_out_of_the_package() {
        for path in ["a", "a/b", "ä/…", "..a", "a b"] {
            assert!(is_path(path), "{path}");
        }
        let long = String::from_utf8(alloc::vec![b'a'; 256]).unwrap();
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a\0",
            "a\\b",
            "a\n",
            long.as_str(),
        ] {
            assert!(!is_path(path), "{path:?}");
        }
        assert!(is_variable("_A1"));
        for name in ["", "1A", "A=", "A B", "Ä", long.as_str()] {
            assert!(!is_variable(name), "{name}");
        }
        assert!(lies_in("a/b", "a"));
        assert!(!lies_in("ab", "a") && !lies_in("a", "a"));
        assert!(compare("a/b", "a b").is_lt(), "part by part");
    }
}
