//! `predictions.jsonl`: what a model said about each example.

use super::global::Global;
use super::progress::Progress;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use wattention::data::Example;
use wattention::error::Result;
use wattention::files;

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    pid: &'a str,
    prediction: &'a str,
    references: &'a [String],
}

/// Writes one line an example, all or none.
pub fn write(path: &Path, examples: &[Example], predictions: &[String]) -> Result<()> {
    files::replace(path, |file| {
        let mut out = io::BufWriter::new(file);
        for (example, prediction) in examples.iter().zip(predictions) {
            let line =
                Line { id: &example.id, pid: &example.pid, prediction, references: &example.references };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    })
}

/// Shows how many examples are predicted and scored.
pub struct Scoring {
    progress: Progress,
    done: usize,
}

impl Scoring {
    pub fn new(global: &Global, examples: usize) -> Self {
        Scoring { progress: Progress::new(global, examples as u64, "evaluation"), done: 0 }
    }

    /// `done` examples so far.
    pub fn done(&mut self, done: usize) {
        self.progress.step((done - self.done) as u64, "");
        self.done = done;
    }

    pub fn finish(self) {
        self.progress.finish(format_args!("evaluation: {} examples", self.done));
    }
}
