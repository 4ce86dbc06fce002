//! Tables: columns described once, and written as text for a terminal, CSV, Markdown, LaTeX or HTML.
//!
//! A [`Column`] says under which key files have it, its title for people, how its numbers are written, and where its
//! values come from. A [`Table`] is columns over rows; every form of it marks predicted numbers and gives the reason of
//! those that are absent.

mod csv;
mod html;
mod latex;
mod markdown;
mod text;

pub use latex::latex;
pub use markdown::markdown;
pub use text::{width, wrapped};

use crate::reading::{Mark, Reading};
use crate::units::Format;

/// What a row has in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Count(u64),
    Number(Reading),
    /// Nothing: a row that the column is not about.
    Empty,
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Value::Count(count as u64)
    }
}

impl From<Reading> for Value {
    fn from(reading: Reading) -> Self {
        Value::Number(reading)
    }
}

impl From<f64> for Value {
    fn from(measured: f64) -> Self {
        Value::Number(Reading::measured(measured))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Empty, Into::into)
    }
}

/// One column over rows of `R`.
pub struct Column<'a, R> {
    key: &'a str,
    title: String,
    format: Format,
    words: bool,
    rank: u8,
    of: Box<dyn Fn(&R) -> Value + 'a>,
}

impl<'a, R> Column<'a, R> {
    fn new<V: Into<Value>>(
        title: impl Into<String>,
        format: Format,
        words: bool,
        of: impl Fn(&R) -> V + 'a,
    ) -> Self {
        let of = Box::new(move |row: &R| of(row).into());
        Column { key: "", title: title.into(), format, words, rank: 0, of }
    }

    /// Names and other words, flush left.
    pub fn words<V: Into<Value>>(title: impl Into<String>, of: impl Fn(&R) -> V + 'a) -> Self {
        Self::new(title, Format::Plain, true, of)
    }

    /// Numbers that name a setting, such as a batch size: flush right, without marks between thousands.
    pub fn size<V: Into<Value>>(title: impl Into<String>, of: impl Fn(&R) -> V + 'a) -> Self {
        Self::new(title, Format::Plain, false, of)
    }

    /// Numbers in `format`, flush right.
    pub fn number<V: Into<Value>>(
        title: impl Into<String>,
        format: Format,
        of: impl Fn(&R) -> V + 'a,
    ) -> Self {
        Self::new(title, format, false, of)
    }

    /// A column of files alone, under `key`.
    pub fn file<V: Into<Value>>(key: &'a str, of: impl Fn(&R) -> V + 'a) -> Self {
        Self::new("", Format::Plain, false, of).key(key)
    }

    /// Its name in files; a column without one is for people alone.
    pub fn key(self, key: &'a str) -> Self {
        Column { key, ..self }
    }

    /// Where space is short: 0 stays, and of the others the highest is left out first.
    pub fn rank(self, rank: u8) -> Self {
        Column { rank, ..self }
    }
}

/// A column's head.
#[derive(Debug, Clone)]
struct Head {
    key: String,
    /// With the unit of the column, where it has one.
    title: String,
    words: bool,
    rank: u8,
}

/// A value, and how people read it; empty for one that is absent.
#[derive(Debug, Clone)]
struct Cell {
    value: Value,
    shown: String,
}

impl Cell {
    /// Why there is no number.
    fn absent(&self) -> Option<String> {
        match &self.value {
            Value::Number(reading) => reading.why(),
            _ => None,
        }
    }

    fn is_predicted(&self) -> bool {
        matches!(&self.value, Value::Number(reading) if matches!(reading.marked(), Some((_, Mark::Predicted))))
    }

    /// The text of plain forms: `~` before a prediction, `n/a` for nothing.
    fn text(&self) -> String {
        match (self.absent(), self.is_predicted()) {
            (Some(_), _) => "n/a".into(),
            (None, true) => format!("~{}", self.shown),
            (None, false) => self.shown.clone(),
        }
    }
}

/// Columns over rows, ready to be written.
#[derive(Debug, Clone)]
pub struct Table {
    heads: Vec<Head>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new<'r, R: 'r>(columns: &[Column<R>], rows: impl IntoIterator<Item = &'r R>) -> Self {
        let rows: Vec<&R> = rows.into_iter().collect();
        let mut table = Table { heads: Vec::new(), rows: vec![Vec::new(); rows.len()] };
        for column in columns {
            let values: Vec<Value> = rows.iter().map(|row| (column.of)(row)).collect();
            let numbers = values.iter().filter_map(|value| match value {
                Value::Number(reading) => reading.value(),
                Value::Count(count) => Some(*count as f64),
                _ => None,
            });
            let unit = column.format.unit(numbers.fold(0.0, f64::max));
            let title = match unit {
                Some(unit) => format!("{} ({})", column.title, unit.name),
                None => column.title.clone(),
            };
            let (key, words, rank) = (column.key.to_string(), column.words, column.rank);
            table.heads.push(Head { key, title, words, rank });
            for (row, value) in table.rows.iter_mut().zip(values) {
                let shown = match &value {
                    Value::Text(text) => text.clone(),
                    Value::Count(count) if column.format == Format::Plain => count.to_string(),
                    Value::Count(count) => column.format.shown(*count as f64, unit),
                    Value::Number(reading) => {
                        reading.value().map_or(String::new(), |value| column.format.shown(value, unit))
                    }
                    Value::Empty => String::new(),
                };
                row.push(Cell { value, shown });
            }
        }
        table
    }

    /// What is shown to people: columns that have a title, and something under it.
    fn shown(&self) -> Vec<usize> {
        let has_content =
            |at: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*at].text().is_empty());
        (0..self.heads.len()).filter(|&at| !self.heads[at].title.is_empty()).filter(has_content).collect()
    }
}

/// The reasons for absent numbers, numbered from 1 in the order they are met.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, why: String) -> usize {
        let at = self.0.iter().position(|known| *known == why);
        at.unwrap_or_else(|| {
            self.0.push(why);
            self.0.len() - 1
        }) + 1
    }
}

#[cfg(test)]
mod tests;
