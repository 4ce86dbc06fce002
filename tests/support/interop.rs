//! Saved models that transformers loads, where WATTENTION_PYTHON names a Python that has it.

use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python; without one the test is skipped, which is said.
pub fn python() -> Option<OsString> {
    let python = std::env::var_os("WATTENTION_PYTHON");
    if python.is_none() {
        println!("skipped: WATTENTION_PYTHON names no Python with transformers");
    }
    python
}

/// A model directory, and what was computed from it here.
#[derive(Default)]
pub struct Saved {
    pub model: PathBuf,
    /// safetensors files: a batch, and its logits or generated sequences.
    pub batch: Option<[PathBuf; 2]>,
    /// A JSON list of texts with their ids.
    pub texts: Option<PathBuf>,
}

/// Fails with what `scripts/check_interop.py` finds in any of the directories.
#[track_caller]
pub fn check(python: &OsStr, saved: &[Saved]) {
    let cases = saved.iter().map(|Saved { model, batch, texts }| {
        let [inputs, expected] = match batch {
            Some(batch) => batch.each_ref().map(Some),
            None => [None, None],
        };
        json!({ "model": model, "inputs": inputs, "expected": expected, "texts": texts })
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!(cases.collect::<Vec<_>>()).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check_interop.py");
    let output = Command::new(python).arg(script).arg("--cases").arg(file.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("has the same").count(), saved.len(), "{said}");
    println!("{said}");
}
