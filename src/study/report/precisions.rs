//! What another number format changed, and weights in 8 bits, from the choices that differ in that alone.

use super::Study;
use super::statements::points;
use crate::study::results::{
    Cell, INFERENCE_ENERGY, INFERENCE_TIME, Metric, PEAK_MEMORY, TRAIN_ENERGY, TRAIN_TIME,
};
use crate::study::trade_off::{Choice, choices};
use crate::units::{Format, decimals};

/// A way in which numbers are kept.
struct Axis {
    /// In words.
    of: fn(&Cell) -> String,
    /// What others are compared with, where the study has it.
    first: &'static str,
    /// Whether two cells agree in all others.
    is_same: fn(&Cell, &Cell) -> bool,
    /// What it may change.
    costs: &'static [Metric],
}

const FORMATS: Axis = Axis {
    of: |cell| cell.precision.clone(),
    first: "fp32",
    is_same: |one, two| one.weights == two.weights,
    costs: &[TRAIN_TIME, PEAK_MEMORY, TRAIN_ENERGY],
};

/// Weights are kept so only once they are trained.
const WEIGHTS: Axis = Axis {
    of: |cell| format!("{} weights", cell.weights.name()),
    first: "stored weights",
    is_same: |one, two| one.precision == two.precision,
    costs: &[INFERENCE_TIME, INFERENCE_ENERGY],
};

/// One sentence for every task and every format but the first, and every way to keep weights but the first; none for
/// what does not differ in the study.
pub fn sentences(study: &Study) -> Vec<String> {
    let axes = [(study.varying.precision, FORMATS), (study.varying.weights, WEIGHTS)];
    axes.iter().filter(|(varies, _)| *varies).flat_map(|(_, axis)| along(axis, study)).collect()
}

fn along(axis: &Axis, study: &Study) -> Vec<String> {
    let all = choices(study.cells);
    let format = |choice: &Choice| choice.cells.first().map_or(String::new(), |cell| (axis.of)(cell));
    let formats = super::distinct(all.iter().map(format));
    let Some(first) = formats.iter().find(|name| *name == axis.first).or(formats.first()) else {
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
                    let is_pair = |two: &&&Choice| format(two) == *other && is_same(axis, one, two);
                    Some((*one, *here.iter().find(is_pair)?))
                })
                .collect();
            out.extend(sentence(axis, [task, first, other], &pairs));
        }
    }
    out
}

/// Whether two choices differ in nothing but perhaps along `axis`.
fn is_same(axis: &Axis, one: &Choice, two: &Choice) -> bool {
    let key = |cell: &Cell| (cell.model.clone(), cell.max_source_length, cell.device.clone());
    match (one.cells.first(), two.cells.first()) {
        (Some(one), Some(two)) => key(one) == key(two) && (axis.is_same)(one, two),
        _ => false,
    }
}

fn sentence(axis: &Axis, [task, first, other]: [&str; 3], pairs: &[(&Choice, &Choice)]) -> Option<String> {
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
    let costs: Vec<String> = axis.costs.iter().filter_map(|metric| ratio(metric, pairs)).collect();
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
