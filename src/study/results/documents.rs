//! The results as tables for documents: Markdown and LaTeX.

use super::{Cell, Mark, Reading, Results, Varying};
use crate::study::markup::{Quantity, Unit, decimals, plain, significant};

/// What a column shows of a cell.
enum Show {
    Name(fn(&Varying, &Cell) -> String),
    Score,
    /// The ends of the score's interval.
    Interval,
    In(Quantity, fn(&Cell) -> &Reading),
}

const COLUMNS: [(&str, Show); 10] = [
    ("model", Show::Name(|varying, cell| varying.row(cell))),
    ("dataset", Show::Name(|_, cell| cell.dataset.clone())),
    ("tokens", Show::Name(|_, cell| cell.max_source_length.to_string())),
    ("batch", Show::Name(|_, cell| cell.batch_size.to_string())),
    ("score", Show::Score),
    ("95 % interval", Show::Interval),
    ("training", Show::In(Quantity::Time, |c| &c.train_seconds)),
    ("training", Show::In(Quantity::Throughput, |c| &c.train_samples_per_second)),
    ("peak memory", Show::In(Quantity::Memory, Cell::peak_bytes)),
    ("energy", Show::In(Quantity::Energy, |c| &c.energy_joules)),
];

/// A table ready to be written: titles, rows, and why numbers are missing, by footnote number.
struct Table {
    titles: Vec<String>,
    rows: Vec<Vec<Field>>,
    notes: Vec<String>,
}

enum Field {
    Text(String),
    Number(String),
    Predicted(String),
    /// With the number of its note, from 1.
    Absent(usize),
}

impl Table {
    fn of(cells: &[Cell]) -> Self {
        let varying = Varying::of(cells);
        let units: Vec<Option<Unit>> = COLUMNS
            .iter()
            .map(|(_, show)| match show {
                Show::In(quantity, of) => {
                    let values = cells.iter().filter_map(|cell| of(cell).value());
                    Some(quantity.unit(values.fold(0.0, f64::max)))
                }
                _ => None,
            })
            .collect();
        let title = |((title, _), unit): (&(&str, Show), &Option<Unit>)| match unit {
            Some(unit) => format!("{title} ({})", unit.name),
            None => (*title).to_string(),
        };
        let titles = COLUMNS.iter().zip(&units).map(title).collect();
        let mut notes: Vec<String> = Vec::new();
        let mut field = |reading: &Reading, show: &dyn Fn(f64) -> String| match reading.marked() {
            Some((value, Mark::Measured)) => Field::Number(show(value)),
            Some((value, Mark::Predicted)) => Field::Predicted(show(value)),
            None => {
                let why = reading.why().unwrap_or_default();
                let at = notes.iter().position(|known| *known == why).unwrap_or_else(|| {
                    notes.push(why);
                    notes.len() - 1
                });
                Field::Absent(at + 1)
            }
        };
        let score = |value: f64| decimals(value, 2);
        let rows = cells
            .iter()
            .map(|cell| {
                let shown = |((_, show), unit): (&(&str, Show), &Option<Unit>)| match (show, unit) {
                    (Show::Name(of), _) => Field::Text(plain(&of(&varying, cell))),
                    (Show::In(_, of), Some(unit)) => field(of(cell), &|value| significant(value / unit.size)),
                    (Show::Interval, _) => match cell.interval() {
                        Some(i) => Field::Number(format!("{} to {}", score(i.low), score(i.high))),
                        None => field(&cell.score_low, &score),
                    },
                    _ => field(cell.headline(), &score),
                };
                COLUMNS.iter().zip(&units).map(shown).collect()
            })
            .collect();
        Table { titles, rows, notes }
    }
}

/// The metric by which each dataset is scored, as one line.
fn metrics(cells: &[Cell]) -> String {
    let mut said: Vec<String> = Vec::new();
    for cell in cells {
        let line =
            format!("{} on {} ({} protocol)", cell.headline_metric.label(), cell.dataset, cell.protocol);
        if !said.contains(&line) {
            said.push(line);
        }
    }
    said.join("; ")
}

/// A Markdown document with one table.
pub fn markdown(results: &Results) -> String {
    let title = match results.title.trim() {
        "" => "Study",
        title => title,
    };
    let mut out = format!("# {}\n\n", in_markdown(title));
    if results.cells.is_empty() {
        return out + "There are no results yet.\n";
    }
    let table = Table::of(&results.cells);
    let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
    out += &line(table.titles.clone());
    out += &line(vec!["---".into(); table.titles.len()]);
    for row in &table.rows {
        out += &line(
            row.iter()
                .map(|field| match field {
                    Field::Text(text) => in_markdown(text),
                    Field::Number(number) => number.clone(),
                    Field::Predicted(number) => format!("~{number}"),
                    Field::Absent(note) => format!("n/a ({note})"),
                })
                .collect(),
        );
    }
    out += &format!(
        "\nScores run from 0 to 100: {}. Numbers are measured; `~` marks predicted ones.\n",
        in_markdown(&metrics(&results.cells))
    );
    for (number, why) in table.notes.iter().enumerate() {
        out += &format!("\n({}) n/a: {}\n", number + 1, in_markdown(why));
    }
    out
}

/// A LaTeX table for the packages booktabs and graphicx, to be taken in by `\input`.
pub fn latex(results: &Results) -> String {
    if results.cells.is_empty() {
        return "% There are no results yet.\n".into();
    }
    let table = Table::of(&results.cells);
    let line = |fields: Vec<String>| format!("  {} \\\\\n", fields.join(" & "));
    let names = COLUMNS.iter().take_while(|(_, show)| matches!(show, Show::Name(_))).count();
    let columns = format!("{}{}", "l".repeat(2), "r".repeat(table.titles.len() - 2));
    let mut out = format!(
        "% Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}. The first {names} columns name the cell.\n\
         \\begin{{table}}\n  \\centering\n  \\caption{{{}}}\n  \\resizebox{{\\textwidth}}{{!}}{{%\n  \
         \\begin{{tabular}}{{{columns}}}\n  \\toprule\n",
        in_latex(&format!("{}. Scores: {}.", results.title.trim_end_matches('.'), metrics(&results.cells)))
    );
    out += &line(table.titles.iter().map(|title| in_latex(title)).collect());
    out += "  \\midrule\n";
    for row in &table.rows {
        out += &line(
            row.iter()
                .map(|field| match field {
                    Field::Text(text) => in_latex(text),
                    Field::Number(number) => in_latex(number),
                    Field::Predicted(number) => format!("\\textit{{{}}}", in_latex(number)),
                    Field::Absent(note) => format!("n/a\\textsuperscript{{{note}}}"),
                })
                .collect(),
        );
    }
    out += "  \\bottomrule\n  \\end{tabular}}\n";
    let mut notes = vec!["Measured; predicted numbers are slanted.".to_string()];
    notes.extend(table.notes.iter().enumerate().map(|(number, why)| {
        format!("\\textsuperscript{{{}}} n/a: {}.", number + 1, in_latex(why.trim_end_matches('.')))
    }));
    out + &format!("  \\par\\smallskip\\footnotesize {}\n\\end{{table}}\n", notes.join(" "))
}

/// Text that is no Markdown, HTML or table syntax.
fn in_markdown(text: &str) -> String {
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

/// Text that is no command of LaTeX.
fn in_latex(text: &str) -> String {
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
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::tests::cell;

    const HOSTILE: &str = "|<b>x</b> \\input{/etc/passwd} $x_1$ [a](b) `c` #d & 100% ~e^f\n{}";

    fn hostile() -> Results {
        let mut one = cell(HOSTILE, HOSTILE, 128);
        one.energy_joules = Reading::absent(HOSTILE);
        one.train_seconds = Reading::predicted(12.0);
        Results { title: HOSTILE.into(), cells: vec![one], ..Results::default() }
    }

    /// Columns of a line: separators that are not escaped.
    fn columns(line: &str, separator: char) -> usize {
        let mut escaped = false;
        let mut count = 0;
        for c in line.chars() {
            count += usize::from(c == separator && !escaped);
            escaped = c == '\\' && !escaped;
        }
        count
    }

    #[test]
    fn hostile_names_stay_in_their_markdown_cells() {
        let text = markdown(&hostile());
        assert!(!text.contains("<b>"), "{text}");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| columns(row, '|') == 11), "{text}");
        assert!(text.contains("~12.0") && text.contains("n/a (1)") && text.contains("(1) n/a: "), "{text}");
    }

    #[test]
    fn hostile_names_are_no_latex() {
        let text = latex(&hostile());
        let row = text.lines().find(|line| line.contains("passwd") && line.ends_with("\\\\")).unwrap();
        assert!(row.contains("\\textbackslash{}input\\{/etc/passwd\\}") && !row.contains("\\input"), "{row}");
        assert_eq!(columns(row.trim_end_matches('\\'), '&'), 9, "{row}");
        assert_eq!(columns(row, '$'), 0, "{row}");
        assert!(text.contains("\\textit{12.0}") && text.contains("n/a\\textsuperscript{1}"), "{text}");
    }

    #[test]
    fn nothing_is_a_document_too() {
        assert!(markdown(&Results::default()).contains("no results yet"));
        assert!(latex(&Results::default()).starts_with('%'));
    }
}
