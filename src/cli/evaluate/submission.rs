//! Predictions in the two forms that the SCROLLS benchmark takes.

use crate::data::Example;
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::Protocol;
use serde_json::{Map, Value};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Which form a file has, by its ending.
pub enum Submission {
    /// One object, text by id: what its evaluator reads.
    Json(PathBuf),
    /// ID, Task, Prediction: what its leaderboard takes.
    Csv(PathBuf),
}

impl Submission {
    pub fn named(path: &Path, protocol: Protocol) -> Result<Self> {
        if protocol != Protocol::Scrolls {
            return Err(Error::usage("--submission is for generated answers; take --protocol scrolls"));
        }
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Ok(Submission::Json(path.to_path_buf())),
            Some("csv") => Ok(Submission::Csv(path.to_path_buf())),
            _ => Err(Error::usage(format!("{}: name the submission .json or .csv", path.display()))),
        }
    }

    /// Writes one prediction for every id.
    pub fn write(&self, task: &str, examples: &[Example], predictions: &[String]) -> Result<()> {
        let rows = examples.iter().map(|example| &example.id).zip(predictions);
        match self {
            Submission::Json(path) => {
                let all: Map<String, Value> =
                    rows.map(|(id, text)| (id.clone(), Value::from(text.as_str()))).collect();
                files::write_text(path, &(Value::Object(all).to_string() + "\n"))
            }
            Submission::Csv(path) => files::replace(path, |file| {
                let mut text = "ID,Task,Prediction\n".to_string();
                for (id, prediction) in rows {
                    text += &format!("{},{},{}\n", field(id), field(task), field(prediction));
                }
                file.write_all(text.as_bytes())
            }),
        }
    }
}

/// A field of a CSV line, quoted where it must be (RFC 4180).
fn field(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_commas_quotes_and_breaks_are_quoted() {
        assert_eq!(field("plain text"), "plain text");
        assert_eq!(field("a, \"b\"\nc"), "\"a, \"\"b\"\"\nc\"");
    }
}
