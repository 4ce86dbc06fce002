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

/// An entry: its name, the fields of its argument struct and what stands around it.
struct Entry {
    file: String,
    name: String,
    /// (type, name), in order.
    fields: Vec<(String, String)>,
    /// The line above the entry, or above the first of several that follow each other.
    line_above: String,
    /// Of the entry, or of the function that is all that the entry calls.
    first_statement: String,
}

fn entries() -> Vec<Entry> {
    let product = kernel_files(&["cu"]).into_iter().filter(|file| !file.name.starts_with("sim/"));
    product.flat_map(|file| entries_of(&file)).collect()
}

fn entries_of(file: &File) -> Vec<Entry> {
    let File { name: place, text } = file;
    let mut found = Vec::new();
    for (at, _) in text.match_indices("\nKERNEL_ENTRY ") {
        let above = text[..at].lines().rev().find(|line| !line.starts_with("KERNEL_ENTRY "));
        // Past `__launch_bounds__(..)`, the first bracket opens the parameters.
        let rest = text[at..].trim_start().trim_start_matches("KERNEL_ENTRY void ");
        let rest = match rest.starts_with("__launch_bounds__") {
            true => rest[rest.find(')').unwrap() + 1..].trim_start(),
            false => rest,
        };
        let (name, rest) = rest.split_once('(').unwrap();
        let (parameters, rest) = rest.split_once(')').unwrap();
        // Maps of tensors, by which some entries copy, are a second one.
        let parameter = parameters.trim().strip_suffix(", const __grid_constant__ Maps maps");
        let (given, taken) = parameter.map_or(("a", ""), |_| ("a, maps", ", const Maps& maps"));
        let parameter = parameter.unwrap_or(parameters);
        let arguments = parameter.strip_prefix("const ").and_then(|p| p.strip_suffix(" a"));
        let arguments = arguments.unwrap_or_else(|| panic!("{place}: {name}({parameters}): one struct, `a`"));
        let body = rest.trim_start().strip_prefix('{').unwrap();
        // `{ forward<64, 1>(a); }`, on one line or three: what the entry is, is said in that function.
        let first = body.trim_start().lines().next().unwrap_or_default();
        let called = first.trim_end().trim_end_matches(" }").strip_suffix(&format!("({given});"));
        let body = called.map_or(body, |called| {
            let function = called.split('<').next().unwrap();
            let open = |of: &str| format!("\nDEVICE void {function}(const {of}& a{taken}) {{");
            // For its own struct, or one template for the structs of several entries.
            let forms = [open(arguments), format!("\ntemplate <class Args>{}", open("Args"))];
            let after = forms.iter().find_map(|form| Some(text.split_once(form.as_str())?.1));
            after.unwrap_or_else(|| panic!("{place}: no `{}`", forms[0].trim()))
        });
        found.push(Entry {
            file: place.clone(),
            name: name.to_string(),
            fields: fields_of(file, arguments),
            line_above: above.unwrap_or_default().to_string(),
            first_statement: body.trim_start().lines().next().unwrap_or_default().to_string(),
        });
    }
    found
}

/// (type, name) of every field of a struct of a kernel file, as in `const real *q, *k;`.
fn fields_of(File { name: place, text }: &File, name: &str) -> Vec<(String, String)> {
    let open = format!("\nstruct {name} {{\n");
    let from = text.find(&open).unwrap_or_else(|| panic!("{place}: no struct {name}")) + open.len();
    let body = &text[from..from + text[from..].find("\n};").unwrap()];
    let mut fields = Vec::new();
    for declaration in body.split(';').map(str::trim).filter(|declaration| !declaration.is_empty()) {
        let (first, others) = declaration.split_once(',').unwrap_or((declaration, ""));
        let cut = first.rfind([' ', '*']).unwrap() + 1;
        let (of_first, first) = (first[..cut].replace(' ', ""), &first[cut..]);
        let base = of_first.trim_end_matches('*').replacen("const", "const ", 1);
        let kind =
            |name: &str, star: bool| (format!("{base}{}", if star { "*" } else { "" }), name.to_string());
        fields.push(kind(first, of_first.ends_with('*')));
        for other in others.split(',').map(str::trim).filter(|other| !other.is_empty()) {
            fields.push(kind(other.trim_start_matches('*'), other.starts_with('*')));
        }
    }
    fields
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
fn fields_are_the_arguments_of_the_descriptor_by_name_and_kind() {
    for entry in entries() {
        let place = format!("{}: {}", entry.file, entry.name);
        let kernel = descriptor(&entry).unwrap_or_else(|| panic!("{place}: no descriptor launches it"));
        let groups = [kernel.outputs, kernel.inputs, kernel.sizes, kernel.scalars];
        let want: Vec<&str> = groups.concat();
        let names: Vec<&str> = entry.fields.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, want, "{place}");
        let kinds = groups.iter().zip(["output", "input", "int", "float"]);
        let kinds = kinds.flat_map(|(group, kind)| vec![kind; group.len()]);
        for ((written, name), kind) in entry.fields.iter().zip(kinds) {
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
            assert!(
                assembly || !text.contains(&format!("{word}(")),
                "{name}: inline PTX belongs in mma.cuh or hopper.cuh"
            );
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

#[test]
fn structs_are_read_field_by_field() {
    let text = "\nstruct Forward {\n    real *s, *y;\n    const float* x;\n    const int *i, *j;\n    int N, C;\n    float p;\n};\n";
    let file = File { name: "x.cu".into(), text: text.into() };
    let fields: Vec<String> =
        fields_of(&file, "Forward").into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    let want =
        ["real* s", "real* y", "const float* x", "const int* i", "const int* j", "int N", "int C", "float p"];
    assert_eq!(fields, want);
}
