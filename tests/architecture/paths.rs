//! Paths in sources, resolved to the module that they lead to.

use crate::source::{Source, words};
use std::collections::{BTreeMap, BTreeSet};

/// A module by its path from the crate's root: `["energy", "report"]`.
pub type Module = Vec<String>;

/// The module that a file under `src` is: `src/a/b.rs` is `a`, `b`.
pub fn module_of(path: &str) -> Module {
    let below = path.trim_start_matches("src/").trim_end_matches(".rs");
    below.split('/').filter(|part| !["lib", "main"].contains(part)).map(String::from).collect()
}

/// All modules, and what each gives on under its own name.
pub struct Tree {
    modules: BTreeSet<Module>,
    /// From module and name to the path that `pub use` takes it from.
    reexports: BTreeMap<(Module, String), Module>,
}

impl Tree {
    pub fn new(sources: &[Source]) -> Self {
        let modules: BTreeSet<Module> = sources.iter().map(|source| module_of(&source.path)).collect();
        let mut tree = Tree { modules, reexports: BTreeMap::new() };
        for source in sources {
            let (code, own) = (source.code_outside_tests(), module_of(&source.path));
            for at in words(&code, "pub use")
                .chain(words(&code, "pub(crate) use"))
                .chain(words(&code, "pub(super) use"))
            {
                let rest = code[at..].split_once(" use").map_or("", |(_, rest)| rest);
                for path in expanded(&mut rest.trim_start()) {
                    let from = tree.absolute(&own, &path);
                    if let (Some(from), Some(name)) = (from, path.last()) {
                        tree.reexports.insert((own.clone(), name.clone()), from);
                    }
                }
            }
        }
        tree
    }

    /// The modules that a file's paths lead to.
    pub fn imports(&self, source: &Source) -> BTreeSet<Module> {
        let (code, own) = (source.code_outside_tests(), module_of(&source.path));
        let mut found = BTreeSet::new();
        for root in ["crate::", "super::", "wattention::", "self::"] {
            for at in words(&code, root) {
                if !code[..at].ends_with("::") {
                    let paths = expanded(&mut &code[at..]);
                    found.extend(
                        paths.iter().filter_map(|path| self.absolute(&own, path)).map(|to| self.leads_to(to)),
                    );
                }
            }
        }
        found
    }

    /// The path from the crate's root of one that is written in `own`.
    fn absolute(&self, own: &Module, path: &[String]) -> Option<Module> {
        let mut base = own.clone();
        let mut rest = path;
        match rest.first().map(String::as_str)? {
            "crate" | "wattention" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    base.pop()?;
                    rest = &rest[1..];
                }
            }
            // A child, or nothing of this crate.
            child => {
                let mut inner = own.clone();
                inner.push(child.to_string());
                self.modules.contains(&inner).then_some(())?;
            }
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// The module that a path from the root ends in, through what modules give on.
    fn leads_to(&self, path: Module) -> Module {
        let mut path = path;
        for _ in 0..8 {
            let length =
                (0..=path.len()).rev().find(|&n| n == 0 || self.modules.contains(&path[..n])).unwrap_or(0);
            let (module, rest) = path.split_at(length);
            let next = rest.first().and_then(|name| self.reexports.get(&(module.to_vec(), name.clone())));
            match next {
                Some(next) => path = next.iter().cloned().chain(rest[1..].iter().cloned()).collect(),
                None => return module.to_vec(),
            }
        }
        path
    }
}

/// The paths that `text` begins with: several where it has groups. What is read is taken from `text`.
fn expanded(text: &mut &str) -> Vec<Vec<String>> {
    let end = |s: &str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    let mut path: Vec<String> = Vec::new();
    loop {
        *text = text.trim_start();
        if let Some(group) = text.strip_prefix('{') {
            *text = group;
            let mut all = Vec::new();
            loop {
                *text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if let Some(rest) = text.strip_prefix('}') {
                    *text = rest;
                    return all;
                }
                let before = text.len();
                let inner = expanded(text);
                all.extend(inner.into_iter().map(|inner| [&path[..], &inner[..]].concat()));
                // What is no path, such as `*`, and the name after `as`.
                let rest = text.trim_start();
                *text = rest.strip_prefix("as ").map_or(rest, |name| &name[end(name)..]);
                if text.len() == before {
                    *text = text.get(1..).unwrap_or("");
                }
                if text.is_empty() {
                    return all;
                }
            }
        }
        let length = end(text);
        if length == 0 {
            return vec![path];
        }
        let (name, rest) = text.split_at(length);
        *text = rest;
        // `self` in a group is the module before it.
        if !(name == "self" && path.is_empty() && !rest.starts_with("::")) {
            path.push(name.to_string());
        }
        match text.strip_prefix("::") {
            Some(rest) => *text = rest,
            None => return vec![path],
        }
    }
}

#[test]
fn groups_are_expanded() {
    let paths =
        |mut text: &str| -> Vec<String> { expanded(&mut text).iter().map(|path| path.join("/")).collect() };
    assert_eq!(paths("crate::a::B;"), ["crate/a/B"]);
    assert_eq!(
        paths("super::{self, a::{B, c::D}, e as f, g}; h"),
        ["super", "super/a/B", "super/a/c/D", "super/e", "super/g"]
    );
    assert_eq!(paths("crate::a::b()"), ["crate/a/b"]);
    assert_eq!(paths("crate::a::*;"), ["crate/a"]);
}
