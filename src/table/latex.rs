//! LaTeX tables.

use super::{Notes, Table};
use crate::markup::plain;

impl Table {
    /// A table for the packages booktabs and graphicx, to be taken in by `\input`. Predicted numbers are slanted, and
    /// the reasons for absent ones stand below.
    pub fn latex(&self, caption: &str) -> String {
        let columns = self.shown();
        let aligned: String =
            columns.iter().map(|&at| if self.heads[at].words { 'l' } else { 'r' }).collect();
        let line = |fields: Vec<String>| format!("  {} \\\\\n", fields.join(" & "));
        let mut out = format!(
            "% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.\n\\begin{{table}}\n  \\centering\n  \
             \\caption{{{}}}\n  \\resizebox{{\\textwidth}}{{!}}{{%\n  \\begin{{tabular}}{{{aligned}}}\n  \\toprule\n",
            latex(caption)
        );
        out += &line(columns.iter().map(|&at| latex(&self.heads[at].title)).collect());
        out += "  \\midrule\n";
        let mut notes = Notes::default();
        for row in &self.rows {
            let fields = columns.iter().map(|&at| match (row[at].absent(), latex(&row[at].shown)) {
                (Some(why), _) => format!("n/a\\textsuperscript{{{}}}", notes.number(why)),
                (None, shown) if row[at].is_predicted() => format!("\\textit{{{shown}}}"),
                (None, shown) => shown,
            });
            out += &line(fields.collect());
        }
        out += "  \\bottomrule\n  \\end{tabular}}\n";
        let mut below = vec!["Measured; predicted numbers are slanted.".to_string()];
        below.extend(notes.0.iter().enumerate().map(|(number, why)| {
            format!("\\textsuperscript{{{}}} n/a: {}.", number + 1, latex(why.trim_end_matches('.')))
        }));
        out + &format!("  \\par\\smallskip\\footnotesize {}\n\\end{{table}}\n", below.join(" "))
    }
}

/// Text that is no command of LaTeX.
pub fn latex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("\\textless{}"),
            '>' => out.push_str("\\textgreater{}"),
            '"' => out.push_str("\\textquotedbl{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '−' => out.push_str("$-$"),
            '·' => out.push_str("$\\cdot$"),
            '×' => out.push_str("$\\times$"),
            c => out.push(c),
        }
    }
    out
}
