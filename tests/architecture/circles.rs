//! Inside a folder, too, files import in one direction: a circle ties them into one thing that is read at once.

use crate::paths::{Module, Tree, module_of};
use crate::source::{Source, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Circles that stay, as folder and members, and why.
const ALLOWED: &[(&str, &[&str], &str)] = &[
    (
        "device/cpu",
        &["gemm", "skinny"],
        "a product of few rows is a case of the general one, and packs as it does",
    ),
    ("device/cpu/attention", &["keys", "tile"], "a tile is of keys, and keys are read by tiles"),
    (
        "device/sim",
        &["block", "fault", "schedule"],
        "a fault names the thread that the block's schedule was at",
    ),
];

/// For every folder, which of its members imports which: a member is a file, or a folder with the file of its name.
fn folders(sources: &[Source]) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let tree = Tree::new(sources);
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let from = module_of(&source.path);
        for to in tree.imports(source) {
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            // Neither lies in the other, and floors look after the root.
            if let (Some(a), Some(b), 1..) = (from.get(shared), to.get(shared), shared) {
                let folder = folders.entry(from[..shared].to_vec()).or_default();
                folder.entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    folders
}

/// The sets of members that import each other, over others or at once.
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &String| -> BTreeSet<String> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = open.pop() {
            for to in edges.get(&next).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|name| (name, reached(name))).collect();
    let circle = |name: &&String| -> BTreeSet<String> {
        all[*name].iter().filter(|to| all.get(to).is_some_and(|back| back.contains(*name))).cloned().collect()
    };
    edges.keys().map(|name| circle(&name)).filter(|circle| circle.len() > 1).collect()
}

#[test]
fn files_of_a_folder_import_in_one_direction() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for (folder, edges) in folders(&sources("src")) {
        let folder = folder.join("/");
        for circle in circles(&edges) {
            let is_it = |(at, members, _): &(&str, &[&str], &str)| {
                *at == folder
                    && members.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>() == circle
            };
            match ALLOWED.iter().position(is_it) {
                Some(place) => {
                    used.insert(place);
                }
                None => {
                    wrong.push(format!("{folder}: {}", circle.into_iter().collect::<Vec<_>>().join(", ")))
                }
            }
        }
    }
    assert!(wrong.is_empty(), "move what two files share to one of its own:\n{}", wrong.join("\n"));
    let stale: Vec<_> =
        (0..ALLOWED.len()).filter(|place| !used.contains(place)).map(|place| ALLOWED[place]).collect();
    assert!(stale.is_empty(), "no longer circles: {stale:?}");
}

#[test]
fn circles_are_found_through_names_that_a_folder_gives_on() {
    let source = |path: &str, text: &str| {
        let (path, text, code) = (path.to_string(), text.to_string(), crate::source::code(text));
        Source { path, text, code }
    };
    let all = [
        source("src/a.rs", "mod b; mod c; mod d; pub use b::B; use c::C;"),
        source("src/a/b.rs", "use super::c::{self, C};"),
        source("src/a/c.rs", "use crate::a::B;"),
        source("src/a/d.rs", "use super::{B, c};\n#[cfg(test)] mod tests { use super::super::e; }"),
        source("src/a/e.rs", "use super::d::f;"),
        source("src/a/d/f.rs", "use super::g;"),
    ];
    let found = folders(&all);
    let circle: BTreeSet<String> = ["b", "c"].map(String::from).into();
    assert_eq!(circles(&found[&vec!["a".to_string()]]), BTreeSet::from([circle]));
    assert_eq!(found.len(), 1);
}
