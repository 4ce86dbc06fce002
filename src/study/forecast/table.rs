//! A forecast as aligned text for a terminal.

use super::Forecast;
use crate::limits::Limits;
use crate::study::markup::{Quantity, decimals, plain, significant};
use crate::study::results::Reading;

const TITLES: [&str; 11] = [
    "model",
    "dataset",
    "tokens",
    "batch",
    "memory",
    "steps/epoch",
    "epoch",
    "all epochs",
    "its energy",
    "inference",
    "its energy",
];

/// One line per cell, then what the numbers are and what they add up to.
pub fn table(forecasts: &[Forecast], limits: Option<&Limits>) -> String {
    let with_paper = forecasts.iter().any(|one| one.paper_batch_size.is_some());
    let mut rows: Vec<Vec<String>> = vec![TITLES.map(String::from).into()];
    if with_paper {
        rows[0][3] = "batch (paper)".into();
    }
    rows.extend(forecasts.iter().map(|one| {
        let or_na = |n: Option<String>| n.unwrap_or_else(|| "n/a".into());
        let batch = or_na(one.batch_size.map(|n| n.to_string()));
        let paper = one.paper_batch_size.map_or("-".into(), |n| n.to_string());
        vec![
            plain(&one.model),
            plain(&one.dataset),
            one.max_source_length.to_string(),
            if with_paper { format!("{batch} ({paper})") } else { batch },
            shown(&one.memory_bytes, Quantity::Memory),
            or_na(one.steps_per_epoch.map(|n| n.to_string())),
            time(&one.least_epoch_seconds),
            time(&one.least_train_seconds),
            energy(&one.train_joules),
            time(&one.inference(|inference| &inference.least_seconds)),
            energy(&one.inference(|inference| &inference.joules)),
        ]
    }));
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let fields = row.iter().zip(&widths).enumerate().map(|(i, (field, &width))| match i {
            0 | 1 => format!("{field:<width$}"),
            _ => format!("{field:>width$}"),
        });
        fields.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1, "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)) + "\n");
    lines.extend(notes(forecasts, limits).into_iter().map(|note| note + "\n"));
    let text = lines.concat();
    text.trim_end().to_string()
}

fn notes(forecasts: &[Forecast], limits: Option<&Limits>) -> Vec<String> {
    let mut notes =
        vec!["All numbers are predicted, by plans of every step; nothing has been run.".to_string()];
    if forecasts.iter().any(|one| one.paper_batch_size.is_some()) {
        notes.push("(paper): the batch of Ang et al. 2022 on a card of 48 GB, where it is published.".into());
    }
    match limits {
        None => notes.push("Times need a GPU's limits: --gpu NAME.".into()),
        Some(limits) => {
            notes.push(format!(
                "Times are the least that the data sheet of the {} allows, real kernels take longer; \
                 energy is that time at its power limit. Inference is once over the validation split after training, \
                 generated answers as long as they may be; evaluations while training are not in these times.",
                limits.device
            ));
            let sum = |of: &dyn Fn(&Forecast) -> Option<f64>| forecasts.iter().map(of).sum::<Option<f64>>();
            let training =
                [sum(&|one| one.least_train_seconds.value()), sum(&|one| one.train_joules.value())];
            let inference = [
                sum(&|one| one.inference(|inference| &inference.least_seconds).value()),
                sum(&|one| one.inference(|inference| &inference.joules).value()),
            ];
            let said = [(training, "training, all epochs"), (inference, "inference")].into_iter().filter_map(
                |([seconds, joules], what)| {
                    let (hours, kwh) = (significant(seconds? / 3600.0), significant(joules? / 3.6e6));
                    Some(format!("{hours} h and {kwh} kWh of {what}"))
                },
            );
            let said: Vec<String> = said.collect();
            if !said.is_empty() {
                notes.push(format!(
                    "All {} cells: at least {}; runs that stop early take less.",
                    forecasts.len(),
                    said.join(", ")
                ));
            }
        }
    }
    let mut problems: Vec<String> = Vec::new();
    for one in forecasts {
        if let Some(problem) = &one.problem {
            problems.push(format!("{}: {}", plain(&one.cell), plain(problem)));
        }
    }
    notes.extend(problems);
    notes
}

fn shown(reading: &Reading, quantity: Quantity) -> String {
    match reading.value() {
        Some(value) => {
            let unit = quantity.unit(value);
            format!("{} {}", significant(value / unit.size), unit.name)
        }
        None => "n/a".into(),
    }
}

/// In kilowatt-hours, as it is paid for.
fn energy(reading: &Reading) -> String {
    reading.value().map_or("n/a".into(), |joules| format!("{} kWh", significant(joules / 3.6e6)))
}

/// A time with the unit that suits it, from milliseconds to hours.
fn time(reading: &Reading) -> String {
    match reading.value() {
        Some(seconds) if seconds < 1.0 => format!("{} ms", decimals(seconds * 1e3, 1)),
        Some(_) => shown(reading, Quantity::Time),
        None => "n/a".into(),
    }
}
