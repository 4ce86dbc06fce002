//! JSON Lines, read one line at a time with the place of every fault.

use serde_json::Value;
use std::io::{BufRead, Read};

use super::columns::{Columns, RecordFormat};
use super::lenient;
use super::{Record, Split};
use crate::error::{Error, Result};

/// A longer line is refused: no document of this kind comes near, and a hostile one must not fill memory.
const LONGEST_LINE: u64 = 256 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The records of one file on their way to whoever reads it.
pub struct Visit<'a> {
    pub split: Split,
    pub reading: &'a RecordFormat,
    /// What was wrong with the records that were passed over.
    pub skipped: Vec<String>,
    pub each: &'a mut dyn FnMut(Record) -> Result<()>,
}

impl Visit<'_> {
    /// Hands over a record, or passes over a wrong one while that is allowed. `here` is its place.
    pub fn take(&mut self, here: String, record: std::result::Result<Record, String>) -> Result<()> {
        match record {
            Ok(record) => (self.each)(record),
            Err(what) if self.skipped.len() < self.reading.skip_bad_records => {
                self.skipped.push(format!("{here}: {what}"));
                Ok(())
            }
            Err(what) if self.reading.skip_bad_records > 0 => {
                let most = self.reading.skip_bad_records;
                Err(Error::data(
                    here,
                    format!("{what} (and {most} bad records were passed over, as many as allowed)"),
                ))
            }
            Err(what) => Err(Error::data(here, what)),
        }
    }
}

/// Hands over every record. `at` names the file in errors, which read `file:line: what`.
pub fn visit(reader: impl BufRead, at: &str, visit: &mut Visit) -> Result<()> {
    let mut reader = lenient::utf8(reader).map_err(|error| Error::data(at, error.to_string()))?;
    let mut columns = None;
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
        visit.take(here(), parse(line, number, &mut columns, visit))?;
        records += 1;
    }
    if records == visit.skipped.len() {
        return Err(Error::data(at, "holds no records"));
    }
    Ok(())
}

fn parse(
    line: &[u8],
    number: usize,
    columns: &mut Option<Columns>,
    visit: &Visit,
) -> std::result::Result<Record, String> {
    let text = std::str::from_utf8(line).map_err(|error| {
        format!("not UTF-8 at byte {} of the line; save the file as UTF-8", error.valid_up_to())
    })?;
    if !text.starts_with('{') {
        return Err("expected a JSON object, one a line, with the strings input and output".to_string());
    }
    let known = columns.clone();
    // Every member is read until it is known which ones matter.
    let members = lenient::members(text, &|name| known.as_ref().is_none_or(|columns| columns.is_read(name)));
    let members = members.map_err(|error| {
        let what = error.to_string();
        // serde_json's own line number is always 1 here.
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        format!(
            "{what} (column {}); a record is one JSON object a line, with the strings input and output",
            error.column()
        )
    })?;
    let known = match known {
        Some(known) => known,
        None => columns.insert(Columns::of(&members.names, visit.reading)?).clone(),
    };
    known.record(members.values, number, visit.split)
}

/// A document of a line: its `id` and `pid` as they are written, and its text.
#[derive(Debug, PartialEq)]
pub struct Document {
    pub id: Option<Value>,
    pub pid: Option<Value>,
    pub text: String,
}

/// The document of one JSON object, whose text is in `text_column` or else where datasets have it.
pub fn document(line: &str, text_column: Option<&str>) -> std::result::Result<Document, String> {
    if !line.trim_start().starts_with('{') {
        return Err("expected a JSON object, one a line, with the string \"input\" or \"text\"".to_string());
    }
    let mut members = lenient::members(line, &|_| true).map_err(|e| e.to_string())?;
    let reading = RecordFormat { text_column: text_column.map(str::to_string), ..RecordFormat::default() };
    // There is no summary to be named.
    let columns =
        Columns::of(&members.names, &reading).map_err(|what| what.replace(" and --summary-column", ""))?;
    let text = columns.text(&mut members.values)?;
    let mut name = |key: &str| members.values.remove(key).filter(|value| !value.is_null());
    Ok(Document { id: name("id"), pid: name("pid"), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(bytes: &[u8], split: Split, reading: &RecordFormat) -> Result<(Vec<Record>, Vec<String>)> {
        let mut records = Vec::new();
        let mut each = |record| {
            records.push(record);
            Ok(())
        };
        let mut lines = Visit { split, reading, skipped: Vec::new(), each: &mut each };
        visit(bytes, "x.jsonl", &mut lines)?;
        let skipped = lines.skipped;
        Ok((records, skipped))
    }

    fn read(bytes: &[u8], split: Split) -> Result<Vec<Record>> {
        read_as(bytes, split, &RecordFormat::default()).map(|(records, _)| records)
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
    fn lines_as_other_tools_write_them() {
        for (line, id, pid, input, output) in [
            (r#"{"document":"d","summary":"s","id":7}"#, "7", "7", "d", "s"),
            (r#"{"text":"d","summary":"s","score":NaN,"p":{"q":[-Infinity]}}"#, "line-1", "line-1", "d", "s"),
            (r#"{"id":null,"pid":3.5,"input":"a\ud83d b","output":""}"#, "line-1", "3.5", "a\u{fffd} b", ""),
            (
                r#"{"input":"\ud83d\ude00","output":"\udead","needles":null}"#,
                "line-1",
                "line-1",
                "😀",
                "\u{fffd}",
            ),
            (r#"{"article":"d","highlights":"s","id":"x","\ud83d":"\ud83d"}"#, "x", "x", "d", "s"),
        ] {
            let records = read(line.as_bytes(), Split::Train).unwrap();
            let [Record { id: i, pid: p, input: d, output: Some(s), needles }] = &records[..] else {
                panic!("{line} is {records:?}");
            };
            assert_eq!((i.as_str(), p.as_str(), d.as_str(), s.as_str()), (id, pid, input, output), "{line}");
            assert!(needles.is_empty());
        }
    }

    #[test]
    fn every_fault_names_file_and_line() {
        let faults: &[(&[u8], &str)] = &[
            (b"{\"id\": \"i\", ", "EOF"),
            (b"[1, 2]", "expected"),
            (br#"{"id":"i","pid":"p","output":"x"}"#, "the input is missing, null or NaN (record \"i\")"),
            (br#"{"id":[],"pid":"p","input":"x","output":"y"}"#, "a string or a number"),
            (br#"{"id":"i","pid":"p","input":NaN,"output":"y"}"#, "NaN"),
            (br#"{"id":"i","pid":"p","input":"x","output":["y"]}"#, "the output is a list"),
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
            let one = RecordFormat { skip_bad_records: 1, ..RecordFormat::default() };
            let (records, skipped) = read_as(&bytes, Split::Train, &one).unwrap();
            assert_eq!((records.len(), skipped.len()), (1, 1));
            assert!(skipped[0].starts_with("x.jsonl:2: ") && skipped[0].contains(expected), "{skipped:?}");
            let twice = [&bytes[..], line].concat();
            let error = read_as(&twice, Split::Train, &one).unwrap_err().to_string();
            assert!(error.starts_with("x.jsonl:3: ") && error.contains("1 bad records"), "{error}");
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
        let one = RecordFormat { skip_bad_records: 1, ..RecordFormat::default() };
        assert!(read_as(b"{}\n", Split::Train, &one).is_err());
    }
}
