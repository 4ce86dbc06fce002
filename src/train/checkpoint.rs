//! Checkpoints of a run: folders `checkpoint-N` that are complete or not there.
//!
//! Each holds a model in HF layout, the optimizer's moments, the trainer's state, and, written last, a
//! manifest with the length and the hash of every file. A folder gets its name by one rename, after all of
//! it is on disk; `latest` then names it, and only then are older ones removed.

mod find;
mod manifest;
mod settings;
mod write;

pub use find::{Checkpoint, Found, newest, open};
pub use manifest::Manifest;
pub use settings::Settings;
pub use write::{Saver, Snapshot, is_any_in, remove_all};

use std::path::Path;

const MANIFEST: &str = "manifest.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "trainer_state.json";
/// The file that names the newest complete checkpoint.
const LATEST: &str = "latest";

/// First moment and second moment, as torch names them.
const MOMENTS: [&str; 2] = ["exp_avg", "exp_avg_sq"];

fn folder(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// N of a folder `checkpoint-N`.
fn step_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix("checkpoint-")?;
    let step = digits.parse().ok()?;
    (folder(step) == format!("checkpoint-{digits}")).then_some(step)
}

/// Whether a folder is one that a process was writing or removing when it ended.
fn is_unfinished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("checkpoint-").is_some_and(|rest| rest.contains(".tmp-"))
}
