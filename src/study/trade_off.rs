//! Choices between models and lengths: what each scores and costs, and which are worth considering.

use super::results::{Cell, Metric, Varying};
use crate::metrics::bootstrap::{Interval, over_seeds};
use crate::reading::{Mark, Reading};

/// Cells that differ in their seed alone: one thing to choose.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    /// The dataset, and the protocol where it differs.
    pub task: String,
    /// The model, and what else sets its line apart.
    pub series: String,
    /// L.
    pub length: u64,
    /// One a seed.
    pub cells: Vec<&'a Cell>,
}

impl Choice<'_> {
    /// The mean over seeds.
    pub fn score(&self) -> Reading {
        mean(&self.cells, |cell| cell.headline().clone())
    }

    /// The mean over seeds.
    pub fn mean(&self, metric: &Metric) -> Reading {
        mean(&self.cells, metric.of)
    }

    /// Where the score lies, over examples and seeds; None where any of it is not known.
    pub fn interval(&self) -> Option<Interval> {
        let runs: Option<Vec<_>> =
            self.cells.iter().map(|cell| Some((cell.headline().value()?, cell.interval()?))).collect();
        over_seeds(&runs?)
    }

    /// Whether the scores differ by more than their intervals; None where an interval is not known, as of one example.
    pub fn differs(&self, other: &Choice) -> Option<bool> {
        Some(!self.interval()?.overlaps(&other.interval()?))
    }

    /// Whether the scores are known to differ by more than their intervals.
    pub fn is_apart(&self, other: &Choice) -> bool {
        self.differs(other) == Some(true)
    }

    /// Whether every token of the model's input sees every other.
    pub fn is_dense(&self) -> bool {
        self.cells.iter().all(|cell| cell.is_dense())
    }

    /// Whether both were measured alike: in one number format, with weights kept in one way, on one device.
    pub fn is_like(&self, other: &Choice) -> bool {
        let of = |cell: &Cell| (cell.precision.clone(), cell.weights, cell.device.clone());
        let key = |choice: &Choice| choice.cells.first().map(|cell| of(cell));
        key(self) == key(other)
    }

    /// In prose: the model and its length.
    pub fn name(&self) -> String {
        format!("{} at {} tokens", self.series, self.length)
    }
}

/// The choices among cells, in the order of the cells.
pub fn choices(cells: &[Cell]) -> Vec<Choice<'_>> {
    let varying = Varying::of(cells);
    let mut out: Vec<Choice> = Vec::new();
    for cell in cells {
        let (task, series, length) = (varying.task(cell), varying.series(cell), cell.max_source_length);
        let same = |c: &&mut Choice| c.task == task && c.series == series && c.length == length;
        match out.iter_mut().find(same) {
            Some(choice) => choice.cells.push(cell),
            None => out.push(Choice { task, series, length, cells: vec![cell] }),
        }
    }
    out
}

/// The mean over seeds, predicted if any part of it is; absent unless every seed has a number.
pub fn mean(cells: &[&Cell], of: impl Fn(&Cell) -> Reading) -> Reading {
    let mut sum = 0.0;
    let mut predicted = false;
    for cell in cells {
        let reading = of(cell);
        match reading.marked() {
            Some((value, mark)) => {
                sum += value;
                predicted |= mark == Mark::Predicted;
            }
            None => return Reading::absent(reading.why().unwrap_or_default()),
        }
    }
    let mean = sum / cells.len() as f64;
    if predicted { Reading::predicted(mean) } else { Reading::measured(mean) }
}

/// The Pareto front of score against a cost.
#[derive(Debug, PartialEq)]
pub struct Front {
    /// Indices of choices that no other beats in both, cheapest first.
    pub best: Vec<usize>,
    /// Each other choice that has both numbers, and one that is no worse in either and better in one.
    pub dominated: Vec<(usize, usize)>,
}

/// Compares choices of one task by their means.
pub fn front(choices: &[&Choice], cost: &Metric) -> Front {
    let mut points: Vec<(usize, f64, f64)> = choices
        .iter()
        .enumerate()
        .filter_map(|(i, choice)| Some((i, choice.mean(cost).value()?, choice.score().value()?)))
        .collect();
    points.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)));
    let mut found = Front { best: Vec::new(), dominated: Vec::new() };
    let mut top: Option<(usize, f64, f64)> = None;
    for (i, cost, score) in points {
        match top {
            // Equal in both is no worse, and nothing is better: both stand.
            Some((by, at, best)) if score < best || (score == best && cost > at) => {
                found.dominated.push((i, by));
            }
            _ => {
                found.best.push(i);
                top = Some((i, cost, score));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::TRAIN_TIME;
    use crate::study::results::tests::cell;

    fn with(model: &str, length: u64, score: f64, seconds: f64) -> Cell {
        let mut one = cell(model, "d", length);
        one.geometric_mean = Reading::measured(score);
        one.train_seconds = Reading::measured(seconds);
        one
    }

    #[test]
    fn the_front_has_what_nothing_beats_in_both() {
        let cells = [
            with("a", 1, 10.0, 5.0),
            with("b", 1, 12.0, 7.0),
            with("c", 1, 11.0, 8.0),
            with("d", 1, 10.0, 5.0),
            with("e", 1, 10.0, 6.0),
            with("f", 1, f64::NAN, 1.0),
        ];
        let all = choices(&cells);
        let found = front(&all.iter().collect::<Vec<_>>(), &TRAIN_TIME);
        assert_eq!(found.best, [0, 3, 1]);
        let mut dominated = found.dominated.clone();
        dominated.sort();
        // c costs more than b and scores less; e costs more than a or d for the same.
        assert_eq!(dominated, [(2, 1), (4, 3)]);
    }

    #[test]
    fn seeds_are_one_choice_and_intervals_decide() {
        let mut cells: Vec<Cell> = (0..3).map(|_| with("a", 1, 10.0, 5.0)).collect();
        for (seed, one) in cells.iter_mut().enumerate() {
            one.seed = seed as u64;
            (one.score_low, one.score_high) = (Reading::measured(9.0), Reading::measured(11.0));
        }
        let mut other = with("b", 1, 11.5, 5.0);
        (other.score_low, other.score_high) = (Reading::measured(11.2), Reading::measured(12.0));
        cells.push(other);
        let mut unknown = with("c", 1, 90.0, 5.0);
        (unknown.score_low, unknown.score_high) = (Reading::absent("why"), Reading::absent("why"));
        cells.push(unknown);
        let all = choices(&cells);
        assert_eq!(all.len(), 3);
        assert!(all[0].is_apart(&all[1]) && all[1].is_apart(&all[0]));
        assert!(!all[0].is_apart(&all[2]));
        assert_eq!([&all[1], &all[2]].map(|other| all[0].differs(other)), [Some(true), None]);
    }
}
