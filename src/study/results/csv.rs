//! `results.csv`: one row per cell, quoted as RFC 4180, safe to open in a spreadsheet.

use super::{Cell, Reading};

/// The columns before the readings.
const SETUP: [&str; 14] = [
    "model",
    "dataset",
    "max_source_length",
    "precision",
    "seed",
    "protocol",
    "device",
    "batch_size",
    "steps",
    "planned_steps",
    "train_examples",
    "eval_examples",
    "parameters",
    "headline_metric",
];

/// The file's text. A reading is its number or `n/a: why`; the column `predicted` names, separated
/// by spaces, those of the row's numbers that were not measured.
pub fn csv(cells: &[Cell]) -> String {
    let header: Vec<_> = SETUP
        .into_iter()
        .chain(Cell::READINGS.map(|(name, _)| name))
        .chain(["energy_note", "predicted"])
        .collect();
    let mut out = header.join(",") + "\r\n";
    for cell in cells {
        out.push_str(&row(cell).join(","));
        out.push_str("\r\n");
    }
    out
}

fn row(cell: &Cell) -> Vec<String> {
    let setup = [
        field(&cell.model),
        field(&cell.dataset),
        cell.max_source_length.to_string(),
        field(&cell.precision),
        cell.seed.to_string(),
        field(&cell.protocol),
        field(&cell.device),
        cell.batch_size.to_string(),
        cell.steps.to_string(),
        cell.planned_steps.to_string(),
        cell.train_examples.to_string(),
        cell.eval_examples.to_string(),
        cell.parameters.to_string(),
        field(cell.headline_metric.name()),
    ];
    let readings = Cell::READINGS.map(|(name, of)| (name, of(cell)));
    let predicted: Vec<_> = readings
        .iter()
        .filter(|(_, reading)| matches!(reading, Reading::Predicted(_)))
        .map(|(name, _)| *name)
        .collect();
    setup
        .into_iter()
        .chain(readings.map(|(_, reading)| number(reading)))
        .chain([field(&cell.energy_note), field(&predicted.join(" "))])
        .collect()
}

/// A reading as a field.
pub fn number(reading: &Reading) -> String {
    match (reading.value(), reading.why()) {
        (Some(value), _) => value.to_string(),
        (None, why) => field(&format!("n/a: {}", why.unwrap_or_default())),
    }
}

/// A text field. What a spreadsheet would run as a formula gets an apostrophe in front, and what it
/// could split at (also on `;` and tabs, by locale) is quoted.
pub fn field(value: &str) -> String {
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
