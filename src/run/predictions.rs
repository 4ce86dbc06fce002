//! `predictions.jsonl`: what a model said about each example.

use crate::data::Example;
use crate::error::Result;
use crate::files;
use crate::metrics::Scores;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    /// Unique in a split.
    pid: &'a str,
    prediction: &'a str,
    references: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores>,
}

/// Writes one line an example, with its own scores where they are given; all lines or none.
pub fn write_predictions(
    path: &Path,
    examples: &[Example],
    predictions: &[String],
    scores: Option<&[Scores]>,
) -> Result<()> {
    files::replace(path, |file| {
        let mut out = io::BufWriter::new(file);
        for (i, (example, prediction)) in examples.iter().zip(predictions).enumerate() {
            let line = Line {
                id: &example.id,
                pid: &example.pid,
                prediction,
                references: &example.references,
                scores: scores.and_then(|scores| scores.get(i).copied()),
            };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    })
}
