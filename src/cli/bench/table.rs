//! Columns for people, words to the left and numbers to the right; and for files.

use std::fmt;
use wattention::study::results::field;

/// Rows of names and values, of which all have the same names, as comma-separated values (RFC 4180).
pub fn csv(rows: &[Vec<(&str, String)>]) -> String {
    let line = |cells: Vec<String>| cells.join(",") + "\r\n";
    let header = rows.first().map(|row| line(row.iter().map(|(name, _)| name.to_string()).collect()));
    let rows = rows.iter().map(|row| line(row.iter().map(|(_, value)| field(value)).collect()));
    header.into_iter().chain(rows).collect()
}

/// Writes `rows` under `header`, the first `words` columns flush left.
pub fn table(f: &mut fmt::Formatter<'_>, header: &[&str], rows: &[Vec<String>], words: usize) -> fmt::Result {
    let wide = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(wide).collect();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| -> fmt::Result {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            let width = widths[column];
            text += &match column < words {
                true => format!("{cell:<width$}  "),
                false => format!("{cell:>width$}  "),
            };
        }
        write!(f, "\n{}", text.trim_end())
    };
    line(&mut header.iter().copied())?;
    rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
}
