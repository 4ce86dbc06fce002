//! A run directory: what was asked for, what happened, what was predicted, the checkpoints and the model.

use super::log::{Keep, Log};
use crate::error::{Error, Result};
use crate::files::{self, lock::Lock};
use crate::models::Loaded;
use crate::train::checkpoint::{self, Settings};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a run ends with; `model/config.json` comes last, so a model directory that has it is complete.
const WRITTEN: [&str; 4] =
    ["model/config.json", "model/model.safetensors", "model/README.md", "predictions.jsonl"];

/// What is done about a run that is in the folder already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
    /// Resume it, if there is one: from its newest checkpoint (`auto`) or from the one that is named. A run with other
    /// settings, another model or other data is refused.
    Resume(PathBuf),
    /// Resume it from its newest checkpoint if that is of a run with the same settings, and replace any other.
    Continue,
}

/// A folder that a run may write to.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    pub(super) existing: Existing,
    /// The folder's lock, where whoever starts the run has it already.
    held: Option<Arc<Lock>>,
}

impl RunDir {
    /// Checks that the folder can be written, before the work; nothing is changed yet.
    ///
    /// `sources` are folders the run reads, which must lie elsewhere.
    pub fn check(root: &Path, existing: Existing, sources: &[&Path]) -> Result<Self> {
        let run = RunDir { root: root.to_path_buf(), existing, held: None };
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
        if nearest == root && run.existing == Existing::Refuse {
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
    pub(super) fn check_empty(&self) -> Result<()> {
        let failed = |e| Error::output(&self.root, e);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name != files::lock::NAME && !name.to_string_lossy().starts_with(files::TEMPORARY) {
                let what = match self.existing {
                    Existing::Resume(_) => {
                        "the folder holds other things, and no run to resume; choose another one"
                    }
                    _ => {
                        "the folder is not empty; choose another one, pass --overwrite-output-dir, \
                         or resume the run there by --resume auto"
                    }
                };
                return Err(Error::output(&self.root, what));
            }
        }
        Ok(())
    }

    /// The same with the folder's lock, which was taken before.
    pub fn locked_by(self, lock: Arc<Lock>) -> Self {
        RunDir { held: Some(lock), ..self }
    }

    /// Makes the folder and keeps other processes out of it.
    pub(super) fn lock(&self) -> Result<Arc<Lock>> {
        files::create_dir(&self.root)?;
        let lock = match &self.held {
            Some(lock) => lock.clone(),
            None => Arc::new(Lock::take(&self.root)?),
        };
        if self.existing == Existing::Refuse {
            // Another run may have come and gone since the folder was checked.
            self.check_empty()?;
        }
        files::remove_leftovers(&self.root)?;
        files::remove_leftovers(&self.model())?;
        Ok(lock)
    }

    /// The settings of the run that is in the folder, as it wrote them down, if one is.
    pub(super) fn settings(&self) -> Result<Option<Settings>> {
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
    /// A run that resumes at `step` keeps its checkpoints and what `metrics.jsonl` says until then.
    pub(super) fn start(
        &self,
        config: &impl Serialize,
        step: Option<u64>,
        steps_per_epoch: u64,
    ) -> Result<Log> {
        for name in WRITTEN {
            files::remove(&self.root.join(name))?;
        }
        if step.is_none() {
            checkpoint::remove_all(&self.root)?;
        }
        files::write_json(&self.root.join("config.json"), config)?;
        Log::open(&self.metrics(), Keep::Steps(step.unwrap_or(0)), steps_per_epoch)
    }

    /// Saves the model in HF layout with the `companions` it needs.
    pub(super) fn save(&self, loaded: &Loaded, companions: &[(String, Vec<u8>)]) -> Result<()> {
        let dir = self.model();
        files::create_dir(&dir)?;
        for (name, bytes) in companions {
            files::replace(&dir.join(name), |file| file.write_all(bytes))?;
        }
        loaded.save(&dir)
    }

    /// Whether a model was saved to its end.
    pub fn has_model(&self) -> bool {
        self.model().join("config.json").is_file()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// The run's own folder of TensorBoard's event files.
    pub(super) fn event_files(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub(super) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    pub(super) fn predictions(&self) -> PathBuf {
        self.root.join("predictions.jsonl")
    }
}
