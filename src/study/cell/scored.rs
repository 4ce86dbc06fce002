//! The scoring half of a cell: predictions under one protocol with weights kept in one way, their scores, and how far
//! those are known.

use crate::disturbance::Watch;
use crate::error::Result;
use crate::metrics::bootstrap;
use crate::metrics::{Protocol, Scores, score as score_one};
use crate::nn::Weights;
use crate::reading::Reading;
use crate::run::{Observer, Run, Scored, write_predictions};
use crate::study::grid::CellPlan;
use crate::study::results::Cell;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// How a trained model is scored.
#[derive(Clone, Copy)]
pub struct How {
    pub protocol: Protocol,
    pub weights: Weights,
}

/// Predicts and scores the validation split as the protocol groups it; the trained cell with what came of it.
///
/// The first protocol is the run's own, and its predictions by the stored weights are in `predictions.jsonl`, too.
pub fn score(
    plan: &CellPlan,
    dir: &Path,
    run: &mut Run,
    how: How,
    trained: &Cell,
    observer: &mut dyn Observer,
) -> Result<Cell> {
    let How { protocol, weights } = how;
    let watch = Watch::start();
    let other;
    let (part, Scored { evaluation, energy }) =
        match protocol == plan.protocols[0] && weights == Weights::Stored {
            true => {
                let (_, scored) = run.predict(trained.eval_loss.value(), trained.steps, observer)?;
                (run.validation(), scored)
            }
            false => {
                other = run.validation_under(protocol, observer)?;
                (Some(&other), run.score(&other, protocol, weights, observer)?)
            }
        };
    let examples = part.map_or(&[][..], |part| &part.examples);
    let conditions = energy.judge(watch.stop());
    let each: Vec<Scores> = examples
        .iter()
        .zip(&evaluation.predictions)
        .map(|(example, said)| score_one(protocol, said, &example.references))
        .collect::<Result<_>>()?;
    write_predictions(&file(dir, protocol.name(), weights), examples, &evaluation.predictions, Some(&each))?;
    let interval = bootstrap::interval(&each, trained.headline_metric, plan.train.seed);
    let too_few = "an interval takes two examples";
    let scores = evaluation.scores.rounded();
    let words: usize = evaluation.predictions.iter().map(|said| said.split_whitespace().count()).sum();
    let mut cell = Cell {
        protocol: protocol.name().into(),
        weights,
        eval_loss: match weights {
            Weights::Stored => trained.eval_loss.clone(),
            Weights::Int8 => Reading::absent("the loss was taken with the stored weights"),
        },
        eval_examples: evaluation.examples as u64,
        eval_left_out: part.map(|part| part.left_out).unwrap_or_default(),
        score_low: Reading::or_why(interval.map(|i| i.low), too_few),
        score_high: Reading::or_why(interval.map(|i| i.high), too_few),
        eval_seconds: Reading::measured(evaluation.time.0),
        eval_samples_per_second: Reading::measured(evaluation.examples as f64 / evaluation.time.0),
        eval_energy_joules: Reading::or_why(energy.energy.map(|joules| joules.0), &energy.note),
        // After a restart, training itself was measured by the process before.
        peak_bytes_measured: trained
            .peak_bytes_measured
            .with(&Reading::measured(run.used().0 as f64), f64::max),
        ..trained.clone()
    };
    cell.take_scores(&scores, words as f64 / evaluation.predictions.len() as f64);
    cell.take_conditions(&conditions);
    Ok(cell)
}

fn file(dir: &Path, protocol: &str, weights: Weights) -> PathBuf {
    dir.join(match weights {
        Weights::Stored => format!("predictions-{protocol}.jsonl"),
        Weights::Int8 => format!("predictions-{protocol}-int8.jsonl"),
    })
}

/// The `pid` and scores of every example of a finished cell, where its predictions are still there.
pub fn example_scores(dir: &Path, protocol: &str, weights: Weights) -> Option<Vec<(String, Scores)>> {
    #[derive(Deserialize)]
    struct Scored {
        pid: String,
        scores: Scores,
    }
    let text = std::fs::read_to_string(file(dir, protocol, weights)).ok()?;
    let lines = text.lines().map(|line| {
        let Scored { pid, scores } = serde_json::from_str(line).ok()?;
        Some((pid, scores))
    });
    lines.collect()
}
