//! Comma-separated values: RFC 4180, safe to open in a spreadsheet.

use super::{Table, Value};

impl Table {
    /// The columns that have a key and something under it, a line of keys first; numbers are unrounded and in base units, and one that is
    /// absent is `n/a: ` and why.
    pub fn csv(&self) -> String {
        let has_content =
            |at: usize| self.rows.is_empty() || self.rows.iter().any(|row| row[at].value != Value::Empty);
        let kept = || {
            (0..self.heads.len()).filter(|&at| !self.heads[at].key.is_empty()).filter(|&at| has_content(at))
        };
        let mut out = kept().map(|at| field(&self.heads[at].key)).collect::<Vec<_>>().join(",") + "\r\n";
        for row in &self.rows {
            out += &kept().map(|at| written(&row[at].value)).collect::<Vec<_>>().join(",");
            out += "\r\n";
        }
        out
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => field(text),
        Value::Count(count) => count.to_string(),
        Value::Number(reading) => match (reading.value(), reading.why()) {
            (Some(value), _) => value.to_string(),
            (None, why) => field(&format!("n/a: {}", why.unwrap_or_default())),
        },
        Value::Empty => String::new(),
    }
}

/// A text field. What a spreadsheet would run as a formula gets an apostrophe in front, and what it
/// could split at (also on `;` and tabs, by locale) is quoted.
fn field(value: &str) -> String {
    let formula = value
        .trim_start_matches([' ', '\u{a0}', '\u{feff}'])
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let guarded = if formula { format!("'{value}") } else { value.to_string() };
    if guarded.contains([',', ';', '"', '\t', '\r', '\n']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}
