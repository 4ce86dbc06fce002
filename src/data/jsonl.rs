//! JSON Lines in SCROLLS form, read one line at a time with the place of every fault.

use std::io::{BufRead, Read};

use serde::Deserialize;

use super::{Record, Split};
use crate::error::{Error, Result};

/// A longer line is refused: no document of this kind comes near, and a hostile one must not fill memory.
const LONGEST_LINE: u64 = 256 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Deserialize)]
struct Line {
    id: String,
    pid: String,
    input: String,
    output: Option<String>,
    #[serde(default)]
    needles: Vec<[usize; 2]>,
}

/// Calls `each` with every record. `at` names the file in errors, which read `file:line: what`.
pub fn visit(
    mut reader: impl BufRead,
    at: &str,
    split: Split,
    each: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<()> {
    let mut buffer = Vec::new();
    let mut number = 0usize;
    let mut records = 0usize;
    loop {
        buffer.clear();
        number += 1;
        let here = || format!("{at}:{number}");
        let read = reader
            .by_ref()
            .take(LONGEST_LINE + 1)
            .read_until(b'\n', &mut buffer)
            .map_err(|error| Error::data(here(), format!("cannot be read: {error}")))?;
        if read == 0 {
            break;
        }
        if read as u64 > LONGEST_LINE {
            let limit = LONGEST_LINE >> 20;
            return Err(Error::data(here(), format!("the line is longer than {limit} MiB")));
        }
        let line = match number {
            1 => buffer.strip_prefix(BOM).unwrap_or(&buffer),
            _ => &buffer,
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        each(parse(line, split).map_err(|what| Error::data(here(), what))?)?;
        records += 1;
    }
    if records == 0 {
        return Err(Error::data(at, "holds no records"));
    }
    Ok(())
}

fn parse(line: &[u8], split: Split) -> std::result::Result<Record, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 at byte {} of the line", error.valid_up_to()))?;
    // serde would also take an array of the four values.
    if !text.starts_with('{') {
        return Err("expected a JSON object with the strings id, pid, input, output".to_string());
    }
    let line: Line = serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        // serde_json's own line number is always 1 here.
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        format!(
            "{what} (column {}); a record is one JSON object with the strings id, pid, input, output",
            error.column()
        )
    })?;
    if line.input.trim().is_empty() {
        return Err(format!("the input of record {:?} is empty", line.id));
    }
    if line.output.is_none() && split != Split::Test {
        return Err(format!(
            "the output of record {:?} is missing or null; only test splits come without answers",
            line.id
        ));
    }
    let Line { id, pid, input, output, needles } = line;
    if let Some([start, end]) = needles.iter().find(|[start, end]| input.get(*start..*end).is_none()) {
        return Err(format!("the needle of record {id:?} at bytes {start} to {end} is no part of its input"));
    }
    Ok(Record { id, pid, input, output, needles })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], split: Split) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        visit(bytes, "x.jsonl", split, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    const GOOD: &str = r#"{"id":"i","pid":"p","input":"text","output":"short"}"#;

    #[test]
    fn bom_crlf_blank_lines_and_extra_keys_are_fine() {
        let text = format!("\u{feff}{GOOD}\r\n\r\n{}\r\n", GOOD.replace("}", r#","more":[1]}"#));
        let records = read(text.as_bytes(), Split::Train).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].output.as_deref(), Some("short"));
    }

    #[test]
    fn every_fault_names_file_and_line() {
        let faults: &[(&[u8], &str)] = &[
            (b"{\"id\": \"i\", ", "EOF"),
            (b"[1, 2]", "expected"),
            (br#"{"id":"i","pid":"p","output":"x"}"#, "missing field `input`"),
            (br#"{"id":1,"pid":"p","input":"x","output":"y"}"#, "expected a string"),
            (br#"{"id":"i","pid":"p","input":" \n","output":"y"}"#, "is empty"),
            (br#"{"id":"i","pid":"p","input":"x","output":null}"#, "output"),
            (br#"{"id":"i","pid":"p","input":"x","output":"y","needles":[[0,2]]}"#, "bytes 0 to 2"),
            (b"{\"id\":\"\xff\"}", "not UTF-8 at byte 7"),
        ];
        for (line, expected) in faults {
            let bytes = [GOOD.as_bytes(), b"\n", line, b"\n"].concat();
            let error = read(&bytes, Split::Train).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("x.jsonl:2: "), "{message}");
            assert!(message.contains(expected), "{message}");
            assert_eq!(error.exit_code(), 65);
        }
    }

    #[test]
    fn only_test_splits_come_without_answers() {
        let text = GOOD.replace(r#""short""#, "null");
        assert_eq!(read(text.as_bytes(), Split::Test).unwrap()[0].output, None);
        assert!(read(text.as_bytes(), Split::Validation).is_err());
    }

    #[test]
    fn a_file_without_records_is_an_error() {
        assert!(read(b"\n\n", Split::Train).is_err());
    }
}
