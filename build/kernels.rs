//! The kernel files, as both compilers need them: nvcc for GPUs and g++ for the simulator.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// From the root of the package, where a build script runs.
pub const FOLDER: &str = "kernels";

/// One `kernels/*.cu`.
pub struct Source {
    /// The op that the file belongs to: `layer_norm` of `kernels/layer_norm.cu`.
    pub stem: String,
    pub path: PathBuf,
    /// Names of its kernels, in order.
    pub entries: Vec<String>,
    /// Whether there are also forms with f32 storage and products of tf32, one each or three.
    pub tf32: bool,
    /// Whether its form in bf16 has code for compute capability 9.0.
    pub hopper: bool,
}

/// Every kernel file, by name. An entry belongs to one file only.
pub fn sources() -> Vec<Source> {
    let mut owners: BTreeMap<String, PathBuf> = BTreeMap::new();
    let found = in_folder("cu").into_iter().map(|path| {
        let text = read(&path);
        let stem = path.file_stem().expect("a .cu file has a stem").to_string_lossy().into_owned();
        let entries = entries(&text);
        for entry in &entries {
            if let Some(other) = owners.insert(entry.clone(), path.clone()) {
                panic!("{}: {entry} is an entry of {}, too", path.display(), other.display());
            }
        }
        Source {
            stem,
            path,
            entries,
            tf32: text.contains("WATTENTION_TF32"),
            hopper: text.contains("WATTENTION_HOPPER"),
        }
    });
    found.collect()
}

/// `kernels/*.cuh`, which any kernel file may include.
pub fn headers() -> Vec<PathBuf> {
    in_folder("cuh")
}

/// The kernels with planted faults, by which the simulator is tested.
pub fn planted() -> [Source; 3] {
    ["planted", "planted_hopper", "planted_maps"].map(|stem| {
        let path = Path::new(FOLDER).join("sim").join(stem).with_extension("cu");
        Source { stem: stem.into(), entries: entries(&read(&path)), path, tf32: false, hopper: false }
    })
}

/// What the simulator adds in front of a kernel file.
pub fn simulator() -> Vec<PathBuf> {
    let folder = fs::read_dir(Path::new(FOLDER).join("sim")).unwrap_or_else(|e| panic!("{FOLDER}/sim: {e}"));
    let mut found: Vec<_> =
        folder.map(|entry| entry.unwrap_or_else(|e| panic!("{FOLDER}/sim: {e}")).path()).collect();
    found.sort();
    found
}

/// A name for the result of compiling these files with these flags, another one when any of them changes.
pub fn content_hash(files: &[impl AsRef<Path>], flags: &[impl AsRef<str>]) -> String {
    let mut hasher = DefaultHasher::new();
    for file in files {
        (file.as_ref(), read(file.as_ref())).hash(&mut hasher);
    }
    for flag in flags {
        flag.as_ref().hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

fn in_folder(ending: &str) -> Vec<PathBuf> {
    let folder = fs::read_dir(FOLDER).unwrap_or_else(|e| panic!("{FOLDER}: {e}"));
    let paths = folder.map(|entry| entry.unwrap_or_else(|e| panic!("{FOLDER}: {e}")).path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names after `KERNEL_ENTRY void` at the start of a line, launch bounds between them or not.
fn entries(text: &str) -> Vec<String> {
    let declarations = text.split("\nKERNEL_ENTRY").skip(1);
    declarations.filter_map(|declaration| entry_name(declaration).map(String::from)).collect()
}

fn entry_name(declaration: &str) -> Option<&str> {
    let mut rest = declaration;
    loop {
        let (before, after) = rest.split_once('(')?;
        let word = before.split_whitespace().next_back()?;
        if word != "__launch_bounds__" {
            return Some(word);
        }
        rest = after.split_once(')')?.1;
    }
}
