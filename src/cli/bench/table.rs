//! Columns for people: words to the left, numbers to the right.

use std::fmt;

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
