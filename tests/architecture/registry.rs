//! One op, one name: file, descriptor, registry and test.

use crate::source::{Source, root, sources};
use std::collections::BTreeSet;
use wattention::device::Kind;
use wattention::ops::{self, Gradient};

#[test]
fn every_op_file_is_in_the_registry_under_its_name() {
    let all = sources("src");
    let registry = all.iter().find(|source| source.path == "src/ops.rs").unwrap();
    let has_kernels =
        |source: &&Source| source.path.starts_with("src/ops/") && source.code.contains("Launch::of(");
    let mut names = BTreeSet::new();
    // What the files of a folder share is no op.
    let has_folder = |source: &&Source| {
        let folder = format!("{}/", source.path.trim_end_matches(".rs"));
        all.iter().any(|other| other.path.starts_with(&folder))
    };
    for source in all.iter().filter(has_kernels).filter(|source| !has_folder(source)) {
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        assert!(source.code.contains("pub static OP: OpSpec"), "{}: no OP", source.path);
        assert!(source.text.contains(&format!("name: \"{stem}\"")), "{}: another name", source.path);
        assert!(registry.code.contains(&format!("{stem}::OP")), "{stem} is not in ops::ALL");
        names.insert(stem.to_string());
    }
    let with_op = all.iter().filter(|source| source.code.contains("pub static OP: OpSpec"));
    for source in with_op {
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        assert!(registry.code.contains(&format!("{stem}::OP")), "{stem} is not in ops::ALL");
        names.insert(stem.to_string());
    }
    let registered = wattention::ops::ALL.iter().map(|op| op.name.to_string());
    assert_eq!(names, registered.collect());
}

/// Kernels outside of ops are those that tensors and tapes need themselves.
#[test]
fn kernels_belong_to_ops() {
    let elsewhere: BTreeSet<String> = sources("src")
        .into_iter()
        .filter(|source| source.code_outside_tests().contains(": Kernel = Kernel {"))
        .map(|source| source.path)
        .filter(|path| !path.starts_with("src/ops/"))
        .collect();
    let want = ["src/tape/accumulate.rs", "src/tensor/cast.rs", "src/tensor/int8.rs", "src/tensor/matmul.rs"];
    assert_eq!(elsewhere, BTreeSet::from(want.map(String::from)));
}

/// The file of an op's test holds one over all of the op's cases, under a name that says what it compares.
#[test]
fn every_op_has_a_test_named_after_it() {
    let read = |name: &str| std::fs::read_to_string(root().join("tests/ops").join(name)).unwrap_or_default();
    let suite = read("main.rs");
    for op in ops::ALL {
        let (test, over) = match op.gradient {
            Gradient::Recorded => ("gradients", "::all()"),
            Gradient::None(_) => ("values", ""),
        };
        let text = read(&format!("{}.rs", op.name));
        let body = text.split_once(&format!("\n#[test]\nfn {test}() {{\n")).map(|(_, after)| after);
        let body = body.and_then(|after| after.split_once("\n}\n")).map(|(body, _)| body);
        let body = body.unwrap_or_else(|| panic!("tests/ops/{}.rs has no test `{test}`", op.name));
        assert!(body.contains(over), "tests/ops/{}.rs: `{test}` does not go over the cases", op.name);
        assert!(suite.contains(&format!("\nmod {};", op.name)), "{} is not in tests/ops/main.rs", op.name);
    }
}

/// (kind, name) of the arguments that a source file names in calls of [`wattention::device::Call`], of `CpuCall` and of
/// `Launch`.
fn named(text: &str) -> Vec<(Kind, &str)> {
    fn literal(at: &str) -> Option<&str> {
        Some(at.trim_start().strip_prefix('"')?.split_once('"')?.0)
    }
    let methods = [
        ("output", Kind::Output),
        ("out", Kind::Output),
        ("input", Kind::Input),
        ("stored", Kind::Input),
        ("size", Kind::Size),
        ("scalar", Kind::Scalar),
    ];
    let mut found = Vec::new();
    for (method, kind) in methods {
        for (at, open) in text.match_indices(&format!(".{method}")) {
            let rest = &text[at + open.len()..];
            // `.out("y")` or `.out::<f32>("y")`.
            let rest =
                rest.strip_prefix("::<").and_then(|typed| Some(typed.split_once('>')?.1)).unwrap_or(rest);
            found.extend(rest.strip_prefix('(').and_then(literal).map(|name| (kind, name)));
        }
    }
    for (at, open) in text.match_indices(".gradient(") {
        let rest = &text[at + open.len()..];
        let add = rest.split_once(',').and_then(|(_, after)| literal(after));
        found.extend(literal(rest).map(|name| (Kind::Output, name)));
        found.extend(add.map(|name| (Kind::Size, name)));
    }
    for (at, open) in text.match_indices(".sizes([") {
        let list = text[at + open.len()..].split_once(']').map_or("", |(list, _)| list);
        found.extend(list.split(',').filter_map(literal).map(|name| (Kind::Size, name)));
    }
    found
}

/// What launches give and functions ask for is in a descriptor of the file's op, also where no test comes by.
#[test]
fn arguments_are_named_as_in_the_descriptors() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let folder = source.path.split('/').nth(1).unwrap();
        if !["ops", "tape", "tape.rs", "tensor", "tensor.rs"].contains(&folder) {
            continue;
        }
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        let own = ops::ALL.iter().find(|op| op.name == stem).map(|op| op.kernels.to_vec());
        let kernels = own.unwrap_or_else(ops::kernels);
        for (kind, name) in named(&source.text) {
            if !kernels.iter().any(|kernel| kernel.signature().of(kind).contains(&name)) {
                wrong.push(format!("{}: no kernel has the {kind} `{name}`", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let text = ".output(\"y\", &y).out::<f32>(\"z\") .size( \"n\") .sizes([\"A\", \"B\"]) .gradient(\"dx\", \"add\", s)";
    let names: Vec<&str> = named(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["y", "z", "n", "dx", "add", "A", "B"]);
}
