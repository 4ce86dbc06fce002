//! The documents of a JSON Lines or text file, all checked before the first is worked on.

use crate::collective::Group;
use crate::data::{self, Document};
use crate::error::{Error, Result};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// How the predictions are written when nothing says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Lines,
    /// The text alone.
    Whole,
}

/// Reads `path`, or stdin when it is `-`, on the first rank of `group`: launchers give no other one a stdin.
pub fn read(path: &Path, text_column: Option<&str>, group: &Group) -> Result<(Vec<Document>, Form)> {
    let is_stdin = path == Path::new("-");
    let at = if is_stdin { "standard input".to_string() } else { path.display().to_string() };
    let mut bytes = Vec::new();
    if group.is_first() {
        let read = match is_stdin {
            true => io::stdin().lock().read_to_end(&mut bytes).map(|_| ()),
            false => fs::read(path).map(|all| bytes = all),
        };
        read.map_err(|e| Error::read(&at, &e))?;
    }
    group.broadcast(&mut bytes);
    let mut decoded = Vec::new();
    let read = data::utf8(bytes.as_slice()).and_then(|mut reader| reader.read_to_end(&mut decoded));
    read.map_err(|e| Error::data(&at, e.to_string()))?;
    let text = String::from_utf8(decoded).map_err(|e| {
        let at_byte = e.utf8_error().valid_up_to();
        Error::data(&at, format!("not UTF-8 at byte {at_byte}; convert it first"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let form = form(path, text)?;
    Ok((parse(&at, text, form, text_column)?, form))
}

fn form(path: &Path, text: &str) -> Result<Form> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("jsonl") => Ok(Form::Lines),
        Some("txt") => Ok(Form::Whole),
        None if path == Path::new("-") => Ok(match text.trim_start().starts_with('{') {
            true => Form::Lines,
            false => Form::Whole,
        }),
        _ => Err(Error::usage(format!(
            "{}: name it .jsonl (one JSON object a line) or .txt (one document)",
            path.display()
        ))),
    }
}

fn parse(at: &str, text: &str, form: Form, text_column: Option<&str>) -> Result<Vec<Document>> {
    let documents = match form {
        Form::Lines => {
            let lines = text.lines().enumerate();
            lines
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(i, line)| {
                    data::document(line, text_column)
                        .map_err(|what| Error::data(format!("{at}:{}", i + 1), what))
                })
                .collect::<Result<_>>()?
        }
        Form::Whole if text.trim().is_empty() => Vec::new(),
        Form::Whole => vec![Document { id: None, pid: None, text: text.to_string() }],
    };
    match documents.is_empty() {
        false => Ok(documents),
        true => Err(Error::data(at, "holds no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn names_are_kept_as_they_are_and_both_keys_are_read() {
        let text = "{\"id\": 7, \"input\": \"a\"}\n\n{\"pid\": \"p\", \"text\": \"b\", \"more\": [1]}\n";
        let documents = parse("x", text, Form::Lines, None).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].id, Some(Value::from(7)));
        assert_eq!(documents[1].pid, Some(Value::from("p")));
        assert_eq!(documents[1].text, "b");
    }

    #[test]
    fn a_fault_is_found_by_its_line() {
        for (line, part) in [
            ("{\"text\": \"\"}", "empty"),
            ("{\"title\": \"a\"}", "the record has title; name its columns with --text-column"),
            ("[\"a\"]", "expected a JSON object"),
            ("{\"text\": 3}", "expected a string"),
            ("{\"text\": \"a\"", "EOF"),
        ] {
            let text = format!("{{\"text\": \"fine\"}}\n{line}\n");
            let error = parse("x.jsonl", &text, Form::Lines, None).unwrap_err();
            assert_eq!(error.exit_code(), 65);
            let message = error.to_string();
            assert!(message.starts_with("x.jsonl:2: "), "{message}");
            assert!(message.contains(part), "{message} does not say {part}");
        }
    }

    #[test]
    fn a_text_is_one_document_and_nothing_is_none() {
        let documents = parse("x.txt", "one\ntwo\n", Form::Whole, None).unwrap();
        assert_eq!(documents[0].text, "one\ntwo\n");
        assert!(parse("x.txt", " \n", Form::Whole, None).is_err());
        assert!(parse("x.jsonl", "\n", Form::Lines, None).is_err());
    }
}
