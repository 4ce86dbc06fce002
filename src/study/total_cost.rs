//! What a choice costs in all: its training once, and inference for every document.

use super::results::{INFERENCE_ENERGY, INFERENCE_TIME, Metric, TRAIN_ENERGY, TRAIN_TIME};
use super::trade_off::Choice;
use crate::reading::Reading;

/// What is added up.
#[derive(Debug, Clone, Copy)]
pub struct Expense {
    /// Cost of training.
    pub once: Metric,
    /// Cost of one document.
    pub each: Metric,
    /// The name in prose.
    pub name: &'static str,
}

pub const ENERGY: Expense = Expense { once: TRAIN_ENERGY, each: INFERENCE_ENERGY, name: "energy" };
pub const TIME: Expense = Expense { once: TRAIN_TIME, each: INFERENCE_TIME, name: "time" };

impl Expense {
    /// Energy where every choice has it, else time.
    pub fn of(choices: &[&Choice]) -> Self {
        let has_energy = |choice: &&Choice| ENERGY.total(choice, 1.0).value().is_some();
        if choices.iter().all(has_energy) { ENERGY } else { TIME }
    }

    /// Training and inference of `documents`; the mean over seeds.
    pub fn total(&self, choice: &Choice, documents: f64) -> Reading {
        choice.mean(&self.once).with(&choice.mean(&self.each), |once, each| once + documents * each)
    }

    /// The number of documents from which on `other` costs less in all than `choice`; none where it never does, or
    /// does from the first.
    pub fn break_even(&self, choice: &Choice, other: &Choice) -> Option<f64> {
        let number = |choice: &Choice, metric: &Metric| choice.mean(metric).value();
        let more_once = number(other, &self.once)? - number(choice, &self.once)?;
        let less_each = number(choice, &self.each)? - number(other, &self.each)?;
        (more_once > 0.0 && less_each > 0.0).then(|| more_once / less_each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::Cell;
    use crate::study::results::tests::cell;
    use crate::study::trade_off::choices;

    /// A model with its training seconds and its examples a second.
    fn with(model: &str, train: f64, speed: f64) -> Cell {
        let mut one = cell(model, "d", 1024);
        one.train_seconds = Reading::measured(train);
        one.eval_samples_per_second = Reading::measured(speed);
        one
    }

    #[test]
    fn dearer_training_pays_from_a_number_of_documents_on() {
        // 100 s and 0.5 s a document against 500 s and 0.25 s: equal at 1600 documents, 900 s.
        let cells = [with("slow", 100.0, 2.0), with("fast", 500.0, 4.0)];
        let all = choices(&cells);
        let expense = Expense::of(&all.iter().collect::<Vec<_>>());
        assert_eq!(expense.name, "time", "nobody measured energy");
        assert_eq!(expense.break_even(&all[0], &all[1]), Some(1600.0));
        assert_eq!(expense.break_even(&all[1], &all[0]), None);
        assert_eq!(expense.total(&all[0], 1600.0), expense.total(&all[1], 1600.0));
        assert_eq!(expense.total(&all[0], 1600.0), Reading::measured(900.0));
    }

    #[test]
    fn energy_is_added_up_where_it_was_measured() {
        let mut cells = [with("a", 1.0, 1.0), with("b", 1.0, 1.0)];
        for (one, once) in cells.iter_mut().zip([1000.0, 3000.0]) {
            one.energy_joules = Reading::measured(once);
            // The test cells infer 64 examples.
            one.eval_energy_joules = Reading::measured(64.0 * 5e3 / once);
        }
        let all = choices(&cells);
        let expense = Expense::of(&all.iter().collect::<Vec<_>>());
        assert_eq!(expense.name, "energy");
        // 5 J a document against 5 / 3 J, and 2000 J more.
        assert!((expense.break_even(&all[0], &all[1]).unwrap() - 600.0).abs() < 1e-9);
    }
}
