//! Files that a reader can hold in the head, in folders named after the domain.

use crate::source::{files, root};

const LIMIT: usize = 500;
/// One model family, or one kernel forward and backward, is read as a whole.
const WHOLE: usize = 600;

#[test]
fn files_have_a_size() {
    let mut long = Vec::new();
    for folder in ["src", "tests", "kernels", "benches", "examples", "scripts"] {
        for path in files(folder, &["rs", "cu", "cuh", "py", "sh"]) {
            let name = path.strip_prefix(root()).unwrap();
            let whole = ["src/models", "kernels"].iter().any(|folder| name.starts_with(folder));
            let limit = if whole { WHOLE } else { LIMIT };
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            if lines > limit {
                long.push(format!("{}: {lines} lines, limit {limit}", name.display()));
            }
        }
    }
    assert!(long.is_empty(), "split:\n{}", long.join("\n"));
}

#[test]
fn folders_and_files_are_named_after_the_domain() {
    const VAGUE: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "core", "misc", "shared"];
    // The device toolbox of the kernels is the one exception.
    let allowed = root().join("kernels/common.cuh");
    for folder in ["src", "tests", "kernels", "benches"] {
        for path in files(folder, &["rs", "cu", "cuh"]).iter().filter(|path| **path != allowed) {
            let below = path.strip_prefix(root()).unwrap().with_extension("");
            let vague = below.iter().find(|part| VAGUE.iter().any(|vague| part == vague));
            assert!(vague.is_none(), "{}: what is it about?", path.display());
        }
    }
}

/// A folder's own file stands beside it under its name, in one style over the whole crate.
#[test]
fn no_file_is_called_mod() {
    let named_mod: Vec<_> =
        files("src", &["rs"]).into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(named_mod.is_empty(), "name these after their folders: {named_mod:?}");
}
