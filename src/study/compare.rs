//! Two studies side by side, of two machines or two versions: the cells that both have, and what only one has.

use super::cell::example_scores;
use super::results::{COSTS, Cell, Results, agreement};
use crate::metrics::bootstrap::{self, Interval};
use crate::metrics::{Headline, Scores};
use crate::nn::Weights;
use crate::reading::Reading;
use crate::stats::in_quadrature;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// A study's results, and its folder, in which predictions may still be.
pub struct Side<'a> {
    pub results: &'a Results,
    pub folder: &'a Path,
}

#[derive(Debug, Serialize)]
pub struct Comparison {
    pub matched: Vec<Pair>,
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// What the environments differ in: its name, A's and B's.
    pub environment: Vec<(String, String, String)>,
}

/// One cell in both studies.
#[derive(Debug, Serialize)]
pub struct Pair {
    pub model: String,
    pub dataset: String,
    pub max_source_length: u64,
    pub seed: u64,
    pub protocol: String,
    /// Number formats of A and of B.
    pub precisions: [String; 2],
    /// How weights were kept in A and in B while they were scored.
    pub weights: [Weights; 2],
    pub scores: [Reading; 2],
    /// B's score less A's.
    pub difference: Reading,
    /// Where the difference lies; absent where an interval is.
    pub interval: Option<Interval>,
    /// Whether the same examples were compared one by one, which tells finer differences.
    pub paired: bool,
    /// Why times and energy of A's and of B's are not to be relied on; empty where nothing speaks against them.
    pub disturbed: [String; 2],
    /// B's over A's.
    pub ratios: Vec<Ratio>,
    /// Precision, recall and length of the predictions.
    pub measures: Vec<Measure>,
}

/// What a score is made of.
#[derive(Debug, Serialize)]
pub struct Measure {
    pub what: &'static str,
    /// The readings of A and of B.
    pub values: [Reading; 2],
}

#[derive(Debug, Serialize)]
pub struct Ratio {
    pub what: &'static str,
    pub ratio: Reading,
}

/// Compares the cells of equal model, dataset, length, seed and protocol; of equal precision, and with weights kept
/// alike, where there is one.
pub fn compare(a: &Side, b: &Side) -> Comparison {
    let mut left: Vec<&Cell> = b.results.cells.iter().collect();
    let (mut matched, mut only_a) = (Vec::new(), Vec::new());
    let several = |cells: &[Cell], one: &Cell| cells.iter().filter(|other| is_same(one, other)).count() > 1;
    for cell in &a.results.cells {
        let same = |other: &&Cell| is_same(cell, other);
        let alike = |other: &&Cell| other.precision == cell.precision && other.weights == cell.weights;
        let at = left.iter().position(|other| same(other) && alike(other)).or_else(|| {
            let alone = !several(&a.results.cells, cell) && !several(&b.results.cells, cell);
            left.iter().position(|other| same(other) && alone)
        });
        match at {
            Some(at) => matched.push(pair((a, cell), (b, left.remove(at)))),
            None => only_a.push(name(cell)),
        }
    }
    Comparison {
        matched,
        only_a,
        only_b: left.into_iter().map(name).collect(),
        environment: environment(a.results, b.results),
    }
}

fn is_same(a: &Cell, b: &Cell) -> bool {
    let key = |cell: &Cell| {
        (cell.model.clone(), cell.dataset.clone(), cell.max_source_length, cell.seed, cell.protocol.clone())
    };
    key(a) == key(b)
}

fn name(cell: &Cell) -> String {
    let Cell { model, dataset, max_source_length, precision, seed, protocol, .. } = cell;
    let weights = match cell.weights {
        Weights::Stored => String::new(),
        weights => format!(", {} weights", weights.name()),
    };
    format!(
        "{model} on {dataset}, {max_source_length} tokens, {precision}{weights}, seed {seed}, {protocol} protocol"
    )
}

fn pair(a: (&Side, &Cell), b: (&Side, &Cell)) -> Pair {
    let (one, two) = (a.1, b.1);
    let metric = one.headline_metric;
    let difference = match metric == two.headline_metric {
        true => one.headline().with(two.headline(), |old, new| new - old),
        false => Reading::absent("the two are judged by different metrics"),
    };
    let paired = same_examples(a, b).and_then(|(old, new)| paired(&old, &new, metric, one.seed));
    let interval = difference.value().and_then(|by| paired.or_else(|| apart(one, two, by)));
    Pair {
        model: one.model.clone(),
        dataset: one.dataset.clone(),
        max_source_length: one.max_source_length,
        seed: one.seed,
        protocol: one.protocol.clone(),
        precisions: [one.precision.clone(), two.precision.clone()],
        weights: [one.weights, two.weights],
        scores: [one.headline().clone(), two.headline().clone()],
        difference,
        interval,
        paired: paired.is_some(),
        disturbed: [one.disturbed.clone(), two.disturbed.clone()],
        ratios: COSTS
            .map(|cost| Ratio {
                what: cost.title,
                ratio: (cost.of)(one).with(&(cost.of)(two), |old, new| new / old),
            })
            .into(),
        measures: agreement()
            .map(|metric| Measure { what: metric.title, values: [(metric.of)(one), (metric.of)(two)] })
            .collect(),
    }
}

fn paired(old: &[Scores], new: &[Scores], metric: Headline, seed: u64) -> Option<Interval> {
    bootstrap::difference(old, new, metric, seed)
}

/// Scores of the same examples in the same order, where both studies still have the predictions of all of them.
fn same_examples(a: (&Side, &Cell), b: (&Side, &Cell)) -> Option<(Vec<Scores>, Vec<Scores>)> {
    let read = |(side, cell): (&Side, &Cell)| {
        let plain = !cell.run.is_empty() && !cell.run.contains(['/', '\\']) && cell.run != "..";
        let dir = side.folder.join("cells").join(&cell.run);
        plain.then(|| example_scores(&dir, &cell.protocol, cell.weights)).flatten()
    };
    let (old, new) = (read(a)?, read(b)?);
    let by_pid: HashMap<String, Scores> = new.into_iter().collect();
    let new: Option<Vec<Scores>> = old.iter().map(|(pid, _)| by_pid.get(pid).copied()).collect();
    let new = new.filter(|new| new.len() == by_pid.len())?;
    Some((old.into_iter().map(|(_, scores)| scores).collect(), new))
}

/// The interval of a difference of independent scores.
fn apart(one: &Cell, two: &Cell, by: f64) -> Option<Interval> {
    let (a, b) = (one.interval()?, two.interval()?);
    let (old, new) = (one.headline().value()?, two.headline().value()?);
    Some(Interval {
        low: by - in_quadrature(new - b.low, a.high - old),
        high: by + in_quadrature(b.high - new, old - a.low),
    })
}

fn environment(a: &Results, b: &Results) -> Vec<(String, String, String)> {
    let of = |results: &Results, key: &str| {
        let found = results.environment.iter().find(|(name, _)| name == key);
        found.map_or("not recorded".to_string(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = Vec::new();
    for (key, _) in a.environment.iter().chain(&b.environment) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let both = keys.into_iter().map(|key| (key.clone(), of(a, key), of(b, key)));
    both.filter(|(_, a, b)| a != b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::tests::cell;

    fn results(cells: Vec<Cell>, device: &str) -> Results {
        let environment = vec![("device".into(), device.into()), ("system".into(), "linux".into())];
        Results { cells, environment, ..Results::default() }
    }

    fn compared(a: &Results, b: &Results, folders: [&Path; 2]) -> Comparison {
        compare(&Side { results: a, folder: folders[0] }, &Side { results: b, folder: folders[1] })
    }

    fn with_score(mut cell: Cell, score: f64, low: f64, high: f64) -> Cell {
        cell.geometric_mean = Reading::measured(score);
        (cell.score_low, cell.score_high) = (Reading::measured(low), Reading::measured(high));
        cell
    }

    #[test]
    fn cells_are_matched_and_the_rest_is_named() {
        let first = Cell { output_words: Reading::measured(7.0), ..cell("led", "d", 1024) };
        let a = results(vec![first, cell("led", "d", 2048)], "cpu");
        let mut faster = with_score(cell("led", "d", 1024), 20.17, 19.0, 21.0);
        faster.train_seconds = Reading::measured(25.0);
        faster.precision = "bf16".into();
        (faster.disturbed, faster.output_words) = ("other work".into(), Reading::measured(8.0));
        let b = results(vec![cell("bigbird", "d", 1024), faster], "cuda:0");
        let found = compared(&a, &b, [Path::new("."), Path::new(".")]);
        assert_eq!(found.matched.len(), 1);
        let pair = &found.matched[0];
        assert_eq!(pair.precisions, ["fp32", "bf16"]);
        assert_eq!(pair.disturbed, ["", "other work"]);
        let words = pair.measures.iter().find(|measure| measure.what == "words of an answer").unwrap();
        assert_eq!(words.values, [7.0, 8.0].map(Reading::measured));
        assert!((pair.difference.value().unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(pair.ratios[0].ratio, Reading::measured(0.25));
        assert!(pair.ratios[3].ratio.value().is_none(), "energy was not measured");
        assert!(found.only_a[0].contains("2048") && found.only_b[0].contains("bigbird"));
        assert_eq!(found.environment, [("device".into(), "cpu".into(), "cuda:0".into())]);
    }

    #[test]
    fn weights_that_are_kept_alike_are_matched() {
        let int8 =
            |score| Cell { weights: Weights::Int8, ..with_score(cell("led", "d", 1), score, 0.0, 99.0) };
        let stored = with_score(cell("led", "d", 1), 10.0, 9.0, 11.0);
        let here = [Path::new("."), Path::new(".")];
        let found =
            compared(&results(vec![stored.clone(), int8(8.0)], "x"), &results(vec![int8(7.0)], "x"), here);
        assert_eq!(found.matched.len(), 1);
        assert_eq!(found.matched[0].weights, [Weights::Int8, Weights::Int8]);
        assert_eq!(found.matched[0].difference.value(), Some(-1.0));
        assert_eq!(found.only_a.len(), 1);
        let found = compared(&results(vec![stored], "x"), &results(vec![int8(7.0)], "x"), here);
        assert_eq!(found.matched[0].weights, [Weights::Stored, Weights::Int8], "each alone in its study");
    }

    #[test]
    fn independent_intervals_add_in_squares() {
        let a = results(vec![with_score(cell("led", "d", 1), 10.0, 7.0, 13.0)], "x");
        let b = results(vec![with_score(cell("led", "d", 1), 15.0, 11.0, 19.0)], "x");
        let found = compared(&a, &b, [Path::new("."), Path::new(".")]);
        // 3 and 4 make 5.
        assert_eq!(found.matched[0].interval, Some(Interval { low: 0.0, high: 10.0 }));
        assert!(!found.matched[0].paired);
    }

    #[test]
    fn the_same_examples_are_compared_one_by_one() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut cells = Vec::new();
        for (side, folder) in folders.iter().enumerate() {
            let mut one = with_score(cell("led", "d", 1), 10.0 + side as f64, 0.0, 100.0);
            (one.run, one.headline_metric, one.f1) =
                ("led_d".into(), Headline::F1, Reading::measured(49.5 + side as f64));
            cells.push(one);
            let dir = folder.path().join("cells/led_d");
            std::fs::create_dir_all(&dir).unwrap();
            let line = |i: usize| {
                // B's answers are better by 0.75 and by 1.25.
                let better = side as f64 * if i.is_multiple_of(2) { 0.75 } else { 1.25 };
                let scores = Scores { f1: i as f64 + better, ..Scores::default() };
                serde_json::json!({ "pid": i.to_string(), "scores": scores }).to_string() + "\n"
            };
            let mut lines: Vec<String> = (0..100).map(line).collect();
            if side == 1 {
                lines.reverse();
            }
            std::fs::write(dir.join("predictions-paper.jsonl"), lines.concat()).unwrap();
        }
        let [a, b] = [0, 1].map(|side| results(vec![cells[side].clone()], "x"));
        let found = compared(&a, &b, [folders[0].path(), folders[1].path()]);
        let pair = &found.matched[0];
        let interval = pair.interval.unwrap();
        // Its standard error is 0.25 / 10.
        assert!(pair.paired && (interval.low - 0.95).abs() < 0.02 && (interval.high - 1.05).abs() < 0.02);
        // One example less, and they are not the same.
        std::fs::write(folders[1].path().join("cells/led_d/predictions-paper.jsonl"), "").unwrap();
        assert!(!compared(&a, &b, [folders[0].path(), folders[1].path()]).matched[0].paired);
    }

    #[test]
    fn empty_results_compare_to_nothing() {
        let none = Results::default();
        let found = compared(&none, &none, [Path::new("."), Path::new(".")]);
        assert!(found.matched.is_empty() && found.only_a.is_empty() && found.only_b.is_empty());
    }
}
