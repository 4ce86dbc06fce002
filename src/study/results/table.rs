//! The results as aligned text for a terminal.

use super::{Cell, Mark, Reading, Varying};
use crate::study::markup::{Quantity, decimals, plain, significant};
use std::collections::{BTreeMap, BTreeSet};

/// The widest line, in characters.
pub const WIDTH: usize = 100;

const COLUMNS: usize = 9;

/// One line per cell, at most [`WIDTH`] wide, then what the marks in it mean.
pub fn table(cells: &[Cell]) -> String {
    if cells.is_empty() {
        return "no results yet\n".into();
    }
    let varying = Varying::of(cells);
    let unit = |quantity: Quantity, of: fn(&Cell) -> &Reading| {
        let values = cells.iter().filter_map(|cell| of(cell).value());
        quantity.unit(values.fold(0.0, f64::max))
    };
    let time = unit(Quantity::Time, |c| &c.train_seconds);
    let memory = unit(Quantity::Memory, Cell::peak_bytes);
    let energy = unit(Quantity::Energy, |c| &c.energy_joules);
    let mut rows = vec![[
        "model".into(),
        "dataset".into(),
        "tokens".into(),
        "score".into(),
        format!("train {}", time.name),
        "train/s".into(),
        "eval/s".into(),
        format!("peak {}", memory.name),
        format!("energy {}", energy.name),
    ]];
    rows.extend(cells.iter().map(|cell| {
        let scaled = |size: f64| move |value: f64| significant(value / size);
        [
            plain(&varying.row(cell)),
            plain(&cell.dataset),
            cell.max_source_length.to_string(),
            marked(cell.headline(), |value| decimals(value, 2)),
            marked(&cell.train_seconds, scaled(time.size)),
            marked(&cell.train_samples_per_second, significant),
            marked(&cell.eval_samples_per_second, significant),
            marked(cell.peak_bytes(), scaled(memory.size)),
            marked(&cell.energy_joules, scaled(energy.size)),
        ]
    }));
    let widths = widths(&rows);
    let mut lines: Vec<_> = rows.iter().map(|row| line(row, &widths)).collect();
    let rule = widths.iter().sum::<usize>() + 2 * (COLUMNS - 1);
    lines.insert(1, "-".repeat(rule) + "\n");
    lines.extend(notes(cells).iter().map(|note| wrapped(note)));
    lines.concat()
}

fn marked(reading: &Reading, show: impl Fn(f64) -> String) -> String {
    match reading.marked() {
        Some((value, Mark::Measured)) => show(value),
        Some((value, Mark::Predicted)) => format!("~{}", show(value)),
        None => "n/a".into(),
    }
}

/// Natural widths; when they exceed the line, the longer of the two name columns gives way.
fn widths(rows: &[[String; COLUMNS]]) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = (*width).max(field.chars().count());
        }
    }
    let room = WIDTH - 2 * (COLUMNS - 1);
    while widths.iter().sum::<usize>() > room && widths[0].max(widths[1]) > 8 {
        let longer = usize::from(widths[1] > widths[0]);
        widths[longer] -= 1;
    }
    widths
}

fn line(fields: &[String; COLUMNS], widths: &[usize; COLUMNS]) -> String {
    let fields = fields.iter().zip(widths).enumerate();
    let padded: Vec<_> = fields
        .map(|(i, (field, &width))| {
            let field = shortened(field, width);
            match i {
                0 | 1 => format!("{field:<width$}"),
                _ => format!("{field:>width$}"),
            }
        })
        .collect();
    format!("{}\n", padded.join("  ").trim_end())
}

/// Both ends of a name, for models differ at either.
fn shortened(name: &str, width: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= width {
        return name.to_string();
    }
    let tail = (width - 1) / 2;
    let head = width - 1 - tail;
    let end = chars.len() - tail;
    format!("{}…{}", String::from_iter(&chars[..head]), String::from_iter(&chars[end..]))
}

/// The metrics behind `score`, and what `~` and `n/a` stand for where they occur.
fn notes(cells: &[Cell]) -> Vec<String> {
    let mut metrics: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for cell in cells {
        let datasets = metrics.entry(cell.headline_metric.label()).or_default();
        datasets.insert(plain(&cell.dataset));
    }
    let metrics: Vec<_> = metrics
        .into_iter()
        .map(|(metric, datasets)| format!("{metric} on {}", Vec::from_iter(datasets).join(", ")))
        .collect();
    let mut notes = vec![format!("score: {}", metrics.join("; "))];
    let shown = |cell: &Cell| {
        [
            ("score", cell.headline().clone()),
            ("train", cell.train_seconds.clone()),
            ("train/s", cell.train_samples_per_second.clone()),
            ("eval/s", cell.eval_samples_per_second.clone()),
            ("peak", cell.peak_bytes().clone()),
            ("energy", cell.energy_joules.clone()),
        ]
    };
    let readings: Vec<_> = cells.iter().flat_map(shown).collect();
    if readings.iter().any(|(_, r)| matches!(r.marked(), Some((_, Mark::Predicted)))) {
        notes.push("~ predicted, not measured".into());
    }
    let absent: BTreeSet<_> = readings
        .iter()
        .filter_map(|(column, r)| Some(format!("n/a in {column}: {}", plain(&r.why()?))))
        .collect();
    notes.extend(absent);
    notes
}

/// A note in lines of at most [`WIDTH`], the later ones indented.
fn wrapped(note: &str) -> String {
    let mut lines = vec![String::new()];
    for word in note.split(' ') {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 2 && used + 1 + word.chars().count() > WIDTH {
            lines.push("  ".into());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(&shortened(word, WIDTH - 2));
        }
    }
    lines.join("\n") + "\n"
}
