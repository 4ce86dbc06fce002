//! Cargo looks for no tests by itself here: a file that no program names would silently not run.

use crate::source::{files, root};

#[test]
fn every_file_of_tests_belongs_to_a_program() {
    const PROGRAMS: [&str; 3] = ["architecture/main.rs", "cli/main.rs", "engine.rs"];
    let all = files("tests", &["rs"]);
    let texts: Vec<String> = all.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for path in &all {
        let below = path.strip_prefix(root().join("tests")).unwrap();
        if PROGRAMS.iter().any(|program| below == std::path::Path::new(program)) {
            continue;
        }
        let stem = below.file_stem().unwrap().to_str().unwrap();
        let name = match stem {
            "main" | "mod" => below.parent().unwrap().file_name().unwrap().to_str().unwrap(),
            stem => stem,
        };
        let named = [format!("mod {name};"), format!("mod {name} {{")];
        let found = texts.iter().any(|text| named.iter().any(|name| text.contains(name)));
        assert!(found, "tests/{}: no program has this module", below.display());
    }
}
