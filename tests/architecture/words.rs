//! Words that may stand in some places only.

use crate::source::{Source, sources, words};

/// `path:line` of each place where one of `forbidden` stands in `code`.
fn places(source: &Source, code: &str, forbidden: &[&str]) -> Vec<String> {
    let place = |at: usize, word: &str| format!("{}:{}: `{word}`", source.path, source.line(at));
    let of = |word: &&str| -> Vec<String> { words(code, word).map(|at| place(at, word)).collect() };
    forbidden.iter().flat_map(of).collect()
}

fn assert_none(found: Vec<String>, remedy: &str) {
    assert!(found.is_empty(), "{remedy}:\n{}", found.join("\n"));
}

/// (file, why it needs unsafe code outside of the device).
const MAY_BE_UNSAFE: [(&str, &str); 2] = [
    ("src/energy/nvml.rs", "calls of a library"),
    (
        "src/collective/window.rs",
        "memory that other processes write; the device stands on the ranks, not they on it",
    ),
];

#[test]
fn unsafe_code_and_assembly_stay_in_the_device() {
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for source in sources(folder) {
            if !source.path.starts_with("src/device/") {
                if MAY_BE_UNSAFE.iter().all(|(file, _)| source.path != *file) {
                    found.extend(places(&source, &source.code, &["unsafe"]));
                }
                found.extend(places(&source, &source.code, &["asm!", "global_asm!"]));
            }
        }
    }
    assert_none(found, "move to src/device");
}

#[test]
fn every_unsafe_block_names_its_invariant() {
    let mut found = Vec::new();
    for source in sources("src") {
        let lines: Vec<&str> = source.text.lines().collect();
        for at in words(&source.code, "unsafe") {
            let rest = source.code[at + "unsafe".len()..].trim_start();
            let is_block = rest.starts_with('{') || rest.starts_with("impl");
            // The comment stands above the statement, which may begin a few lines earlier.
            let line = source.line(at);
            let above = &lines[line.saturating_sub(7)..line];
            if is_block && !above.iter().any(|line| line.contains("SAFETY:")) {
                found.push(format!("{}:{line}", source.path));
            }
        }
    }
    assert_none(found, "say in a `SAFETY:` comment why it holds");
}

/// (file, part of the line, why no user can reach it).
const MAY_PANIC: &[(&str, &str, &str)] = &[
    (
        "src/device/host/call.rs",
        "expect(\"an output is taken once\")",
        "which outputs a kernel takes is written in the kernel",
    ),
    (
        "src/device/signature.rs",
        "panic!(\"{fault}\")",
        "which arguments a kernel asks for is written in the kernel, and held to its descriptor by a test of the text",
    ),
];

#[test]
fn what_a_user_can_cause_does_not_panic() {
    const PANICS: [&str; 7] =
        [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!", "dbg!"];
    let mut found = Vec::new();
    let mut used = vec![false; MAY_PANIC.len()];
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let outside = source.code_outside_tests();
        for at in PANICS.iter().flat_map(|word| words(&outside, word)) {
            let line = source.text.lines().nth(source.line(at) - 1).unwrap().trim();
            let allowed = |entry: &(&str, &str, &str)| entry.0 == source.path && line.contains(entry.1);
            match MAY_PANIC.iter().position(allowed) {
                Some(entry) => used[entry] = true,
                None => found.push(format!("{}:{}: {line}", source.path, source.line(at))),
            }
        }
    }
    assert_none(found, "return an error");
    let stale: Vec<_> = MAY_PANIC.iter().zip(&used).filter(|(_, used)| !**used).collect();
    assert!(stale.is_empty(), "no longer needed: {stale:?}");
}

#[test]
fn untyped_errors_stay_in_the_command_line() {
    let outside = |source: &Source| !["cli", "main"].contains(&source.module());
    let all = sources("src");
    let in_library = all.iter().filter(|source| outside(source));
    assert_none(
        in_library.flat_map(|source| places(source, &source.code, &["anyhow"])).collect(),
        "use crate::error::Error",
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Vec::new();
    // Spelled apart, so that this file does not name itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"]].map(|parts| parts.concat());
    let marks = marks.each_ref().map(String::as_str);
    for folder in ["src", "tests", "benches", "examples"] {
        for source in sources(folder) {
            found.extend(places(&source, &source.text, &marks));
        }
    }
    assert_none(found, "do it, or open an issue");
}
