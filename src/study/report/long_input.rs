//! What long input bought over the dense models of the study, which read no further than their positions.

use super::Study;
use super::statements::{against, points};
use crate::study::results::{
    INFERENCE_ENERGY, INFERENCE_TIME, Metric, PEAK_MEMORY, TRAIN_ENERGY, TRAIN_TIME,
};
use crate::study::trade_off::{Choice, choices};
use crate::units::decimals;

/// One sentence for every task that has both; the first answers whether, and for what.
pub fn sentences(study: &Study) -> Vec<String> {
    let all = choices(study.cells);
    let scored = |task: &String| -> Vec<&Choice> {
        all.iter().filter(|choice| choice.task == *task && choice.score().value().is_some()).collect()
    };
    study.tasks.iter().filter_map(|task| sentence(task, &scored(task))).collect()
}

fn sentence(task: &str, here: &[&Choice]) -> Option<String> {
    let seconds = |choice: &Choice| choice.mean(&TRAIN_TIME).value().unwrap_or(f64::INFINITY);
    // The cheaper of equal scores.
    let better = |a: &&Choice, b: &&Choice| {
        points(a).total_cmp(&points(b)).then_with(|| seconds(b).total_cmp(&seconds(a)))
    };
    let best = |of: &dyn Fn(&Choice) -> bool| here.iter().copied().filter(|choice| of(choice)).max_by(better);
    // What a baseline is compared with was measured as it was, and reads further.
    let is_beyond = |long: &Choice, dense: &Choice| {
        !long.is_dense() && dense.is_dense() && long.length > dense.length && long.is_like(dense)
    };
    let long = best(&|long| here.iter().any(|dense| is_beyond(long, dense)))?;
    let dense = best(&|dense| is_beyond(long, dense))?;
    let by = points(long) - points(dense);
    let names = (long.name(), dense.name());
    let (more, margin) = (if by < 0.0 { "less" } else { "more" }, decimals(by.abs(), 2));
    let bought = match long.differs(dense) {
        Some(true) if by > 0.0 => format!(
            "long input bought {margin} points over the dense baseline: {} scores {} and {} {}, and their 95 % intervals \
             do not overlap",
            names.0,
            decimals(points(long), 2),
            names.1,
            decimals(points(dense), 2)
        ),
        Some(true) => format!(
            "long input bought nothing: {} scores {margin} points less than {}, the dense baseline",
            names.0, names.1
        ),
        Some(false) => format!(
            "long input bought nothing that the 95 % intervals tell: {} scores {margin} points {more} than {}, the dense \
             baseline",
            names.0, names.1
        ),
        None => format!(
            "whether long input bought anything is not known, for there is no interval: {} scores {margin} points \
             {more} than {}, the dense baseline",
            names.0, names.1
        ),
    };
    let costs =
        [TRAIN_TIME, INFERENCE_TIME, PEAK_MEMORY].iter().filter_map(|metric| cost(metric, long, dense));
    let costs: Vec<String> = costs.chain([energy(long, dense)]).collect();
    let same = here.iter().find(|choice| choice.series == long.series && choice.length == dense.length);
    let length = same.map_or(String::new(), |short| {
        let by = points(short) - points(dense);
        format!(
            " At {} tokens, {} {}.",
            dense.length,
            short.series,
            against(by, short.differs(dense), &dense.series)
        )
    });
    Some(format!("On {task}, {bought}. It took {}.{length}", costs.join(", ")))
}

/// `12.0 s of training time instead of 3.0 s`.
fn cost(metric: &Metric, long: &Choice, dense: &Choice) -> Option<String> {
    let (long, dense) = (long.mean(metric).value()?, dense.mean(metric).value()?);
    let shown = |value| metric.format.shown(value, None);
    Some(format!("{} of {} instead of {}", shown(long), metric.title, shown(dense)))
}

/// The energy of both, where it is known; why it is not, the tables say.
fn energy(long: &Choice, dense: &Choice) -> String {
    let known: Vec<String> =
        [TRAIN_ENERGY, INFERENCE_ENERGY].iter().filter_map(|metric| cost(metric, long, dense)).collect();
    match known.is_empty() {
        true => "and energy that no meter measured".into(),
        false => known.join(", "),
    }
}
