// SPDX-License-Identifier: Apache-2.0

//! The files of a crate and their dependencies: read from the sources, by the paths that begin with `crate`,
//! `super`, `self` or a module of the file itself.
//!
//! A name that a file only re-exports (`pub use`) counts as that of the file that defines it. Test code is
//! left out, and so are uses without a path: methods, and implementations of traits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module that is a file: the names that lead to it from the root of its crate. The root has no names.
pub type Module = Vec<String>;

/// An import, or another path.
type Words = Vec<String>;

/// The words before the name of an item.
const ITEMS: [&str; 9] = [
    "const",
    "enum",
    "fn",
    "macro_rules",
    "static",
    "struct",
    "trait",
    "type",
    "union",
];

/// The files of one target: a library, or a program.
#[derive(Debug, Default)]
pub struct Modules(BTreeMap<Module, Source>);

/// The facts about a file.
#[derive(Debug, Default)]
struct Source {
    /// Items that the file defines.
    items: BTreeSet<String>,
    /// Modules that it declares as files, each with the modules of this file that contain it.
    modules: Vec<Words>,
    /// Names that it imports, and their sources; `*` for all of a module.
    imports: Vec<(Words, String)>,
    /// Other paths.
    paths: BTreeSet<Words>,
}

impl Modules {
    /// Reads a target, starting at its root.
    pub fn read(root: &Path) -> Self {
        let folder = root.parent().expect("a file lies in a folder");
        let mut modules = Self::default();
        modules.add(Vec::new(), folder, &text(root));
        modules
    }

    /// Adds a file, and those whose modules it declares, in `folder`.
    fn add(&mut self, module: Module, folder: &Path, text: &str) {
        let source = Source::parse(&without_tests(&tokens(text)));
        for path in &source.modules {
            let below = folder.join(path.join("/"));
            let files = [below.with_extension("rs"), below.join("mod.rs")];
            let file = files.iter().find(|file| file.is_file());
            let file = file.unwrap_or_else(|| panic!("{} is no file", below.display()));
            for inner in 1..path.len() {
                let inner = [&module[..], &path[..inner]].concat();
                self.0.entry(inner).or_default();
            }
            let below_module = [&module[..], &path[..]].concat();
            self.add(below_module, &below, &self::text(file));
        }
        self.0.insert(module, source);
    }

    /// The number of its files.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The modules that a module needs, without itself.
    pub fn needs(&self, module: &Module) -> BTreeSet<Module> {
        let source = &self.0[module];
        let imported = source.imports.iter().map(|(path, name)| {
            let all = (name == "*").then(|| name.clone());
            path.iter().cloned().chain(all).collect()
        });
        let mut found: BTreeSet<Module> = imported
            .chain(source.paths.iter().cloned())
            .filter_map(|path: Words| self.resolve(module, &path, &mut BTreeSet::new()))
            .collect();
        found.remove(module);
        found
    }

    /// The module that defines what a path in `module` names; `None` if it belongs to another crate.
    fn resolve(
        &self,
        module: &Module,
        path: &[String],
        seen: &mut BTreeSet<(Module, String)>,
    ) -> Option<Module> {
        let mut at = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => module.clone(),
            name => {
                let below = [&module[..], &[name.to_owned()]].concat();
                if !self.0.contains_key(&below) {
                    return None;
                }
                module.clone()
            }
        };
        for name in path {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => {
                    at.push(name.to_owned());
                    if !self.0.contains_key(&at) {
                        at.pop();
                        return Some(self.origin(&at, name, seen));
                    }
                }
            }
        }
        Some(at)
    }

    /// The module that defines a name that `module` has; `module` itself if no other is known.
    fn origin(&self, module: &Module, name: &str, seen: &mut BTreeSet<(Module, String)>) -> Module {
        let source = &self.0[module];
        let is_new = seen.insert((module.clone(), name.to_owned()));
        if source.items.contains(name) || !is_new {
            return module.clone();
        }
        let mut found = None;
        for (path, imported) in &source.imports {
            if imported == name {
                found = self.resolve(module, path, seen);
            } else if imported == "*" && found.is_none() {
                let mut path = path.clone();
                path.push(name.to_owned());
                let from = self.resolve(module, &path, seen);
                found = from.filter(|from| self.0[from].items.contains(name));
            }
            if imported == name && found.is_some() {
                break;
            }
        }
        found.unwrap_or_else(|| module.clone())
    }

    /// The circles: modules that depend on each other, directly or indirectly.
    pub fn circles(&self) -> Vec<BTreeSet<Module>> {
        let needs: BTreeMap<&Module, BTreeSet<Module>> =
            self.0.keys().map(|it| (it, self.needs(it))).collect();
        let reached = |from: &Module| {
            let mut found = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                for next in &needs[&module] {
                    if found.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            found
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> =
            self.0.keys().map(|it| (it, reached(it))).collect();
        let mut circles: Vec<BTreeSet<Module>> = Vec::new();
        for (module, reaches) in &reached {
            let circle: BTreeSet<Module> = reaches
                .iter()
                .filter(|other| reached[*other].contains(*module))
                .cloned()
                .collect();
            if circle.len() > 1 && !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }
}

/// A module as a path; the root as `crate`.
pub fn shown(module: &Module) -> String {
    if module.is_empty() {
        return "crate".to_owned();
    }
    module.join("::")
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The words, `::` and single signs of a source, without comments, strings, characters, lifetimes and numbers.
fn tokens(source: &str) -> Vec<&str> {
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        let word = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let raw = rest.trim_start_matches(['b', 'c']);
        let raw = raw
            .strip_prefix('r')
            .filter(|raw| raw.starts_with(['#', '"']));
        let hashes = raw.map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
        let is_raw = raw.is_some_and(|raw| raw[hashes..].starts_with('"'));
        let end =
            |text: &str, from: usize| rest[from..].find(text).map(|it| from + it + text.len());
        at += if rest.starts_with("//") {
            end("\n", 2).unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if is_raw && word <= 2 {
            let begin = word + hashes + 1;
            end(&format!("\"{}", "#".repeat(hashes)), begin).expect("a string ends")
        } else if rest.starts_with('"') {
            string(rest, '"', 1)
        } else if rest.starts_with("b\"") || rest.starts_with("c\"") {
            string(rest, '"', 2)
        } else if rest.starts_with("b'") {
            string(rest, '\'', 2)
        } else if let Some(quoted) = rest.strip_prefix('\'') {
            let mut signs = quoted.chars();
            let (first, second) = (signs.next(), signs.next());
            if first == Some('\\') || second == Some('\'') {
                string(rest, '\'', 1)
            } else {
                // A lifetime.
                1
            }
        } else if word > 0 {
            if is_word(rest) {
                found.push(&rest[..word]);
            }
            word
        } else if rest.starts_with("::") {
            found.push(&rest[..2]);
            2
        } else {
            let sign = rest.chars().next().map_or(1, char::len_utf8);
            if !rest.starts_with(char::is_whitespace) {
                found.push(&rest[..sign]);
            }
            sign
        };
    }
    found
}

/// The length of a comment, which may contain others.
fn comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest.chars().next().expect("a comment ends").len_utf8();
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The length of a string or character, whose text begins at `begin` and ends at `quote`.
fn string(text: &str, quote: char, begin: usize) -> usize {
    let mut escaped = false;
    for (at, sign) in text[begin..].char_indices() {
        if sign == quote && !escaped {
            return begin + at + 1;
        }
        escaped = sign == '\\' && !escaped;
    }
    panic!("a string ends")
}

/// The place after the group that opens at `at`.
fn behind(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// The tokens without attributes, and without what is under `#[test]` and `#[cfg(test)]`.
fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] != "#" || tokens.get(at + 1) != Some(&"[") {
            found.push(tokens[at]);
            at += 1;
            continue;
        }
        let end = behind(tokens, at + 1);
        let attribute = &tokens[at + 2..end - 1];
        let is_test = attribute.first() == Some(&"test")
            || (attribute.first() == Some(&"cfg")
                && attribute.contains(&"test")
                && !attribute.contains(&"not"));
        at = end;
        if !is_test {
            continue;
        }
        // Its other attributes, and the item or field: up to a group in braces, a semicolon, a comma, or the end around it.
        while let Some(token) = tokens.get(at) {
            match *token {
                "{" => {
                    at = behind(tokens, at);
                    break;
                }
                ";" | "," => {
                    at += 1;
                    break;
                }
                "}" | ")" | "]" => break,
                "(" | "[" => at = behind(tokens, at),
                _ => at += 1,
            }
        }
    }
    found
}

impl Source {
    fn parse(tokens: &[&str]) -> Self {
        let mut source = Self::default();
        // For each open brace, the name of the module within the file that it belongs to.
        let mut open: Vec<Option<&str>> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let token = tokens[at];
            let here = at;
            let next = |by: usize| tokens.get(here + by).copied().unwrap_or_default();
            let before = at.checked_sub(1).map_or("", |before| tokens[before]);
            let inner: Vec<&str> = open.iter().copied().flatten().collect();
            if token == "use" && matches!(before, "" | ";" | "{" | "}" | "pub" | ")") {
                let mut imports = Vec::new();
                at = imported(tokens, at + 1, &Vec::new(), &mut imports);
                for (path, name) in imports {
                    if let Some(path) = of_file(&path, inner.len()) {
                        // Names within functions and inner modules are not those of the file.
                        let name = if open.is_empty() { name } else { String::new() };
                        source.imports.push((path, name));
                    }
                }
                continue;
            }
            if token == "mod" && next(2) == ";" {
                let path = inner.iter().copied().chain([next(1)]);
                source.modules.push(path.map(str::to_owned).collect());
                at += 3;
                continue;
            }
            if token == "mod" && next(2) == "{" {
                open.push(Some(next(1)));
                at += 3;
                continue;
            }
            if open.is_empty() && ITEMS.contains(&token) {
                let name = match next(1) {
                    "!" | "mut" => next(2),
                    name => name,
                };
                source.items.insert(name.to_owned());
            }
            match token {
                "{" | "(" | "[" => open.push(None),
                "}" | ")" | "]" => drop(open.pop()),
                _ => {}
            }
            at += 1;
            if is_word(token) && next(1) == "::" && !matches!(before, "::" | "in") {
                let mut path = vec![token.to_owned()];
                while tokens.get(at) == Some(&"::")
                    && tokens.get(at + 1).is_some_and(|token| is_word(token))
                {
                    path.push(tokens[at + 1].to_owned());
                    at += 2;
                }
                source.paths.extend(of_file(&path, inner.len()));
            }
        }
        source
    }
}

/// Reads a tree of imports that begins at `at`; returns the place after it.
fn imported(
    tokens: &[&str],
    mut at: usize,
    before: &Words,
    found: &mut Vec<(Words, String)>,
) -> usize {
    let mut path = before.clone();
    loop {
        match tokens[at] {
            "::" => at += 1,
            "*" => {
                found.push((path, "*".to_owned()));
                return at + 1;
            }
            "{" => {
                at += 1;
                while tokens[at] != "}" {
                    at = imported(tokens, at, &path, found);
                    if tokens[at] == "," {
                        at += 1;
                    }
                }
                return at + 1;
            }
            word => {
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                at += 1;
                if tokens.get(at) == Some(&"::") {
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if tokens.get(at) == Some(&"as") {
                    tokens[at + 1].clone_into(&mut name);
                    at += 2;
                }
                found.push((path, name));
                return at;
            }
        }
    }
}

/// A path within so many modules of a file, as its file would write it; `None` if it stays in them.
fn of_file(path: &[String], inner: usize) -> Option<Words> {
    let up = path.iter().take_while(|word| *word == "super").count();
    let relative = matches!(path.first().map(String::as_str), Some("self" | "super"));
    match inner {
        0 => Some(path.to_vec()),
        _ if !relative => Some(path.to_vec()),
        _ if up < inner => None,
        _ => {
            let file = std::iter::once("self".to_owned());
            Some(file.chain(path[inner..].iter().cloned()).collect())
        }
    }
}

mod tests {
    use super::*;

    /// A crate of these files; a module is named with the modules that contain it.
    fn modules(files: &[(&str, &str)]) -> Modules {
        let folder = tempfile::tempdir().unwrap();
        for (name, source) in files {
            let file = folder.path().join(format!("{name}.rs"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, source).unwrap();
        }
        Modules::read(&folder.path().join("lib.rs"))
    }

    fn needs(modules: &Modules, module: &str) -> Vec<String> {
        let path = match module {
            "crate" => Vec::new(),
            path => path.split("::").map(str::to_owned).collect(),
        };
        modules.needs(&path).iter().map(shown).collect()
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_what_it_names() {
        let modules = modules(&[
            (
                "lib",
                "mod a; mod b; mod c; mod d { pub mod e; } pub use b::Passed; pub struct Own;",
            ),
            ("a", "use crate::{Own, Passed as P, b::deep::{self, D}};"),
            ("b", "pub mod deep; pub struct Passed; use super::c::*;"),
            ("b/deep", "pub struct D; fn f() { super::super::c::g() }"),
            ("c", "pub fn g() { crate::b::deep::D; }"),
            ("d/e", "use crate::c::g; use super::super::a;"),
        ]);
        assert_eq!(modules.len(), 7);
        assert_eq!(needs(&modules, "d::e"), ["a", "c"]);
        assert_eq!(needs(&modules, "crate"), ["b"]);
        assert_eq!(needs(&modules, "a"), ["crate", "b", "b::deep"]);
        assert_eq!(needs(&modules, "b"), ["c"]);
        assert_eq!(needs(&modules, "b::deep"), ["c"]);
        assert_eq!(needs(&modules, "c"), ["b::deep"]);
        let circles = modules.circles();
        let shown: Vec<Vec<String>> = circles
            .iter()
            .map(|circle| circle.iter().map(shown).collect())
            .collect();
        assert_eq!(shown, [["b::deep", "c"]]);
    }

    #[test]
    fn text_tests_and_other_crates_are_not_dependencies() {
        let modules = modules(&[
            ("lib", "mod a;"),
            (
                "a",
                r##"
                // crate::x /* in a comment
                /* crate::x /* nested */ crate::x */
                const T: &str = "crate::x \" crate::x"; const R: &str = r#"" crate::x"#;
                const C: [char; 3] = ['"', '\'', '\\']; fn f<'a>(x: &'a str) -> std::fmt::Result {}
                pub(in crate::x) struct S;
                mod inner { use super::S; fn g() { super::super::h() } }
                #[test] fn t() { crate::x() }
                #[cfg(test)] mod tests { use super::*; use crate::x; }
                "##,
            ),
        ]);
        assert_eq!(needs(&modules, "a"), ["crate"]);
        let source = &modules.0[&vec!["a".to_owned()]];
        let crate_paths = source.paths.iter().filter(|path| path[0] == "crate");
        assert_eq!(crate_paths.count(), 0);
    }
}
