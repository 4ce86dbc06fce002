//! One op, one name: file, descriptor and registry.

use crate::source::{Source, sources};
use std::collections::BTreeSet;

#[test]
fn every_op_file_is_in_the_registry_under_its_name() {
    let all = sources("src");
    let registry = all.iter().find(|source| source.path == "src/ops/mod.rs").unwrap();
    let has_kernels =
        |source: &&Source| source.path.starts_with("src/ops/") && source.code.contains("Launch::of(");
    let mut names = BTreeSet::new();
    for source in all.iter().filter(has_kernels).filter(|s| !s.path.ends_with("/mod.rs")) {
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
    let want = ["src/tape/accumulate.rs", "src/tensor/cast.rs", "src/tensor/matmul.rs"].map(String::from);
    assert_eq!(elsewhere, BTreeSet::from(want));
}
