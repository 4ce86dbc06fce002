//! Which model and length to choose under limits of energy, time, accuracy or latency.

use super::results::{
    EMISSIONS, INFERENCE_ENERGY, INFERENCE_TIME, PEAK_MEMORY, Results, TRAIN_ENERGY, TRAIN_TIME, agreement,
};
use super::total_cost::{self, Expense};
use super::trade_off::{Choice, choices};
use crate::error::{Error, Result};
use crate::metrics::bootstrap::Interval;
use crate::nn::Weights;
use crate::reading::Reading;
use crate::units::{Joules, significant};
use serde::Serialize;

/// What is asked for; at least one is set.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Energy of one training run.
    pub budget_kwh: Option<f64>,
    /// Time of one training run.
    pub budget_hours: Option<f64>,
    /// Score, 0 to 100.
    pub min_accuracy: Option<f64>,
    /// Seconds of inference per example.
    pub max_latency: Option<f64>,
    /// Documents that inference will be for: then costs are those of training and of all of them.
    pub documents: Option<u64>,
    pub dataset: Option<String>,
}

/// The answer for one dataset.
#[derive(Debug, Serialize)]
pub struct Recommendation {
    pub dataset: String,
    pub metric: &'static str,
    /// None where nothing meets the wishes.
    pub choice: Option<Chosen>,
    /// The next best, and whether the difference is known to lie outside of the intervals.
    pub next: Option<Next>,
    /// What does not meet the wishes, or cannot be judged, and why.
    pub not_chosen: Vec<Excluded>,
    /// By what the choice is the best: its score, or a cost.
    pub by: String,
}

#[derive(Debug, Serialize)]
pub struct Chosen {
    pub model: String,
    pub precision: String,
    pub weights: Weights,
    pub max_source_length: u64,
    pub score: Reading,
    pub interval: Option<Interval>,
    pub train_seconds: Reading,
    pub train_joules: Reading,
    pub peak_bytes: Reading,
    pub inference_seconds: Reading,
    pub inference_joules: Reading,
    /// Grams of CO2 equivalents of training.
    pub emissions_grams: Reading,
    /// Training and inference of the documents that were named, seconds and joules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_seconds: Option<Reading>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_joules: Option<Reading>,
    /// Precision, recall and length of the predictions.
    pub measures: Vec<Measure>,
    /// What else has to be known of it.
    pub caution: Option<String>,
    /// Why its times and energy are not to be relied on; absent where nothing speaks against them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disturbed: Option<String>,
}

/// What a score is made of.
#[derive(Debug, Serialize)]
pub struct Measure {
    pub what: &'static str,
    pub value: Reading,
}

#[derive(Debug, Serialize)]
pub struct Next {
    #[serde(flatten)]
    pub is: Chosen,
    /// How much more the choice scores.
    pub score_margin: Reading,
    /// Whether the difference lies outside of the intervals; None where one of them is not known, as of one example.
    pub told_apart: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct Excluded {
    pub model: String,
    pub max_source_length: u64,
    pub why: String,
}

/// Recommends for every dataset, or for the one that is asked for.
///
/// With a least accuracy, the cheapest that reaches it: by energy where all have it, else by training time. Otherwise
/// the most accurate within the limits.
pub fn recommend(results: &Results, wishes: &Wishes) -> Result<Vec<Recommendation>> {
    let all = choices(&results.cells);
    let asked = |choice: &&Choice| {
        let dataset = choice.cells.first().map_or("", |cell| &cell.dataset);
        wishes.dataset.as_ref().is_none_or(|only| only == dataset)
    };
    let all: Vec<&Choice> = all.iter().filter(asked).collect();
    if all.is_empty() {
        let mut have: Vec<&str> = results.cells.iter().map(|cell| cell.dataset.as_str()).collect();
        have.sort_unstable();
        have.dedup();
        return Err(match &wishes.dataset {
            Some(only) if !have.is_empty() => Error::usage(format!(
                "there are no results of the dataset {only}; there are {}",
                have.join(", ")
            )),
            _ => Error::data("the results", "no cell has been run yet"),
        });
    }
    let energy = all.iter().map(|choice| choice.mean(&TRAIN_ENERGY)).collect::<Vec<_>>();
    if wishes.budget_kwh.is_some() && energy.iter().all(|energy| energy.value().is_none()) {
        let why = energy.iter().find_map(Reading::why).unwrap_or_default();
        return Err(Error::data(
            "the results",
            format!(
                "energy was not measured ({why}), so a budget in kWh decides nothing; give --budget-hours"
            ),
        ));
    }
    let mut tasks: Vec<&String> = Vec::new();
    for choice in &all {
        if !tasks.contains(&&choice.task) {
            tasks.push(&choice.task);
        }
    }
    let of = |task: &String| all.iter().copied().filter(|choice| choice.task == *task).collect::<Vec<_>>();
    Ok(tasks.into_iter().map(|task| one(task, &of(task), wishes)).collect())
}

fn one(task: &str, choices: &[&Choice], wishes: &Wishes) -> Recommendation {
    let (mut within, mut not_chosen): (Vec<&Choice>, Vec<Excluded>) = (Vec::new(), Vec::new());
    for choice in choices {
        match judged(choice, wishes) {
            Ok(()) => within.push(choice),
            Err(why) => not_chosen.push(Excluded {
                model: choice.series.clone(),
                max_source_length: choice.length,
                why,
            }),
        }
    }
    let expense = Expense::of(&within);
    let has_energy = within.iter().all(|choice| choice.mean(&TRAIN_ENERGY).value().is_some());
    let alone = if has_energy { TRAIN_ENERGY } else { TRAIN_TIME };
    let cost = |choice: &Choice| match wishes.documents {
        Some(documents) => expense.total(choice, documents as f64),
        None => choice.mean(&alone),
    };
    let number = |reading: Reading| reading.value().unwrap_or(f64::INFINITY);
    let score = |choice: &Choice| choice.score().value().unwrap_or(f64::NEG_INFINITY);
    match wishes.min_accuracy {
        Some(_) => within.sort_by(|a, b| number(cost(a)).total_cmp(&number(cost(b)))),
        None => within.sort_by(|a, b| {
            // The cheaper of equal scores.
            score(b).total_cmp(&score(a)).then(number(cost(a)).total_cmp(&number(cost(b))))
        }),
    }
    let next = match within.as_slice() {
        [first, second, ..] => Some(Next {
            is: chosen(second, wishes),
            score_margin: first.score().with(&second.score(), |a, b| a - b),
            told_apart: first.differs(second),
        }),
        _ => None,
    };
    let metric = choices.first().and_then(|choice| choice.cells.first());
    Recommendation {
        dataset: task.into(),
        metric: metric.map_or("", |cell| cell.headline_metric.label()),
        choice: within.first().map(|choice| chosen(choice, wishes)),
        next,
        not_chosen,
        by: match (wishes.min_accuracy, wishes.documents) {
            (None, _) => "score".into(),
            (Some(_), None) => alone.title.into(),
            (Some(_), Some(documents)) => format!("total {} of {documents} documents", expense.name),
        },
    }
}

/// Whether a choice meets the wishes; else why not.
fn judged(choice: &Choice, wishes: &Wishes) -> Result<(), String> {
    let unknown = |what: &str, reading: &Reading| {
        Err(format!("{what} is not known: {}", reading.why().unwrap_or_default()))
    };
    let score = choice.score();
    match (score.value(), wishes.min_accuracy) {
        (None, _) => return unknown("its score", &score),
        (Some(score), Some(least)) if score < least => return Err(format!("it scores {score:.2}")),
        _ => {}
    }
    let limits = [
        (wishes.budget_kwh, TRAIN_ENERGY, "kWh", Joules(1.0).kwh()),
        (wishes.budget_hours, TRAIN_TIME, "h", 1.0 / 3600.0),
        (wishes.max_latency, INFERENCE_TIME, "s", 1.0),
    ];
    for (most, cost, unit, scale) in limits {
        let Some(most) = most else { continue };
        let spent = choice.mean(&cost);
        match spent.value().map(|value| value * scale) {
            None => return unknown(&format!("its {}", cost.title), &spent),
            Some(value) if value <= most => {}
            Some(value) => {
                let shown = significant(value);
                return Err(format!("its {} is {shown} {unit}", cost.title));
            }
        }
    }
    Ok(())
}

fn chosen(choice: &Choice, wishes: &Wishes) -> Chosen {
    let interval = choice.interval();
    let below = interval.zip(wishes.min_accuracy).filter(|(interval, least)| interval.low < *least);
    Chosen {
        model: choice.series.clone(),
        precision: choice.cells.first().map_or("", |cell| &cell.precision).into(),
        weights: choice.cells.first().map(|cell| cell.weights).unwrap_or_default(),
        max_source_length: choice.length,
        score: choice.score(),
        interval,
        train_seconds: choice.mean(&TRAIN_TIME),
        train_joules: choice.mean(&TRAIN_ENERGY),
        peak_bytes: choice.mean(&PEAK_MEMORY),
        inference_seconds: choice.mean(&INFERENCE_TIME),
        inference_joules: choice.mean(&INFERENCE_ENERGY),
        emissions_grams: choice.mean(&EMISSIONS),
        total_seconds: wishes.documents.map(|n| total_cost::TIME.total(choice, n as f64)),
        total_joules: wishes.documents.map(|n| total_cost::ENERGY.total(choice, n as f64)),
        measures: agreement()
            .map(|metric| Measure { what: metric.title, value: choice.mean(metric) })
            .collect(),
        caution: below.map(|(interval, least)| {
            format!("its interval begins at {:.2}, below the {least} asked for", interval.low)
        }),
        disturbed: choice.cells.iter().map(|cell| &cell.disturbed).find(|why| !why.is_empty()).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::Cell;
    use crate::study::results::tests::cell;

    fn with(model: &str, length: u64, score: f64, hours: f64) -> Cell {
        let mut one = cell(model, "d", length);
        one.geometric_mean = Reading::measured(score);
        (one.score_low, one.score_high) = (Reading::measured(score - 1.0), Reading::measured(score + 1.0));
        one.train_seconds = Reading::measured(hours * 3600.0);
        one
    }

    fn results(cells: Vec<Cell>) -> Results {
        Results { cells, ..Results::default() }
    }

    fn best(cells: &[Cell], wishes: Wishes) -> Recommendation {
        recommend(&results(cells.to_vec()), &wishes).unwrap().remove(0)
    }

    #[test]
    fn the_most_accurate_within_the_budget() {
        let cells = [with("a", 1024, 20.0, 1.0), with("b", 4096, 25.0, 3.0), with("a", 2048, 21.0, 2.0)];
        let found = best(&cells, Wishes { budget_hours: Some(2.0), ..Wishes::default() });
        let choice = found.choice.unwrap();
        assert_eq!((choice.model.as_str(), choice.max_source_length), ("a", 2048));
        let next = found.next.unwrap();
        assert_eq!(next.score_margin, Reading::measured(1.0));
        assert_eq!(next.told_apart, Some(false));
        assert!(found.not_chosen[0].model == "b" && found.not_chosen[0].why.contains("3.00 h"));
        let all = best(&cells, Wishes { budget_hours: Some(3.0), ..Wishes::default() });
        assert!(all.next.unwrap().told_apart == Some(true) && all.choice.unwrap().model == "b");
        let none = best(&cells, Wishes { budget_hours: Some(0.5), ..Wishes::default() });
        assert!(none.choice.is_none() && none.not_chosen.len() == 3);
    }

    #[test]
    fn the_cheapest_that_is_accurate_enough_says_when_it_may_not_be() {
        let cells = [with("a", 1024, 20.5, 1.0), with("b", 1024, 25.0, 3.0)];
        let found = best(&cells, Wishes { min_accuracy: Some(20.0), ..Wishes::default() });
        let choice = found.choice.unwrap();
        assert!(choice.model == "a" && choice.caution.unwrap().contains("19.50"));
        let latency = Wishes { min_accuracy: Some(20.0), max_latency: Some(0.1), ..Wishes::default() };
        // The test cells infer eight examples a second.
        assert!(best(&cells, latency).choice.is_none());
    }

    #[test]
    fn scores_of_one_example_are_never_called_different() {
        let one_example = |model: &str, score: f64| {
            let mut one = with(model, 1024, score, 1.0);
            let none = Reading::absent("an interval takes two examples");
            (one.score_low, one.score_high) = (none.clone(), none);
            one
        };
        let cells = [one_example("a", 0.0), one_example("b", 100.0)];
        let found = best(&cells, Wishes { budget_hours: Some(2.0), ..Wishes::default() });
        assert_eq!((found.choice.unwrap().interval, found.next.unwrap().told_apart), (None, None));
    }

    #[test]
    fn number_formats_are_choices_of_their_own() {
        let mut half = with("a", 1024, 20.5, 1.0);
        (half.precision, half.disturbed) = ("bf16".into(), "other work".into());
        let cells = [with("a", 1024, 20.0, 2.0), half];
        let choice = best(&cells, Wishes { budget_hours: Some(2.0), ..Wishes::default() }).choice.unwrap();
        assert_eq!((choice.model.as_str(), choice.precision.as_str()), ("a · bf16", "bf16"));
        assert_eq!(choice.disturbed.as_deref(), Some("other work"));
    }

    #[test]
    fn with_many_documents_the_cheaper_inference_is_the_cheapest() {
        let mut fast = with("b", 1024, 25.0, 3.0);
        fast.eval_samples_per_second = Reading::measured(80.0);
        let cells = [with("a", 1024, 25.0, 1.0), fast];
        let of = |documents| {
            let wishes = Wishes { min_accuracy: Some(20.0), documents, ..Wishes::default() };
            let found = best(&cells, wishes);
            (found.choice.unwrap().model, found.by)
        };
        // 1 h and 1/8 s a document against 3 h and 1/80 s: equal at 64,000 documents.
        assert_eq!(of(None), ("a".into(), "training time".into()));
        assert_eq!(of(Some(63_000)), ("a".into(), "total time of 63000 documents".into()));
        assert_eq!(of(Some(65_000)).0, "b");
    }

    #[test]
    fn energy_that_nobody_measured_decides_nothing() {
        let wishes = Wishes { budget_kwh: Some(1.0), ..Wishes::default() };
        let mut cells = vec![with("a", 1024, 20.0, 1.0), with("b", 1024, 25.0, 3.0)];
        let error = recommend(&results(cells.clone()), &wishes).unwrap_err();
        assert!(error.to_string().contains("no sensor") && error.to_string().contains("--budget-hours"));
        cells[0].energy_joules = Reading::measured(3.6e6);
        let found = best(&cells, wishes);
        assert_eq!(found.choice.unwrap().model, "a");
        assert!(found.not_chosen[0].why.contains("no sensor"));
    }

    #[test]
    fn empty_results_and_unknown_datasets_are_refused() {
        let wishes = |dataset: Option<&str>| Wishes {
            budget_hours: Some(1.0),
            dataset: dataset.map(String::from),
            ..Wishes::default()
        };
        assert_eq!(recommend(&Results::default(), &wishes(None)).unwrap_err().exit_code(), 65);
        let error = recommend(&results(vec![cell("a", "d", 1)]), &wishes(Some("e"))).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("there are d"), "{error}");
    }
}
