//! Source files, and their code without comments and literals.

use std::path::{Path, PathBuf};

pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
    /// The text with comments and literals blanked out; bytes and lines keep their places.
    pub code: String,
}

impl Source {
    /// The top-level module that a file under `src` belongs to.
    pub fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = below.split('/').next().unwrap_or(below);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Whether all of the file is test code.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The line number of a byte of `code`.
    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The code without its `#[cfg(test)]` items, which are blanked out.
    pub fn code_outside_tests(&self) -> String {
        let mut code = self.code.clone();
        while let Some(start) = code.find("#[cfg(test)]") {
            let end = end_of_item(&code, start);
            let blank = blanked(&code[start..end]);
            code.replace_range(start..end, &blank);
        }
        code
    }
}

/// Where the item after an attribute ends: at its `;` or at the brace that closes it.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return start + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// A space for every byte but line ends.
fn blanked(text: &str) -> String {
    let blank = |b| if b == b'\n' { '\n' } else { ' ' };
    text.bytes().map(blank).collect()
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with one of these endings under `folder`, in order of path.
pub fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let ending = path.extension().is_some_and(|e| endings.iter().any(|&w| e == w));
            match path.is_dir() {
                true => folders.push(path),
                false if ending => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The Rust sources under `folder`.
pub fn sources(folder: &str) -> Vec<Source> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap();
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let (path, code) = (parts.join("/"), code(&text));
        Source { path, text, code }
    };
    files(folder, &["rs"]).into_iter().map(read).collect()
}

/// `text` with comments and literals blanked out, character by character.
pub fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = out.chars().next_back().unwrap_or(' ');
        let len = skipped(rest, before);
        let (now, later) = match len {
            0 => rest.split_at(first.len_utf8()),
            len => rest.split_at(len),
        };
        match len {
            0 => out.push(first),
            _ => out.push_str(&blanked(now)),
        }
        rest = later;
    }
    out
}

/// Bytes of the comment or literal that `rest` starts with, 0 for neither.
fn skipped(rest: &str, before: char) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    let in_word = before.is_alphanumeric() || before == '_';
    let hashes = rest.get(1..).map_or(0, |r| r.len() - r.trim_start_matches('#').len());
    if !in_word && rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let open = 2 + hashes;
        return rest[open..].find(&close).map_or(rest.len(), |at| open + at + close.len());
    }
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => quoted(rest, '\''),
        // 'x' is a literal, 'x a lifetime.
        (Some('\''), Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// Bytes of a literal between two `quote`s.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Where `word` stands in `code` with no letter, digit or underscore beside it.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let starts = word.starts_with(|c: char| c.is_alphanumeric());
        let ends = word.ends_with(|c: char| c.is_alphanumeric());
        !(starts && joins(code[..at].chars().next_back())
            || ends && joins(code[at + word.len()..].chars().next()))
    })
}

#[test]
fn comments_and_literals_are_blanked_and_lines_kept() {
    let text = "a /* bᵀ /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# 'l' '\\'' &'m n\n";
    let got = code(text);
    let words: Vec<&str> = got.split_whitespace().collect();
    assert_eq!(words, ["a", "e", "i", "&'m", "n"]);
    assert_eq!((got.len(), got.lines().count()), (text.len(), 2));
}

#[test]
fn test_items_end_where_they_end() {
    let text = "a #[cfg(test)] mod t { fn f() { b } } c #[cfg(test)]\nmod u;\nd";
    let source = Source { path: "src/x.rs".into(), text: text.into(), code: code(text) };
    let got = source.code_outside_tests();
    assert_eq!(got.split_whitespace().collect::<Vec<_>>(), ["a", "c", "d"]);
    assert_eq!(words("un_safe unsafe(unsafety", "unsafe").collect::<Vec<_>>(), [8]);
}
