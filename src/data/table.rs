//! Splits as CSV or as one JSON list, the other two forms that Hugging Face's scripts read.

use super::columns::Columns;
use super::jsonl::Visit;
use super::lenient;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::io::{BufRead, Read};

/// Hands over the records of a table with a header. An empty cell is null, as pandas reads it.
pub fn visit_csv(reader: impl BufRead, at: &str, visit: &mut Visit) -> Result<()> {
    let unread = |error: std::io::Error| Error::data(at, error.to_string());
    let mut reader = lenient::utf8(reader).map_err(unread)?;
    let delimiter = delimiter(reader.fill_buf().map_err(unread)?);
    let mut table = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
    let wrong = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        (format!("{at}:{line}"), format!("{error}; a table has a header and as many cells in every row"))
    };
    let fatal = |(here, what): (String, String)| Error::data(here, what);
    let header = table.headers().map_err(|error| fatal(wrong(error)))?;
    let names: Vec<String> =
        header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_string()).collect();
    let columns = Columns::of(&names, visit.reading).map_err(|what| Error::data(format!("{at}:1"), what))?;
    let mut row = csv::StringRecord::new();
    let mut rows = 0;
    loop {
        let read = table.read_record(&mut row);
        let line = row.position().map_or(1, csv::Position::line);
        rows += 1;
        match read {
            Ok(false) => break,
            Ok(true) => {
                let cell = |(name, cell): (&String, &str)| {
                    let value = if cell.is_empty() { Value::Null } else { Value::from(cell) };
                    columns.is_read(name).then(|| (name.clone(), value))
                };
                let values: Map<String, Value> = names.iter().zip(&row).filter_map(cell).collect();
                visit.take(format!("{at}:{line}"), columns.record(values, rows, visit.split))?;
            }
            Err(error) if error.is_io_error() => return Err(fatal(wrong(error))),
            Err(error) => {
                let (here, what) = wrong(error);
                visit.take(here, Err(what))?;
            }
        }
    }
    any(rows - 1, at, visit)
}

/// What stands between the cells of a table: commas, or what there is more of in its header.
fn delimiter(head: &[u8]) -> u8 {
    let header = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |wanted: u8| header.iter().filter(|byte| **byte == wanted).count();
    [b'\t', b';', b','].into_iter().max_by_key(|wanted| count(*wanted)).unwrap_or(b',')
}

/// Hands over the records of one JSON list of objects; `text` is the whole of it.
pub fn visit_list(reader: impl BufRead, at: &str, visit: &mut Visit) -> Result<()> {
    let mut text = String::new();
    let read = lenient::utf8(reader).and_then(|mut reader| reader.read_to_string(&mut text));
    read.map_err(|error| Error::data(at, format!("cannot be read: {error}; save the file as UTF-8")))?;
    let text = text.trim_start_matches('\u{feff}');
    let list: Vec<Map<String, Value>> = serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&lenient::mended(text)))
        .map_err(|error| Error::data(at, format!("{error}; expected a list of JSON objects")))?;
    let count = list.len();
    let mut columns = None;
    for (index, values) in list.into_iter().enumerate() {
        let known = match &columns {
            Some(known) => Ok(known),
            None => {
                let names: Vec<String> = values.keys().cloned().collect();
                Columns::of(&names, visit.reading).map(|found| &*columns.insert(found))
            }
        };
        let record = known.and_then(|columns| columns.record(values, index + 1, visit.split));
        visit.take(format!("{at}: record {}", index + 1), record)?;
    }
    any(count, at, visit)
}

fn any(records: usize, at: &str, visit: &Visit) -> Result<()> {
    match records == visit.skipped.len() {
        true => Err(Error::data(at, "holds no records")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::RecordFormat;
    use super::super::{Record, Split};
    use super::*;

    type Form<'a> = fn(&'a [u8], &str, &mut Visit) -> Result<()>;

    fn read<'a>(form: Form<'a>, text: &'a str, skip: usize) -> Result<(Vec<Record>, Vec<String>)> {
        let reading = RecordFormat { skip_bad_records: skip, ..RecordFormat::default() };
        let mut records = Vec::new();
        let mut each = |record| {
            records.push(record);
            Ok(())
        };
        let mut rows = Visit { split: Split::Train, reading: &reading, skipped: Vec::new(), each: &mut each };
        form(text.as_bytes(), "x", &mut rows)?;
        let skipped = rows.skipped;
        Ok((records, skipped))
    }

    #[test]
    fn cells_are_quoted_as_in_rfc_4180() {
        let text = "\u{feff}id,document,summary\r\n1,\"a, \"\"b\"\"\nc\",s\r\n,d,t\r\n";
        let (records, _) = read(visit_csv, text, 0).unwrap();
        let found: Vec<_> =
            records.iter().map(|r| (r.id.as_str(), r.input.as_str(), r.output.as_deref())).collect();
        assert_eq!(found, [("1", "a, \"b\"\nc", Some("s")), ("line-2", "d", Some("t"))]);
        for (text, place, what) in [
            ("document,summary\na,b\nc\n", "x:3: ", "cells"),
            ("document,summary\n,b\n", "x:2: ", "the document is missing"),
            ("a,b\n1,2\n", "x:1: ", "--text-column"),
            ("document,summary\n", "x: ", "no records"),
        ] {
            let error = read(visit_csv, text, 0).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(what), "{error}");
        }
        for text in ["id;document;summary\n1;\"a, b; c\";s\n", "id\tdocument\tsummary\n1\t\"a, b; c\"\ts\n"] {
            let (records, _) = read(visit_csv, text, 0).unwrap();
            assert_eq!((records[0].input.as_str(), records[0].output.as_deref()), ("a, b; c", Some("s")));
        }
        let (records, skipped) = read(visit_csv, "document,summary\na,b\nc\nd,e\n", 1).unwrap();
        assert_eq!((records.len(), skipped.len()), (2, 1));
    }

    #[test]
    fn a_list_of_objects() {
        let text = r#"[{"document": "a", "summary": "b", "n": NaN}, {"document": "c", "summary": "\ud83d"}]"#;
        let (records, _) = read(visit_list, text, 0).unwrap();
        assert_eq!(records[1].output.as_deref(), Some("\u{fffd}"));
        assert_eq!(records[1].id, "line-2");
        let error = read(visit_list, r#"[{"document": "a"}]"#, 0).unwrap_err().to_string();
        assert!(error.starts_with("x: record 1: "), "{error}");
        assert!(read(visit_list, "[1]", 0).is_err() && read(visit_list, "[]", 0).is_err());
    }
}
