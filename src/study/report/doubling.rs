//! The price of doubling the input length, from every pair of cells that shows it.

use super::{Study, distinct};
use crate::reading::Reading;
use crate::study::results::Cell;
use crate::study::trade_off::mean;
use crate::table::{Column, Table};
use crate::units::{Format, significant};

/// What came of running a series at twice the length; factors are new over old, seeds averaged.
pub struct Doubling {
    task: String,
    series: String,
    from: u64,
    score: Reading,
    train: Reading,
    eval: Reading,
    memory: Reading,
}

/// Every doubling of the study, by task and series.
pub fn doublings(study: &Study) -> Vec<Doubling> {
    let mut out = Vec::new();
    for task in &study.tasks {
        for series in &study.series {
            let run = study.run(task, series);
            for from in distinct(run.iter().map(|cell| cell.max_source_length)) {
                let at = |length| -> Vec<&Cell> {
                    let here = run.iter().filter(|cell| cell.max_source_length == length);
                    here.copied().collect()
                };
                let (short, long) = (at(from), at(2 * from));
                if long.is_empty() {
                    continue;
                }
                let both = |of: fn(&Cell) -> &Reading, with: fn(f64, f64) -> f64| {
                    let over_seeds = |cells: &[&Cell]| mean(cells, |cell| of(cell).clone());
                    over_seeds(&short).with(&over_seeds(&long), with)
                };
                out.push(Doubling {
                    task: task.clone(),
                    series: series.clone(),
                    from,
                    score: both(Cell::headline, |old, new| new - old),
                    train: both(|c| &c.train_samples_per_second, |old, new| old / new),
                    eval: both(|c| &c.eval_samples_per_second, |old, new| old / new),
                    memory: both(Cell::peak_bytes, |old, new| new / old),
                });
            }
        }
    }
    out
}

/// All doublings as a table.
pub fn doubling_table(study: &Study, doublings: &[Doubling]) -> String {
    let columns = [
        Column::words("model", |d: &Doubling| d.series.clone()),
        Column::words("dataset", |d: &Doubling| d.task.clone()),
        Column::size("tokens", |d: &Doubling| format!("{} → {}", d.from, 2 * d.from)),
        Column::number("score", Format::Signed, |d: &Doubling| d.score.clone()),
        Column::number("training time per example", Format::Times, |d: &Doubling| d.train.clone()),
        Column::number("inference time per example", Format::Times, |d: &Doubling| d.eval.clone()),
        Column::number("peak memory", Format::Times, |d: &Doubling| d.memory.clone()),
    ];
    let averaged = if study.varying.seed { ", means over seeds" } else { "" };
    Table::new(&columns, doublings).html(&format!("What doubling the input length changed{averaged}"))
}

/// All doublings in one sentence, none when nothing compares.
pub fn doubling_sentence(doublings: &[Doubling]) -> Option<String> {
    let spread = |of: fn(&Doubling) -> &Reading, show: fn(f64) -> String| {
        let values: Vec<f64> = doublings.iter().filter_map(|d| of(d).value()).collect();
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        let predicted = doublings.iter().any(|d| matches!(of(d), Reading::Predicted(_)));
        let mark = if predicted { " (partly predicted)" } else { "" };
        Some(match (show(least), show(most)) {
            (one, other) if one == other => format!("{one}{mark}"),
            (one, other) => format!("{one} to {other}{mark}"),
        })
    };
    let factors: Vec<String> = [
        ("training time per example", spread(|d| &d.train, significant)),
        ("inference time per example", spread(|d| &d.eval, significant)),
        ("peak memory", spread(|d| &d.memory, significant)),
    ]
    .into_iter()
    .filter_map(|(what, factor)| Some(format!("{what} by {}", factor?)))
    .collect();
    let mut parts = Vec::new();
    if !factors.is_empty() {
        parts.push(format!("multiplied {}", sentence_list(&factors)));
    }
    parts.extend(
        spread(|d| &d.score, |points| Format::Signed.shown(points, None))
            .map(|s| format!("changed the score by {s} points")),
    );
    if parts.is_empty() {
        return None;
    }
    let compared = match doublings {
        [one] => format!("{} on {}, {} to {} tokens", one.series, one.task, one.from, 2 * one.from),
        many => format!("{} comparisons, listed below", many.len()),
    };
    Some(format!("Doubling the input length {} ({compared}).", parts.join("; it ")))
}

/// `a`, `a and b`, `a, b and c`.
fn sentence_list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
