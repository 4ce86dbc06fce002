//! `metrics.jsonl`: one event a line, on disk as soon as it happened.

use super::tensorboard::Board;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use wattention::error::{Error, Result};
use wattention::files;

pub struct Metrics {
    path: PathBuf,
    file: File,
    board: Option<Board>,
}

impl Metrics {
    /// Opens the file at `path` and keeps what it says about the first `step` steps, as if the run had
    /// been at that step all along; nothing at 0.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::read(path, &e)),
        };
        let kept: String = text.split_inclusive('\n').take_while(|line| belongs(line, step)).collect();
        files::write_text(path, &kept)?;
        let file = File::options().append(true).open(path).map_err(|e| Error::output(path, e))?;
        Ok(Metrics { path: path.to_path_buf(), file, board: None })
    }

    /// Tells `board`, too, from now on.
    pub fn also_to(self, board: Board) -> Self {
        Metrics { board: Some(board), ..self }
    }

    pub fn write(&mut self, event: &impl Serialize) -> Result<()> {
        let mut line =
            serde_json::to_vec(event).map_err(|e| Error::internal(format!("an event is not JSON: {e}")))?;
        line.push(b'\n');
        // One unbuffered write: a reader never sees a part of a line.
        self.file.write_all(&line).map_err(|e| Error::output(&self.path, e))?;
        self.board.as_mut().map_or(Ok(()), |board| board.add(event))
    }
}

/// Whether a whole line tells of the first `step` steps, and not of the end of the run.
fn belongs(line: &str, step: u64) -> bool {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        train_runtime: Option<Value>,
    }
    let parsed: Result<Line, _> = serde_json::from_str(line);
    line.ends_with('\n') && parsed.is_ok_and(|line| line.step <= step && line.train_runtime.is_none())
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
        let kept = |text: &str, step: u64| {
            fs::write(&path, text).unwrap();
            Metrics::open(&path, step).unwrap().write(&serde_json::json!({"step": 9})).unwrap();
            fs::read_to_string(&path).unwrap().replace("{\"step\":9}\n", "")
        };
        assert_eq!(kept(&lines.concat(), 0), "");
        assert_eq!(kept(&lines.concat(), 1), lines[..2].concat());
        assert_eq!(kept(&lines.concat(), 2), lines.concat());
        // A line that was cut off, and a run that had ended.
        assert_eq!(kept(&(lines.concat() + "{\"loss\":1.5,\"st"), 3), lines.concat());
        assert_eq!(kept(&(lines.concat() + "{\"train_runtime\":1.5,\"step\":2}\n"), 3), lines.concat());
    }
}
