//! QMSum as published (Zhong et al. 2021), one JSON file a meeting, turned into SCROLLS form.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{Existing, Writer};
use super::{Record, Split};
use crate::error::{Error, Result};

/// Examples written per split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub train: usize,
    pub validation: usize,
    pub test: usize,
}

/// Reads the release under `from` and writes `<split>.jsonl` under `to`. Either all three files appear or none.
///
/// `from` holds `train`, `val` and `test`, or is a checkout of the release with them in `data/ALL`.
pub fn import(from: &Path, to: &Path, existing: Existing) -> Result<Imported> {
    let root = find_root(from)?;
    let mut splits = Vec::new();
    for split in Split::ALL {
        splits.push((split, read_split(&root.join(folder_name(split)))?));
    }
    let mut writer = Writer::new(to, existing)?;
    let mut counts = [0; 3];
    for (count, (split, records)) in counts.iter_mut().zip(splits) {
        *count = writer.write(split, records.into_iter().map(Ok))?;
    }
    writer.finish()?;
    let [train, validation, test] = counts;
    Ok(Imported { train, validation, test })
}

/// The release's own name for a split.
pub fn folder_name(split: Split) -> &'static str {
    match split {
        Split::Train => "train",
        Split::Validation => "val",
        Split::Test => "test",
    }
}

fn find_root(from: &Path) -> Result<PathBuf> {
    for root in [from.to_path_buf(), from.join("data").join("ALL")] {
        if root.join("train").is_dir() {
            return Ok(root);
        }
    }
    let what = match from.is_dir() {
        true => {
            "holds neither train nor data/ALL/train; give the folder of the QMSum release with train, val and test"
        }
        false => "no such folder; give the folder of the QMSum release with train, val and test",
    };
    Err(Error::missing(from, what))
}

/// Files in the order of their names, so that the result does not depend on the file system.
fn read_split(folder: &Path) -> Result<Vec<Record>> {
    let listing = fs::read_dir(folder).map_err(|error| Error::missing(folder, error.to_string()))?;
    let mut files = Vec::new();
    for entry in listing {
        let path = entry.map_err(|error| Error::read(folder, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::missing(folder, "holds no .json files; a split of QMSum has one a meeting"));
    }
    let mut records = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|error| Error::read(&path, &error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        records.extend(meeting(&name, &text, &path.display().to_string())?);
    }
    Ok(records)
}

/// The records of one meeting, general queries first. `at` names the file in errors.
///
/// Input: query, two newlines, the transcript as `Speaker: words` lines. Ids are `<name>-general-<i>` and
/// `<name>-specific-<i>`.
pub fn meeting(name: &str, json: &str, at: &str) -> Result<Vec<Record>> {
    let fault = |what: String| Error::data(at, format!("{what}; this is not a meeting of QMSum"));
    let meeting: Value = serde_json::from_str(json).map_err(|error| fault(error.to_string()))?;
    let list = |key: &str| {
        meeting
            .get(key)
            .and_then(Value::as_array)
            .ok_or_else(|| fault(format!("{key} is missing or not a list")))
    };
    let text = |item: &Value, key: &str, index: usize, field: &str| {
        item.get(field)
            .and_then(Value::as_str)
            .map(tidy)
            .ok_or_else(|| fault(format!("{key}[{index}].{field} is missing or not a string")))
    };

    let mut transcript = String::new();
    for (index, turn) in list("meeting_transcripts")?.iter().enumerate() {
        let speaker = text(turn, "meeting_transcripts", index, "speaker")?;
        let words = text(turn, "meeting_transcripts", index, "content")?;
        // A turn of annotation marks only says nothing.
        if words.is_empty() {
            continue;
        }
        if !transcript.is_empty() {
            transcript.push('\n');
        }
        transcript.push_str(&speaker);
        transcript.push_str(": ");
        transcript.push_str(&words);
    }
    if transcript.is_empty() {
        return Err(fault("meeting_transcripts has no words".to_string()));
    }

    let mut records = Vec::new();
    for (key, label) in [("general_query_list", "general"), ("specific_query_list", "specific")] {
        for (index, item) in list(key)?.iter().enumerate() {
            let query = text(item, key, index, "query")?;
            let answer = text(item, key, index, "answer")?;
            if query.is_empty() || answer.is_empty() {
                return Err(fault(format!("{key}[{index}] has an empty query or answer")));
            }
            let id = format!("{name}-{label}-{index}");
            records.push(Record {
                pid: id.clone(),
                id,
                input: format!("{query}\n\n{transcript}"),
                output: Some(answer),
                needles: Vec::new(),
            });
        }
    }
    Ok(records)
}

/// Removes annotation marks (`{disfmarker}`, `{vocalsound}`, ...) and squeezes white space.
fn tidy(text: &str) -> String {
    let mut spoken = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        let close = inside.find('}');
        let mark = close.map(|close| &inside[..close]);
        let is_mark = mark.is_some_and(|mark| {
            !mark.is_empty() && mark.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')
        });
        match (is_mark, close) {
            (true, Some(close)) => {
                spoken.push_str(&rest[..open]);
                spoken.push(' ');
                rest = &inside[close + 1..];
            }
            // A lone brace is text.
            _ => {
                spoken.push_str(&rest[..=open]);
                rest = inside;
            }
        }
    }
    spoken.push_str(rest);
    spoken.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEETING: &str = r#"{
        "general_query_list": [{"query": "Summarize the whole meeting", "answer": "They met ."}],
        "specific_query_list": [{"query": "Who spoke?", "answer": "Ann", "relevant_text_span": [["0", "1"]]}],
        "meeting_transcripts": [
            {"speaker": "Ann", "content": "Um {disfmarker} hello ,\u00a0 all . {vocalsound}"},
            {"speaker": "Bob", "content": "{vocalsound} {pause}"},
            {"speaker": "Cid D", "content": "Bye {x1} {"}
        ]}"#;

    #[test]
    fn a_meeting_becomes_one_record_a_query() {
        let records = meeting("M1", MEETING, "M1.json").unwrap();
        let transcript = "Ann: Um hello , all .\nCid D: Bye {x1} {";
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].id, "M1-general-0");
        assert_eq!(records[1].pid, "M1-specific-0");
        assert_eq!(records[0].input, format!("Summarize the whole meeting\n\n{transcript}"));
        assert_eq!(records[1].input, format!("Who spoke?\n\n{transcript}"));
        assert_eq!(records[1].output.as_deref(), Some("Ann"));
    }

    #[test]
    fn faults_name_the_file_and_the_field() {
        let faults = [
            (MEETING.replace("\"content\": \"Bye", "\"words\": \"Bye"), "meeting_transcripts[2].content"),
            (MEETING.replace("specific_query_list", "other"), "specific_query_list"),
            (MEETING.replace("\"answer\": \"Ann\"", "\"answer\": 3"), "specific_query_list[0].answer"),
            ("{".to_string(), "EOF"),
            ("[]".to_string(), "meeting_transcripts"),
        ];
        for (json, expected) in faults {
            let error = meeting("M1", &json, "dir/M1.json").unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("dir/M1.json: "), "{message}");
            assert!(message.contains(expected), "{message}");
            assert_eq!(error.exit_code(), 65);
        }
    }
}
