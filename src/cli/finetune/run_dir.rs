//! A run directory: what was asked for, what happened, what was predicted, and the model.

use serde::Serialize;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use wattention::error::{Error, Result};
use wattention::files;
use wattention::models::Loaded;

/// What a run writes; `model/config.json` comes last, so a model directory that has it is complete.
const WRITTEN: [&str; 5] =
    ["model/config.json", "model/model.safetensors", "predictions.jsonl", "metrics.jsonl", "config.json"];

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
}

/// A folder that a run may write to.
pub struct RunDir(PathBuf);

impl RunDir {
    /// Checks that the folder can be written, before the work; nothing is changed yet.
    ///
    /// `sources` are folders the run reads, which must lie elsewhere.
    pub fn check(root: &Path, existing: Existing, sources: &[&Path]) -> Result<Self> {
        let run = RunDir(root.to_path_buf());
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
        if nearest == root {
            let mut entries = fs::read_dir(root).map_err(|e| Error::output(root, e))?;
            if existing == Existing::Refuse && entries.next().is_some() {
                let what = "the folder is not empty; choose another one or pass --overwrite-output-dir";
                return Err(Error::output(root, what));
            }
        }
        tempfile::tempfile_in(nearest).map_err(|e| Error::output(root, e))?;
        for source in sources {
            for target in [run.0.clone(), run.model()] {
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

    /// Makes the folder, removes what an earlier run wrote and writes down what is about to be done.
    pub fn start(&self, config: &impl Serialize) -> Result<Metrics> {
        files::create_dir(&self.0)?;
        for name in WRITTEN {
            let path = self.0.join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::output(path, e)),
                _ => {}
            }
        }
        let text = serde_json::to_string_pretty(config)
            .map_err(|e| Error::internal(format!("the run's settings are not JSON: {e}")))?;
        files::write_text(&self.0.join("config.json"), &(text + "\n"))?;
        let path = self.0.join("metrics.jsonl");
        let file = File::create(&path).map_err(|e| Error::output(&path, e))?;
        Ok(Metrics { path, file })
    }

    /// Saves the model in HF layout with the other files of `tokenizer` and `model`.
    pub fn save(&self, loaded: &Loaded, companions: &[&Path]) -> Result<()> {
        let dir = self.model();
        files::create_dir(&dir)?;
        for from in companions {
            for name in COMPANIONS {
                match fs::read(from.join(name)) {
                    Ok(bytes) => files::replace(&dir.join(name), |file| file.write_all(&bytes))?,
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    Err(e) => return Err(Error::read(from.join(name), &e)),
                }
            }
        }
        loaded.save(&dir)
    }

    pub fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    pub fn predictions(&self) -> PathBuf {
        self.0.join("predictions.jsonl")
    }
}

/// `metrics.jsonl`: one event a line, on disk as soon as it happened.
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    pub fn write(&mut self, event: &impl Serialize) -> Result<()> {
        let mut line =
            serde_json::to_vec(event).map_err(|e| Error::internal(format!("an event is not JSON: {e}")))?;
        line.push(b'\n');
        // One unbuffered write: a reader never sees a part of a line.
        self.file.write_all(&line).map_err(|e| Error::output(&self.path, e))
    }
}
