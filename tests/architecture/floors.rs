//! A module imports only from floors below its own; those on one floor do not import each other.

use crate::source::{Source, code, root, sources};
use std::collections::{BTreeMap, BTreeSet};

/// From the ground up.
const FLOORS: [&[&str]; 17] = [
    &["error", "files", "markup", "noise", "reading", "stats", "support", "units"],
    &["shape", "disturbance", "hub", "plot", "settings", "table"],
    &["trace", "collective"],
    &["device"],
    &["tensor", "limits"],
    &["tape", "weights"],
    &["ops"],
    &["cases"],
    &["nn"],
    &["models", "text", "metrics"],
    &["data", "energy"],
    &["generate", "train"],
    &["evaluate"],
    &["workload"],
    &["bench", "profile", "run"],
    &["study"],
    &["cli"],
];

/// `error` names no module; `files` reports with it.
const ALLOWED_BESIDE: [(&str, &str); 1] = [("files", "error")];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The identifiers that a path may start with at `rest`: one, or those of a group.
fn heads(rest: &str) -> Vec<&str> {
    let rest = rest.trim_start();
    let name = |s: &'_ str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    let Some(group) = rest.strip_prefix('{') else {
        return vec![&rest[..name(rest)]];
    };
    let (mut found, mut depth, mut expects) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expects = true,
            c if expects && c.is_alphabetic() => {
                found.push(&group[at..at + name(&group[at..])]);
                expects = false;
            }
            _ => {}
        }
    }
    found
}

/// Modules inside the file's own, from the crate's root: 1 for `src/ops.rs`, 2 for `src/ops/x.rs`.
fn depth(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").trim_end_matches(".rs");
    parts.split('/').filter(|part| *part != "mod").count()
}

/// (line, name) of everything at the crate's root that a file mentions.
fn mentions(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut add = |at: usize, from: usize| {
        let names = heads(&code[from..]).into_iter().filter(|name| !name.is_empty());
        found.extend(names.map(|name| (source.line(at), name.to_string())));
    };
    for (at, path) in code.match_indices("crate::") {
        add(at, at + path.len());
    }
    // As many `super::` as lead out of the file's top-level module.
    let climb = "super::".repeat(depth(&source.path));
    let outside = source.code_outside_tests();
    for (at, path) in outside.match_indices(&climb) {
        if !outside[..at].ends_with("super::") {
            add(at, at + path.len());
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources("src").iter().filter(|s| !["lib", "main"].contains(&s.module())) {
        let from = source.module();
        for (line, to) in mentions(source) {
            let beside = from == to || ALLOWED_BESIDE.contains(&(from, &to));
            let down = floor(&to) < floor(from) && floor(&to).is_some();
            if !beside && !down {
                wrong.push(format!("{}:{line}: {from} -> {to}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let all = sources("src");
    let modules: BTreeSet<&str> = all.iter().map(Source::module).collect();
    let without = modules.iter().filter(|m| floor(m).is_none() && !["lib", "main"].contains(*m));
    let without: Vec<_> = without.collect();
    assert!(without.is_empty(), "give these a floor in tests/architecture/floors.rs: {without:?}");
}

#[test]
fn every_floor_names_modules_that_are_there() {
    let all = sources("src");
    let modules: BTreeSet<&str> = all.iter().map(Source::module).collect();
    let ghosts: Vec<_> = FLOORS
        .iter()
        .copied()
        .flatten()
        .filter(|name| !modules.contains(**name) && **name != "support")
        .collect();
    assert!(ghosts.is_empty(), "take these from tests/architecture/floors.rs: {ghosts:?}");
}

/// The line of README's "Inside" that names each module.
fn readme_lines() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let inside = text.split_once("\n## Inside\n").expect("README has no \"Inside\"").1;
    let list = inside.split_once("\nsrc/\n").and_then(|(_, rest)| rest.split_once("\nkernels/")).unwrap().0;
    let mut lines = BTreeMap::new();
    for (number, line) in list.lines().enumerate() {
        // Two spaces or more stand between the names and what is said of them.
        let names = line.trim_start().split("  ").next().unwrap_or_default();
        for name in names.split(' ') {
            let before = lines.insert(name.trim_end_matches('/').to_string(), number);
            assert_eq!(before, None, "{name} stands twice in README's \"Inside\"");
        }
    }
    lines
}

/// What README tells a newcomer about the modules and their order is so.
#[test]
fn the_readme_lists_every_module_after_those_it_imports() {
    let lines = readme_lines();
    let all = sources("src");
    let inside = |name: &str| !["lib", "main", "support"].contains(&name);
    let modules: BTreeSet<&str> = all.iter().map(Source::module).filter(|name| inside(name)).collect();
    let named: BTreeSet<&str> = lines.keys().map(String::as_str).collect();
    assert_eq!(named, modules, "README's \"Inside\" and src differ");
    let mut wrong = BTreeSet::new();
    for source in all.iter().filter(|source| inside(source.module())) {
        for (_, to) in mentions(source) {
            if lines.get(&to).is_some_and(|line| *line > lines[source.module()]) {
                wrong.insert(format!("{} imports {to}", source.module()));
            }
        }
    }
    assert!(wrong.is_empty(), "README lists these the other way round:\n{wrong:?}");
}

#[test]
fn paths_are_found_in_every_form() {
    let source = |path: &str, text: &str| {
        let (path, text, code) = (path.to_string(), text.to_string(), code(text));
        Source { path, text, code }
    };
    let names =
        |source: Source| -> Vec<String> { mentions(&source).into_iter().map(|(_, name)| name).collect() };
    let text = "use crate::{a::{b, c}, d};\nfn f() { crate::e::g(); } // crate::h\nuse super::i;";
    assert_eq!(names(source("src/ops/x.rs", text)), ["a", "d", "e"]);
    assert_eq!(names(source("src/ops.rs", text)), ["a", "d", "e", "i"]);
    assert_eq!(names(source("src/ops/x.rs", "use super::super::j::k;")), ["j"]);
}
