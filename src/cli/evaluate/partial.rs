//! Predictions on disk while they are made, so that a run that is stopped resumes where it was.

use crate::data::Example;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// `<output>.part`: a line of settings, then a line for each prediction.
pub struct Partial {
    path: PathBuf,
    file: File,
    written: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    pid: String,
    prediction: String,
}

impl Partial {
    /// Opens the file beside `output`, and gives the predictions that it has from a run with the same settings.
    pub fn open(
        output: &Path,
        settings: &Map<String, Value>,
        examples: &[Example],
    ) -> Result<(Self, Vec<String>)> {
        let mut path = output.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::read(&path, &e)),
        };
        // A line that has no end was cut off when the run was.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let known = match lines.next() {
            None => Vec::new(),
            Some(header) => {
                same_settings(&path, header, settings)?;
                let line = |(i, line): (usize, &str)| {
                    prediction(line, examples.get(i))
                        .map_err(|what| Error::data(format!("{}:{}", path.display(), i + 2), what))
                };
                lines.enumerate().map(line).collect::<Result<Vec<String>>>()?
            }
        };
        let attempt = || -> io::Result<File> {
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            file.set_len(whole as u64)?;
            if whole == 0 {
                writeln!(file, "{}", Value::Object(settings.clone()))?;
                file.sync_data()?;
            }
            Ok(file)
        };
        let file = attempt().map_err(|e| Error::output(&path, e))?;
        Ok((Partial { path, file, written: known.len() }, known))
    }

    /// Appends what of `predictions` is not there yet; it survives a power failure.
    pub fn add(&mut self, examples: &[Example], predictions: &[String]) -> Result<()> {
        let mut text = Vec::new();
        for (example, prediction) in examples.iter().zip(predictions).skip(self.written) {
            let (id, pid) = (example.id.clone(), example.pid.clone());
            let line = Line { id, pid, prediction: prediction.clone() };
            serde_json::to_writer(&mut text, &line).map_err(|e| Error::internal(e.to_string()))?;
            text.push(b'\n');
        }
        let mut attempt = || -> io::Result<()> {
            self.file.write_all(&text)?;
            self.file.sync_data()
        };
        attempt().map_err(|e| Error::output(&self.path, e))?;
        self.written = predictions.len();
        Ok(())
    }

    /// Removes the file, when its predictions are elsewhere.
    pub fn done(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|e| Error::output(&self.path, e))
    }
}

fn same_settings(path: &Path, header: &str, settings: &Map<String, Value>) -> Result<()> {
    let before: Map<String, Value> = serde_json::from_str(header)
        .map_err(|_| Error::data(path.display(), "is no partial run of `evaluate`; move it away"))?;
    let differs = settings.iter().find(|(key, value)| before.get(*key) != Some(value));
    match differs {
        None if before.len() == settings.len() => Ok(()),
        _ => {
            let (key, now) = differs.map_or(("settings", &Value::Null), |(key, value)| (key.as_str(), value));
            let then = before.get(key).unwrap_or(&Value::Null);
            Err(Error::usage(format!(
                "{} is of a run with other settings ({key} was {then}, is {now}); delete it to start again, or choose another output",
                path.display()
            )))
        }
    }
}

fn prediction(line: &str, example: Option<&Example>) -> std::result::Result<String, String> {
    let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
    match example {
        Some(example) if example.id == line.id && example.pid == line.pid => Ok(line.prediction),
        _ => Err(format!("example '{}' is not in this place of the dataset; delete the file", line.id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let of = |id: &str| Example {
            id: id.into(),
            pid: id.into(),
            input: String::new(),
            references: Vec::new(),
        };
        vec![of("a"), of("b"), of("c")]
    }

    fn settings(beams: u64) -> Map<String, Value> {
        [("num_beams".to_string(), Value::from(beams))].into_iter().collect()
    }

    #[test]
    fn a_run_goes_on_after_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let (output, examples) = (dir.path().join("p.jsonl"), examples());
        let (mut partial, known) = Partial::open(&output, &settings(1), &examples).unwrap();
        assert!(known.is_empty());
        partial.add(&examples, &["one".into()]).unwrap();
        partial.add(&examples, &["one".into(), "two".into()]).unwrap();
        drop(partial);
        let part = dir.path().join("p.jsonl.part");
        let whole = fs::read_to_string(&part).unwrap();
        fs::write(&part, whole.clone() + "{\"id\": \"c\", \"pi").unwrap();
        let (mut partial, known) = Partial::open(&output, &settings(1), &examples).unwrap();
        assert_eq!(known, ["one", "two"]);
        assert_eq!(fs::read_to_string(&part).unwrap(), whole);
        partial.add(&examples, &["one".into(), "two".into(), "three".into()]).unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap().lines().count(), 4);
        partial.done().unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn other_settings_and_other_examples_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (output, mut examples) = (dir.path().join("p.jsonl"), examples());
        let (mut partial, _) = Partial::open(&output, &settings(1), &examples).unwrap();
        partial.add(&examples, &["one".into()]).unwrap();
        let refusal = Partial::open(&output, &settings(4), &examples).err().unwrap();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_string().contains("num_beams was 1, is 4"), "{refusal}");
        examples.swap(0, 1);
        let refusal = Partial::open(&output, &settings(1), &examples).err().unwrap();
        assert_eq!(refusal.exit_code(), 65);
        assert!(refusal.to_string().contains("p.jsonl.part:2: example 'a'"), "{refusal}");
    }
}
