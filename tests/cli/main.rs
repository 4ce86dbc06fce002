//! The command line as a new user meets it: what it writes, says and refuses.

mod batch;
mod bench;
mod bench_scan;
mod cache;
mod card;
#[path = "../support/csv.rs"]
mod csv;
mod data;
mod decoding;
mod disturbed;
#[path = "../docs.rs"]
mod docs;
mod doctor;
mod embedded;
mod energy;
mod evaluate;
mod finetune;
mod folders;
mod forward;
mod frame;
mod generate;
#[path = "../support/golden.rs"]
mod golden;
mod hub;
mod int8;
#[path = "../support/interop.rs"]
mod interop;
mod kernels;
mod launchers;
mod left_out;
mod overfit;
mod plan;
mod primera;
mod profile;
mod profile_plan;
mod random_parity;
mod ranks;
mod refusals;
mod repeat;
mod reporting;
mod resume;
#[path = "../support/scalar.rs"]
mod scalar;
mod settings;
mod signals;
mod study;
mod study_energy;
mod study_results;
mod study_weights;
mod submit;
mod to_led;
#[path = "../support/torch_file.rs"]
mod torch_file;
mod workers;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a finished command left.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattention"));
    command.stdin(Stdio::null());
    // Not the caches of whoever runs the tests.
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("caches"));
    command
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command line of words; words with spaces go through [`command`].
fn wattention(line: &str) -> Ran {
    ran(command().args(line.split_whitespace()))
}

impl Ran {
    #[track_caller]
    fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// The refusal: this code, nothing on stdout, one error that says all `parts`, no panic.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert_eq!(self.out, "", "a failure printed a result");
        let errors: Vec<&str> = self.err.lines().filter(|l| l.contains("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.err);
        assert!(errors[0].starts_with("error: "), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{} does not say {part:?}", self.err);
        }
        for trace in ["panicked", "internal error", "RUST_BACKTRACE"] {
            assert!(!self.err.contains(trace), "{}", self.err);
        }
    }

    /// The one JSON object on stdout.
    #[track_caller]
    fn json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.succeeds();
        match serde_json::from_str(&self.out) {
            Ok(serde_json::Value::Object(object)) => object,
            other => panic!("{:?} is {other:?}", self.out),
        }
    }
}

/// The median of numbers in a JSON list.
fn median(numbers: &serde_json::Value) -> f64 {
    let mut sorted: Vec<f64> = numbers.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2] + sorted[(sorted.len() - 1) / 2]) / 2.0
}

fn model(name: &str) -> PathBuf {
    golden::root().join(name)
}

/// A folder of its own with a copy of a golden model.
fn model_copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "inputs.safetensors"] {
        std::fs::copy(model(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

/// Sets one key of `dir/config.json` to `value`, given as JSON.
fn configure(dir: &Path, key: &str, value: &str) {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    config.insert(key.to_string(), serde_json::from_str(value).unwrap());
    std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
}

/// Names of what lies in a folder, sorted.
fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
