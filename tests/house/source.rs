//! A source file as the rules see it: its tokens with their lines, without what only tests compile.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One broken rule.
#[derive(Debug)]
pub(crate) struct Breach {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// A file of the crate.
pub(crate) struct Source {
    /// Its path from the repository's root, with `/`.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// All its tokens.
    pub(crate) all: Vec<TokenTree>,
    /// Its tokens without the items under `#[cfg(test)]`; none when the whole file is a test.
    pub(crate) shipped: Vec<TokenTree>,
}

impl Source {
    /// Reads `text` as Rust.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let all: Vec<_> =
            TokenStream::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}")).into_iter().collect();
        let only_tests =
            path.starts_with("tests/") || path.split('/').any(|part| part == "tests" || part == "tests.rs");
        let shipped = if only_tests { Vec::new() } else { without_tests(&all) };
        Self { path: path.to_owned(), text: text.to_owned(), all, shipped }
    }

    /// A breach in this file.
    pub(crate) fn breach(&self, line: usize, rule: impl Into<String>) -> Breach {
        breach(&self.path, line, rule)
    }

    /// The modules between the crate's root and this file: `store`, `key` for `src/store/key.rs`, none for the roots.
    pub(crate) fn modules(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if inner == "lib" { Vec::new() } else { inner.split('/').collect() }
    }
}

/// A breach in the file at `path`.
pub(crate) fn breach(path: &str, line: usize, rule: impl Into<String>) -> Breach {
    Breach { path: path.to_owned(), line, rule: rule.into() }
}

/// The line on which a token begins, from 1.
pub(crate) fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

/// The tokens inside of a token, if it is a group.
pub(crate) fn inside(token: &TokenTree) -> Vec<TokenTree> {
    match token {
        TokenTree::Group(group) => group.stream().into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether a token is this word or sign.
pub(crate) fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Ident(ident) => ident == text,
        TokenTree::Punct(punct) => text.len() == 1 && text.starts_with(punct.as_char()),
        _ => false,
    }
}

/// Whether `tokens` begin with these words and signs, separated by spaces: `SystemTime : : now`.
pub(crate) fn begins(tokens: &[TokenTree], text: &str) -> bool {
    let mut words = text.split(' ').zip(tokens);
    tokens.len() >= text.split(' ').count() && words.all(|(word, token)| is(token, word))
}

/// Shows every position of `tokens`, groups included, to `look`: what stands before it in its group, and what from there.
pub(crate) fn walk(tokens: &[TokenTree], look: &mut dyn FnMut(&[TokenTree], &[TokenTree])) {
    for (index, token) in tokens.iter().enumerate() {
        look(&tokens[..index], &tokens[index..]);
        walk(&inside(token), look);
    }
}

/// Whether the group is written with this bracket.
pub(crate) fn delimited(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

/// Leaves out every item that `#[cfg(test)]` stands before, up to its braces or its semicolon.
fn without_tests(tokens: &[TokenTree]) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let [first, others @ ..] = rest {
        let test =
            is(first, "#") && others.first().is_some_and(|group| group.to_string().replace(' ', "") == "[cfg(test)]");
        if test {
            let end = others.iter().position(|token| is(token, ";") || delimited(token, Delimiter::Brace));
            rest = &others[end.map_or(others.len(), |end| end + 1)..];
            continue;
        }
        kept.push(match first {
            TokenTree::Group(group) => {
                let stream = without_tests(&inside(first)).into_iter().collect();
                let mut slim = proc_macro2::Group::new(group.delimiter(), stream);
                slim.set_span(group.span());
                slim.into()
            }
            other => other.clone(),
        });
        rest = others;
    }
    kept
}

/// The paths of the files below `folders`, as Git would take them: neither ignored nor Git's own, sorted.
pub(crate) fn files(root: &Path, folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let inner = path.strip_prefix(root).unwrap().to_string_lossy().trim_start_matches("./").to_owned();
            if matches!(inner.as_str(), ".git" | "target" | "data/store") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(inner);
            }
        }
    }
    found.sort();
    found
}

/// A file's text; what is not UTF-8 is no text of ours and reads as nothing.
pub(crate) fn read(root: &Path, path: &str) -> String {
    let bytes = std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8(bytes).unwrap_or_default()
}
