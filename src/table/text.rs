//! Tables as wide as their reader's terminal. Where space is short, titles take several lines; then columns are left
//! out, the least needed first; then names are shortened.

use super::{Head, Table};
use crate::markup::plain;
use std::env;

/// Width where neither COLUMNS nor the terminal says one.
const WIDTH: usize = 120;
const GAP: &str = "  ";
/// Characters that a shortened name keeps at least.
const LEAST: usize = 8;

/// Characters of a line: as COLUMNS says, or the terminal, or 120.
pub fn width() -> usize {
    let said = env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).filter(|&width| width > 0);
    let seen = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    said.or_else(seen).unwrap_or(WIDTH)
}

/// A column ready to be aligned.
struct Shown<'a> {
    head: &'a Head,
    /// One where the title is not broken.
    title: Vec<String>,
    cells: Vec<String>,
    width: usize,
}

impl Table {
    /// The table in at most `width` characters, if what is always shown leaves that choice; columns without content
    /// are left out.
    pub fn text(&self, width: usize) -> String {
        let mut columns: Vec<Shown> = self.shown().into_iter().map(|at| self.column(at)).collect();
        let needed = |columns: &[Shown]| {
            columns.iter().map(|column| column.width).sum::<usize>()
                + GAP.len() * columns.len().saturating_sub(1)
        };
        if needed(&columns) > width {
            columns.iter_mut().for_each(Shown::break_title);
        }
        while needed(&columns) > width {
            let least = columns.iter().enumerate().max_by_key(|(_, column)| column.head.rank);
            match least {
                Some((at, column)) if column.head.rank > 0 => columns.remove(at),
                _ => break,
            };
        }
        while needed(&columns) > width {
            let names = columns.iter_mut().filter(|column| column.head.words);
            match names.max_by_key(|column| column.width) {
                Some(longest) if longest.width > LEAST => longest.width -= 1,
                _ => break,
            }
        }
        let lines = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
        let titles = (0..lines).map(|line| {
            // The last line of every title stands above the cells.
            joined(&columns, |column| {
                (line + column.title.len()).checked_sub(lines).map_or("", |at| column.title[at].as_str())
            })
        });
        let rows = (0..self.rows.len()).map(|row| joined(&columns, |column| column.cells[row].as_str()));
        titles.chain(rows).collect::<Vec<_>>().join("\n")
    }

    /// One row with a line for every column, titles to the left.
    pub fn record(&self, row: usize) -> String {
        let columns = self.shown();
        let wide = columns.iter().map(|&at| self.heads[at].title.chars().count()).max().unwrap_or(0);
        let line = |&at: &usize| {
            let (title, cell) = (&self.heads[at].title, &self.rows[row][at]);
            let why = cell.absent().map_or(String::new(), |why| format!(": {why}"));
            format!("{title:<wide$}{GAP}{}", plain(&(cell.text() + &why)))
        };
        columns.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What `~` and `n/a` stand for, where they occur among the columns that people see.
    pub fn notes(&self) -> Vec<String> {
        let shown = self.shown();
        let cells = || self.rows.iter().flat_map(|row| shown.iter().map(move |&at| (at, &row[at])));
        let mut notes: Vec<String> = Vec::new();
        if cells().any(|(_, cell)| cell.is_predicted()) {
            notes.push("~ predicted, not measured".into());
        }
        for at in &shown {
            for (_, cell) in cells().filter(|(column, _)| column == at) {
                let Some(why) = cell.absent() else { continue };
                let note = format!("n/a in {}: {}", self.heads[*at].title, plain(&why));
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    fn column(&self, at: usize) -> Shown<'_> {
        let head = &self.heads[at];
        let cells: Vec<String> = self.rows.iter().map(|row| plain(&row[at].text())).collect();
        let mut column = Shown { head, title: vec![plain(&head.title)], cells, width: 0 };
        column.width = column.widest();
        column
    }
}

impl Shown<'_> {
    fn widest(&self) -> usize {
        self.title.iter().chain(&self.cells).map(|text| text.chars().count()).max().unwrap_or(0)
    }

    /// Breaks the title at spaces into about two lines, which are no narrower than the cells or its longest word.
    fn break_title(&mut self) {
        let cells = self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        let words = self.title[0].split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
        let half = self.title[0].chars().count().div_ceil(2);
        let width = cells.max(words).max(half);
        self.title = wrapped(&self.title[0], width, 0).lines().map(String::from).collect();
        self.width = self.widest();
    }

    fn aligned(&self, text: &str) -> String {
        let (text, width) = (shortened(text, self.width), self.width);
        match self.head.words {
            true => format!("{text:<width$}"),
            false => format!("{text:>width$}"),
        }
    }
}

fn joined<'a>(columns: &'a [Shown], text: impl Fn(&'a Shown) -> &'a str) -> String {
    let cells = columns.iter().map(|column| column.aligned(text(column)));
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_string()
}

/// Both ends of a name that is longer than `width`, for names differ at either.
fn shortened(name: &str, width: usize) -> String {
    let (chars, width): (Vec<char>, usize) = (name.chars().collect(), width.max(1));
    if chars.len() <= width {
        return name.to_string();
    }
    let tail = (width - 1) / 2;
    let head = width - 1 - tail;
    let end = chars.len() - tail;
    format!("{}…{}", String::from_iter(&chars[..head]), String::from_iter(&chars[end..]))
}

/// `text` in lines of at most `width` characters, broken at spaces; the later ones are indented by `indent`.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let width = width.max(indent + 1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        let start = if lines.len() > 1 { indent } else { 0 };
        if line > start && line + 1 + word.chars().count() > width {
            lines.push(" ".repeat(indent));
        }
        let start = if lines.len() > 1 { indent } else { 0 };
        if let Some(line) = lines.last_mut() {
            if line.chars().count() > start {
                line.push(' ');
            }
            line.push_str(&shortened(word, width - start));
        }
    }
    lines.join("\n")
}
