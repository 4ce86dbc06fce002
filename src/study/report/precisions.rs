//! What another number format changed, from the choices that differ in their format alone.

use super::Study;
use super::statements::points;
use crate::study::results::{Cell, Metric, PEAK_MEMORY, TRAIN_ENERGY, TRAIN_TIME};
use crate::study::trade_off::{Choice, choices};
use crate::units::{Format, decimals};

/// The format that others are compared with, where the study has it.
const FIRST: &str = "fp32";

/// One sentence for every task and every format but the first; none in a study of one format.
pub fn sentences(study: &Study) -> Vec<String> {
    if !study.varying.precision {
        return Vec::new();
    }
    let all = choices(study.cells);
    let format = |choice: &Choice| choice.cells.first().map_or("", |cell| &cell.precision).to_string();
    let formats = super::distinct(all.iter().map(format));
    let Some(first) = formats.iter().find(|name| *name == FIRST).or(formats.first()) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for task in &study.tasks {
        let here: Vec<&Choice> = all.iter().filter(|choice| choice.task == *task).collect();
        for other in formats.iter().filter(|name| *name != first) {
            let pairs: Vec<(&Choice, &Choice)> = here
                .iter()
                .filter(|choice| format(choice) == *first)
                .filter_map(|one| {
                    let is_pair = |two: &&&Choice| format(two) == *other && is_same(one, two);
                    Some((*one, *here.iter().find(is_pair)?))
                })
                .collect();
            out.extend(sentence(task, first, other, &pairs));
        }
    }
    out
}

/// Whether two choices differ in nothing but perhaps their number format.
fn is_same(one: &Choice, two: &Choice) -> bool {
    let key = |choice: &Choice| {
        let of = |cell: &Cell| (cell.model.clone(), cell.max_source_length, cell.device.clone());
        choice.cells.first().map(|cell| of(cell))
    };
    key(one) == key(two)
}

fn sentence(task: &str, first: &str, other: &str, pairs: &[(&Choice, &Choice)]) -> Option<String> {
    let known: Vec<_> = pairs.iter().filter_map(|(one, two)| Some((one, two, one.differs(two)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let changed: Vec<String> = known
        .iter()
        .filter(|(.., differs)| *differs)
        .map(|(one, two, _)| {
            let name = one.cells.first().map_or("", |cell| &cell.model);
            format!(
                "{name} at {} tokens by {}",
                one.length,
                Format::Signed.shown(points(two) - points(one), None)
            )
        })
        .collect();
    let scores = match (known.len(), changed.is_empty()) {
        (0, _) => "how the scores differ is not known, for there are no intervals".to_string(),
        (count, true) => format!("no score of {count} differs by more than the 95 % intervals"),
        (count, false) => format!(
            "{} of {count} scores differ by more than the 95 % intervals: {}",
            changed.len(),
            changed.join(", ")
        ),
    };
    let costs = [TRAIN_TIME, PEAK_MEMORY, TRAIN_ENERGY].iter().filter_map(|metric| ratio(metric, pairs));
    let costs: Vec<String> = costs.collect();
    let costs = if costs.is_empty() { String::new() } else { format!("; {}", costs.join(", ")) };
    Some(format!("On {task}, {other} beside {first}: {scores}{costs}."))
}

/// `0.60 to 0.90 times the training time`.
fn ratio(metric: &Metric, pairs: &[(&Choice, &Choice)]) -> Option<String> {
    let of = |(one, two): &(&Choice, &Choice)| Some(two.mean(metric).value()? / one.mean(metric).value()?);
    let ratios: Vec<f64> = pairs.iter().filter_map(of).collect();
    let least = ratios.iter().copied().reduce(f64::min)?;
    let most = ratios.iter().copied().reduce(f64::max)?;
    let (least, most) = (decimals(least, 2), decimals(most, 2));
    let range = if least == most { least } else { format!("{least} to {most}") };
    Some(format!("{range} times the {}", metric.title))
}
