//! Kernel files: their form, and their entries against the descriptors that launch them.

use crate::source::{files, root};
use std::collections::BTreeMap;
use wattention::device::Kernel;
use wattention::ops;

/// A kernel file, as text.
struct File {
    name: String,
    text: String,
}

fn kernel_files(endings: &[&str]) -> Vec<File> {
    files("kernels", endings)
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root().join("kernels")).unwrap().display().to_string();
            File { text: std::fs::read_to_string(path).unwrap(), name }
        })
        .collect()
}

/// An entry: its name, parameters and what stands around it.
struct Entry {
    file: String,
    name: String,
    /// (type, name), in order.
    parameters: Vec<(String, String)>,
    line_above: String,
    first_statement: String,
}

fn entries() -> Vec<Entry> {
    let product = kernel_files(&["cu"]).into_iter().filter(|file| !file.name.starts_with("sim/"));
    product.flat_map(|file| entries_of(&file)).collect()
}

fn entries_of(file: &File) -> Vec<Entry> {
    let mut found = Vec::new();
    for (at, _) in file.text.match_indices("\nKERNEL_ENTRY ") {
        let above = file.text[..at].lines().last().unwrap_or_default();
        let declaration = &file.text[at..];
        // Past `__launch_bounds__(..)`, the first bracket opens the parameters.
        let from = declaration.find("void ").unwrap() + "void ".len();
        let rest = declaration[from..].trim_start();
        let rest = match rest.starts_with("__launch_bounds__") {
            true => rest[rest.find(')').unwrap() + 1..].trim_start(),
            false => rest,
        };
        let open = rest.find('(').unwrap();
        let close = rest.find(')').unwrap();
        let body = &rest[rest.find('{').unwrap() + 1..];
        let parameter = |text: &str| {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let cut = text.rfind([' ', '*']).unwrap() + 1;
            (text[..cut].trim().to_string(), text[cut..].to_string())
        };
        found.push(Entry {
            file: file.name.clone(),
            name: rest[..open].trim().to_string(),
            parameters: rest[open + 1..close].split(',').map(parameter).collect(),
            line_above: above.to_string(),
            first_statement: body.trim_start().lines().next().unwrap_or_default().to_string(),
        });
    }
    found
}

/// The descriptor whose launches run `entry`: the longest name that it begins with.
fn descriptor(entry: &Entry) -> Option<&'static Kernel> {
    let fits = |kernel: &&&'static Kernel| {
        entry.name == kernel.name || entry.name.starts_with(&format!("{}_", kernel.name))
    };
    let all = ops::kernels();
    all.iter().filter(fits).max_by_key(|kernel| kernel.name.len()).copied()
}

#[test]
fn parameters_are_the_arguments_of_the_descriptor_by_name_and_kind() {
    for entry in entries() {
        let place = format!("{}: {}", entry.file, entry.name);
        let kernel = descriptor(&entry).unwrap_or_else(|| panic!("{place}: no descriptor launches it"));
        let groups = [kernel.outputs, kernel.inputs, kernel.sizes, kernel.scalars];
        let want: Vec<&str> = groups.concat();
        let names: Vec<&str> = entry.parameters.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, want, "{place}");
        let kinds = groups.iter().zip(["output", "input", "int", "float"]);
        let kinds = kinds.flat_map(|(group, kind)| vec![kind; group.len()]);
        for ((written, name), kind) in entry.parameters.iter().zip(kinds) {
            let fits = match kind {
                "output" => ["real*", "float*", "int*"].contains(&written.as_str()),
                "input" => ["const real*", "const float*", "const int*"].contains(&written.as_str()),
                kind => written == kind,
            };
            assert!(fits, "{place}: `{written} {name}` is no {kind}");
        }
    }
}

#[test]
fn every_descriptor_has_a_kernel_file_named_after_its_op() {
    let mut files: BTreeMap<&str, String> = BTreeMap::new();
    for entry in entries() {
        if let Some(kernel) = descriptor(&entry) {
            files.insert(kernel.name, entry.file);
        }
    }
    for op in ops::ALL {
        for kernel in op.kernels.iter().filter(|kernel| kernel.name != "matmul") {
            let want = format!("{}.cu", op.name);
            assert_eq!(files.get(kernel.name), Some(&want), "the file of {}", kernel.name);
        }
    }
}

#[test]
fn entries_state_and_check_their_launch() {
    for Entry { file, name, line_above, first_statement, .. } in entries() {
        let states = line_above.starts_with("// launch: grid [") && line_above.contains("], block ");
        assert!(states, "{file}: {name}: say `// launch: grid [..], block .., shared ..` above it");
        assert!(first_statement.starts_with("contract("), "{file}: {name}: begins with its contract");
    }
}

#[test]
fn what_the_simulator_must_see_goes_through_the_toolbox() {
    for File { name, text } in kernel_files(&["cu", "cuh"]) {
        if name.starts_with("sim/") {
            continue;
        }
        let assembly = ["mma.cuh", "hopper.cuh"].contains(&name.as_str());
        for word in ["asm", "asm volatile"] {
            assert!(assembly || !text.contains(&format!("{word}(")), "{name}: inline PTX belongs in mma.cuh");
        }
        if name != "common.cuh" {
            for word in ["__shared__", "__constant__", "#define"] {
                assert!(!text.contains(word), "{name}: {word} belongs in common.cuh");
            }
        }
        let atomics = ["atomicAdd(", "atomicMax(", "atomicMin("].iter().any(|word| text.contains(word));
        let header = text.lines().take_while(|line| line.starts_with("//")).collect::<String>();
        assert!(
            !atomics || header.contains("atomic"),
            "{name}: the header says why an atomic is the same every time"
        );
    }
}
