//! `metrics.jsonl`: one event a line under the names of HF's trainer, on disk as soon as it happened.

use super::tensorboard::Board;
use crate::error::{Error, Result};
use crate::files;
use crate::train::{Event, Scores};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What a new process keeps of the lines that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Those of the first steps, as if the run had been there all along.
    Steps(u64),
    /// Those of all training, and none of what came after it.
    Training,
}

pub(super) struct Log {
    path: PathBuf,
    file: File,
    board: Option<Board>,
    steps_per_epoch: u64,
}

#[derive(Serialize)]
struct StepLine {
    loss: f32,
    grad_norm: f32,
    learning_rate: f64,
    epoch: f64,
    step: u64,
}

/// Not under the names of a step that counts; a number that is not finite is null.
#[derive(Serialize)]
struct SkippedLine<'a> {
    skipped: &'a str,
    skipped_loss: f32,
    skipped_grad_norm: Option<f32>,
    examples: &'a [String],
    epoch: f64,
    step: u64,
}

#[derive(Serialize)]
struct EvaluationLine {
    eval_loss: f64,
    #[serde(flatten)]
    scores: Map<String, Value>,
    epoch: f64,
    step: u64,
}

impl Log {
    /// Opens the file at `path` with what of it is to be kept.
    pub fn open(path: &Path, keep: Keep, steps_per_epoch: u64) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::read(path, &e)),
        };
        let kept: String = text.split_inclusive('\n').take_while(|line| keep.keeps(line)).collect();
        files::write_text(path, &kept)?;
        let file = File::options().append(true).open(path).map_err(|e| Error::output(path, e))?;
        Ok(Log { path: path.to_path_buf(), file, board: None, steps_per_epoch })
    }

    /// Writes to TensorBoard's event files in `dir`, too, if there is one; a run that does not resume removes those
    /// that another left in `own`.
    pub fn also_to(&mut self, dir: Option<&Path>, own: &Path, resumes: bool) -> Result<()> {
        if !resumes {
            Board::clear(own)?;
        }
        self.board = dir.map(Board::open).transpose()?;
        Ok(())
    }

    pub fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps_per_epoch as f64
    }

    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|e| Error::internal(format!("an event is not JSON: {e}")))?;
        text.push(b'\n');
        // One unbuffered write: a reader never sees a part of a line.
        self.file.write_all(&text).map_err(|e| Error::output(&self.path, e))?;
        self.board.as_mut().map_or(Ok(()), |board| board.add(line))
    }

    /// The line of an event; a checkpoint has none.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        match event {
            &Event::Step { step, report, .. } => self.write(&StepLine {
                loss: report.loss,
                grad_norm: report.grad_norm,
                learning_rate: report.learning_rate,
                epoch: self.epoch(step),
                step,
            }),
            Event::Skipped { step, why, loss, grad_norm, examples } => self.write(&SkippedLine {
                skipped: why,
                skipped_loss: *loss,
                skipped_grad_norm: *grad_norm,
                examples,
                epoch: self.epoch(*step),
                step: *step,
            }),
            Event::Evaluation { step, eval_loss, scores } => self.write(&EvaluationLine {
                eval_loss: *eval_loss,
                scores: named(scores),
                epoch: self.epoch(*step),
                step: *step,
            }),
            Event::Checkpoint { .. } => Ok(()),
        }
    }
}

/// Scores under the names of HF's trainer.
fn named(scores: &Scores) -> Map<String, Value> {
    scores.iter().map(|(name, value)| (format!("eval_{name}"), Value::from(*value))).collect()
}

impl Keep {
    fn keeps(self, line: &str) -> bool {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
            train_runtime: Option<Value>,
            eval_runtime: Option<Value>,
        }
        let Ok(parsed) = serde_json::from_str::<Line>(line) else { return false };
        let kept = match self {
            Keep::Steps(step) => parsed.step <= step && parsed.train_runtime.is_none(),
            Keep::Training => parsed.eval_runtime.is_none(),
        };
        kept && line.ends_with('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_checkpoint_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let lines = [
            "{\"loss\":2.0,\"step\":1}\n",
            "{\"eval_loss\":1.0,\"step\":1}\n",
            "{\"loss\":1.5,\"step\":2}\n",
        ];
        let kept = |text: &str, keep: Keep| {
            fs::write(&path, text).unwrap();
            Log::open(&path, keep, 1).unwrap().write(&serde_json::json!({"step": 9})).unwrap();
            fs::read_to_string(&path).unwrap().replace("{\"step\":9}\n", "")
        };
        let steps = |text: &str, step: u64| kept(text, Keep::Steps(step));
        assert_eq!(steps(&lines.concat(), 0), "");
        assert_eq!(steps(&lines.concat(), 1), lines[..2].concat());
        assert_eq!(steps(&lines.concat(), 2), lines.concat());
        // A line that was cut off, and a run that had ended.
        assert_eq!(steps(&(lines.concat() + "{\"loss\":1.5,\"st"), 3), lines.concat());
        let trained = lines.concat() + "{\"train_runtime\":1.5,\"step\":2}\n";
        assert_eq!(steps(&trained, 3), lines.concat());
        let scored = trained.clone() + "{\"eval_runtime\":1.5,\"step\":2}\n";
        assert_eq!(kept(&scored, Keep::Training), trained);
    }
}
