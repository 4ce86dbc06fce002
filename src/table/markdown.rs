//! Markdown tables.

use super::{Notes, Table};
use crate::markup::plain;

impl Table {
    /// The table, then `below`, then the reasons for absent numbers, each a paragraph.
    pub fn markdown(&self, below: &str) -> String {
        let columns = self.shown();
        let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
        let mut out = line(columns.iter().map(|&at| markdown(&self.heads[at].title)).collect());
        out += &line(vec!["---".into(); columns.len()]);
        let mut notes = Notes::default();
        for row in &self.rows {
            let fields = columns.iter().map(|&at| match row[at].absent() {
                Some(why) => format!("n/a ({})", notes.number(why)),
                // The mark of a prediction is no markup.
                None if row[at].is_predicted() => format!("~{}", markdown(&row[at].shown)),
                None => markdown(&row[at].shown),
            });
            out += &line(fields.collect());
        }
        out += &format!("\n{below}\n");
        for (number, why) in notes.0.iter().enumerate() {
            out += &format!("\n({}) n/a: {}\n", number + 1, markdown(why));
        }
        out
    }
}

/// Text that is no Markdown, HTML or table syntax.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
