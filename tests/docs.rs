//! The commands of README.md and of the pages in docs, run in order as a reader would, in a folder of their own.
//!
//! `<!-- file: NAME -->` above a block writes the block to a file; `<!-- not run: REASON -->` leaves a block out, and the
//! reason is printed to be counted.

use super::command;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A fenced block of a page.
#[derive(Debug, PartialEq)]
struct Block {
    /// Line of its fence, from 1.
    line: usize,
    language: String,
    text: String,
    /// What the comment above it says, without its brackets.
    comment: Option<String>,
}

/// The fenced blocks of a page in Markdown.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut comment, mut open): (Option<String>, Option<Block>) = (None, None);
    for (at, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                let (language, comment) = (language.to_string(), comment.take());
                open = Some(Block { line: at + 1, language, text: String::new(), comment });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.trim().is_empty() => {}
            (None, None) => {
                let inside = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                comment = inside.map(str::to_string);
            }
        }
    }
    assert_eq!(open, None, "a block without an end");
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// PATH with the program of this build first.
fn path() -> OsString {
    let program = PathBuf::from(command().get_program());
    let first = program.parent().unwrap().to_path_buf();
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(first).chain(std::env::split_paths(&others))).unwrap()
}

/// Runs the blocks of a page, and prints those that are left out.
fn try_page(page: &Path) {
    let name = page.strip_prefix(root()).unwrap().display();
    let dir = tempfile::tempdir().unwrap();
    for Block { line, language, text, comment } in blocks(&std::fs::read_to_string(page).unwrap()) {
        let comment = comment.unwrap_or_default();
        if let Some(file) = comment.strip_prefix("file: ") {
            std::fs::write(dir.path().join(file), text).unwrap();
            continue;
        }
        if language != "sh" {
            continue;
        }
        if let Some(reason) = comment.strip_prefix("not run: ") {
            println!("left out: {name}:{line}: {reason}");
            continue;
        }
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &text]).current_dir(dir.path()).stdin(Stdio::null());
        shell.env("PATH", path()).env("HOME", dir.path());
        shell.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches"));
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}:{line}: {}\n{text}\n{said}", output.status);
    }
}

/// One test a page, so that they run beside each other.
macro_rules! pages {
    ($($test:ident: $page:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            try_page(&root().join($page));
        })*

        const TRIED: &[&str] = &[$($page),*];
    };
}

pages! {
    readme: "README.md",
    index: "docs/README.md",
    benchmark: "docs/benchmark.md",
    energy: "docs/energy.md",
    evaluate: "docs/evaluate.md",
    fine_tune: "docs/fine-tune.md",
    gpu: "docs/gpu.md",
    hub: "docs/hub.md",
    inside: "docs/inside.md",
    many_machines: "docs/many-machines.md",
    numbers: "docs/numbers.md",
    profile: "docs/profile.md",
    python: "docs/python.md",
    study: "docs/study.md",
}

#[test]
fn every_page_is_tried_and_its_links_lead_somewhere() {
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().to_str().unwrap();
        assert!(TRIED.contains(&name), "{name} is not tried");
        let text = std::fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1).map(|rest| &rest[..rest.find(')').unwrap()]);
        let images = text.split("src=\"").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]);
        for target in targets.chain(images).filter(|target| !target.contains("://")) {
            let file = target.split('#').next().unwrap();
            assert!(page.parent().unwrap().join(file).exists(), "{name}: {target} is not there");
        }
    }
}

#[test]
fn every_file_of_settings_is_tried() {
    for page in pages() {
        for block in blocks(&std::fs::read_to_string(&page).unwrap()).iter().filter(|b| b.language == "toml")
        {
            let written = block.comment.as_ref().is_some_and(|comment| comment.starts_with("file: "));
            assert!(written, "{}:{}: name the file in a comment", page.display(), block.line);
        }
    }
}

#[test]
fn blocks_are_found_with_the_comment_above_them() {
    let page = "a\n<!-- not run: why -->\n\n```sh\nb\n```\n\n```toml\nc\n```\n";
    let block = |line, language: &str, text: &str, comment: Option<&str>| {
        let (language, text, comment) = (language.into(), text.into(), comment.map(str::to_string));
        Block { line, language, text, comment }
    };
    let want = [block(4, "sh", "b\n", Some("not run: why")), block(8, "toml", "c\n", None)];
    assert_eq!(blocks(page), want);
}
