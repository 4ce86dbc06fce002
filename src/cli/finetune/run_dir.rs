//! A run directory: what was asked for, what happened, what was predicted, the checkpoints and the model.

use super::metrics::Metrics;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use wattention::error::{Error, Result};
use wattention::files::{self, lock::Lock};
use wattention::models::Loaded;
use wattention::train::checkpoint::{self, Settings};

/// What a run ends with; `model/config.json` comes last, so a model directory that has it is complete.
const WRITTEN: [&str; 3] = ["model/config.json", "model/model.safetensors", "predictions.jsonl"];

/// Files that go with a model and are not its weights.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "generation_config.json",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
    /// Go on with what is there, if something is.
    Resume,
}

/// A folder that a run may write to.
pub struct RunDir {
    root: PathBuf,
    existing: Existing,
}

impl RunDir {
    /// Checks that the folder can be written, before the work; nothing is changed yet.
    ///
    /// `sources` are folders the run reads, which must lie elsewhere.
    pub fn check(root: &Path, existing: Existing, sources: &[&Path]) -> Result<Self> {
        let run = RunDir { root: root.to_path_buf(), existing };
        let mut nearest = root;
        while let Err(error) = fs::metadata(nearest) {
            match nearest.parent() {
                Some(parent) if error.kind() == ErrorKind::NotFound => nearest = parent,
                _ => return Err(Error::output(root, error)),
            }
            if nearest == Path::new("") {
                nearest = Path::new(".");
            }
        }
        if nearest == root && existing == Existing::Refuse {
            run.check_empty()?;
        }
        tempfile::tempfile_in(nearest).map_err(|e| Error::output(root, e))?;
        for source in sources {
            for target in [run.root.clone(), run.model()] {
                if let (Ok(from), Ok(to)) = (source.canonicalize(), target.canonicalize())
                    && from == to
                {
                    return Err(Error::usage(format!(
                        "{} would be overwritten while it is read; choose another --output-dir",
                        source.display()
                    )));
                }
            }
        }
        Ok(run)
    }

    /// Refuses a folder that holds anything but what a process left that ended before its run began.
    pub fn check_empty(&self) -> Result<()> {
        let failed = |e| Error::output(&self.root, e);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name != files::lock::NAME && !name.to_string_lossy().starts_with(files::TEMPORARY) {
                let what = match self.existing {
                    Existing::Resume => {
                        "the folder holds no run to go on with, but other things; choose another one"
                    }
                    _ => {
                        "the folder is not empty; choose another one, pass --overwrite-output-dir, \
                         or go on with the run there by --resume auto"
                    }
                };
                return Err(Error::output(&self.root, what));
            }
        }
        Ok(())
    }

    /// Makes the folder and keeps other processes out of it.
    pub fn lock(&self) -> Result<Lock> {
        files::create_dir(&self.root)?;
        let lock = Lock::take(&self.root)?;
        if self.existing == Existing::Refuse {
            // Another run may have come and gone since the folder was checked.
            self.check_empty()?;
        }
        files::remove_leftovers(&self.root)?;
        files::remove_leftovers(&self.model())?;
        Ok(lock)
    }

    /// The settings of the run that is in the folder, as it wrote them down, if one is.
    pub fn settings(&self) -> Result<Option<Settings>> {
        let path = self.root.join("config.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::read(&path, &e)),
        };
        let broken = |e: serde_json::Error| Error::data(path.display(), e.to_string());
        let config: Value = serde_json::from_str(&text).map_err(broken)?;
        let settings = config.get("settings").cloned().map(serde_json::from_value).transpose();
        settings.map_err(broken)
    }

    /// Removes what an earlier run wrote and writes down what is about to be done.
    ///
    /// A run that goes on from `step` keeps its checkpoints and what `metrics.jsonl` says until then.
    pub fn start(&self, config: &impl Serialize, step: Option<u64>) -> Result<Metrics> {
        for name in WRITTEN {
            let path = self.root.join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::output(path, e)),
                _ => {}
            }
        }
        if step.is_none() {
            checkpoint::remove_all(&self.root)?;
        }
        let text = serde_json::to_string_pretty(config)
            .map_err(|e| Error::internal(format!("the run's settings are not JSON: {e}")))?;
        files::write_text(&self.root.join("config.json"), &(text + "\n"))?;
        Metrics::open(&self.root.join("metrics.jsonl"), step.unwrap_or(0))
    }

    /// Saves the model in HF layout with the `companions` it needs.
    pub fn save(&self, loaded: &Loaded, companions: &[(String, Vec<u8>)]) -> Result<()> {
        let dir = self.model();
        files::create_dir(&dir)?;
        for (name, bytes) in companions {
            files::replace(&dir.join(name), |file| file.write_all(bytes))?;
        }
        loaded.save(&dir)
    }

    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn predictions(&self) -> PathBuf {
        self.root.join("predictions.jsonl")
    }
}

/// Names and contents of the files of `folders` that go with a model; of equal names the last one's.
pub fn companions(folders: &[&Path]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    for from in folders {
        for name in COMPANIONS {
            match fs::read(from.join(name)) {
                Ok(bytes) => {
                    found.retain(|(known, _)| known != name);
                    found.push((name.into(), bytes));
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::read(from.join(name), &e)),
            }
        }
    }
    Ok(found)
}
