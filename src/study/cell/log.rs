//! `metrics.jsonl` of a cell: a line per event, under the names of HF's trainer.

use crate::error::{Error, Result};
use crate::files;
use crate::train::Event;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Lines of JSON, each with the step that it is about.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the file at `path` with the lines up to `step` that it has; none at 0.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
        }
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::read(path, &e)),
        };
        let whole = |line: &&str| {
            line.ends_with('\n')
                && step > 0
                && serde_json::from_str::<Line>(line).is_ok_and(|line| line.step <= step)
        };
        let kept: String = text.split_inclusive('\n').take_while(whole).collect();
        files::write_text(path, &kept)?;
        let file = File::options().append(true).open(path).map_err(|e| Error::output(path, e))?;
        Ok(Log { path: path.to_path_buf(), file })
    }

    pub fn line(&mut self, value: &Value) -> Result<()> {
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(|e| Error::output(&self.path, e))
    }

    /// The line of a training event; a checkpoint has none.
    pub fn event(&mut self, event: &Event, steps_per_epoch: u64) -> Result<()> {
        let epoch = |step: &u64| *step as f64 / steps_per_epoch as f64;
        let line = match event {
            Event::Step { step, report, .. } => json!({
                "loss": report.loss, "grad_norm": report.grad_norm, "learning_rate": report.learning_rate,
                "epoch": epoch(step), "step": step,
            }),
            Event::Skipped { step, why, examples, .. } => json!({
                "skipped": why, "examples": examples, "epoch": epoch(step), "step": step,
            }),
            Event::Evaluation { step, eval_loss, scores } => {
                let mut line = json!({ "eval_loss": eval_loss });
                for (name, value) in scores {
                    line[format!("eval_{name}")] = json!(value);
                }
                line["epoch"] = json!(epoch(step));
                line["step"] = json!(step);
                line
            }
            Event::Checkpoint { .. } => return Ok(()),
        };
        self.line(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_keeps_what_came_before_and_whole_lines_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st").unwrap();
        let mut log = Log::open(&path, 2).unwrap();
        log.line(&json!({ "step": 3, "again": true })).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"again\":true}\n");
        Log::open(&path, 0).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
