//! Tables of a page.

use super::{Notes, Table};
use crate::markup::{escape, push};

/// Texts longer than this are sentences and may break into lines.
const PROSE: usize = 28;

impl Table {
    /// The table in a frame that scrolls sideways on its own, the reasons for absent numbers below it. Words are
    /// flush left, and the first column is each row's header.
    pub fn html(&self, caption: &str) -> String {
        let caption = escape(caption);
        let mut out = format!(
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table><caption>{caption}</caption><thead><tr>"
        );
        let columns: Vec<usize> =
            (0..self.heads.len()).filter(|&at| !self.heads[at].title.is_empty()).collect();
        let class = |at: usize| if self.heads[at].words { " class=\"name\"" } else { "" };
        for &at in &columns {
            push(
                &mut out,
                format_args!("<th scope=\"col\"{}>{}</th>", class(at), escape(&self.heads[at].title)),
            );
        }
        out.push_str("</tr></thead><tbody>");
        let mut notes = Notes::default();
        for row in &self.rows {
            out.push_str("<tr>");
            for (place, &at) in columns.iter().enumerate() {
                let (tag, scope) = if place == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
                let cell = &row[at];
                let shown = escape(&cell.shown);
                let field = match (cell.absent(), cell.is_predicted()) {
                    (Some(why), _) => {
                        format!("<span class=\"absent\">n/a<sup>{}</sup></span>", notes.number(why))
                    }
                    (None, true) => format!("<i class=\"predicted\">{shown}</i> <small>predicted</small>"),
                    (None, false) if place > 0 && cell.shown.chars().count() > PROSE => {
                        format!("<span class=\"prose\">{shown}</span>")
                    }
                    (None, false) => shown,
                };
                push(&mut out, format_args!("<{tag}{scope}{}>{field}</{tag}>", class(at)));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>\n");
        if !notes.0.is_empty() {
            out.push_str("<ol class=\"footnotes\">");
            for why in &notes.0 {
                push(&mut out, format_args!("<li>{}</li>", escape(why)));
            }
            out.push_str("</ol>\n");
        }
        out
    }
}
