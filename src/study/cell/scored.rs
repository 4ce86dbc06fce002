//! The scoring half of a cell: predictions under one protocol, their scores, and how far those are known.

use super::{CellObserver, Material, Part};
use crate::data::Example;
use crate::energy::Window;
use crate::error::{Error, Result};
use crate::evaluate::{Work, evaluate};
use crate::files;
use crate::metrics::{Protocol, Scores, score as score_one};
use crate::models::session::Session;
use crate::study::bootstrap;
use crate::study::results::{Cell, Reading};
use crate::train::Options;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A line of `predictions-PROTOCOL.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    /// Unique in a split.
    pid: &'a str,
    prediction: &'a str,
    references: &'a [String],
    scores: Scores,
}

/// Predicts and scores `part`; the trained cell with what came of it.
pub fn score(
    material: &Material,
    options: &Options,
    session: &mut Session<Work>,
    part: &Part,
    protocol: Protocol,
    trained: &Cell,
    observer: &mut dyn CellObserver,
) -> Result<Cell> {
    let run = material.run;
    let decoding = material.decoding();
    let task = material.task(part, protocol, &decoding, options);
    let total = part.examples.len();
    let window = Window::start(run.sampler);
    let evaluation = evaluate(session, task, &mut |said| {
        observer.evaluated(protocol, said.len(), total);
        observer.interrupted().map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
    })?;
    let energy = window.stop();
    let each: Vec<Scores> = part
        .examples
        .iter()
        .zip(&evaluation.predictions)
        .map(|(example, said)| score_one(protocol, said, &example.references))
        .collect::<Result<_>>()?;
    write(&file(run.dir, protocol), &part.examples, &evaluation.predictions, &each)?;
    let interval = bootstrap::interval(&each, trained.headline_metric, run.plan.train.seed);
    let too_few = "an interval takes two examples";
    let scores = evaluation.scores.rounded();
    let used = session.real().device().used().total() as f64;
    Ok(Cell {
        protocol: name(protocol).into(),
        eval_examples: evaluation.examples as u64,
        rouge1: Reading::measured(scores.rouge1),
        rouge2: Reading::measured(scores.rouge2),
        rouge_l: Reading::measured(scores.rouge_l),
        geometric_mean: Reading::measured(scores.geometric_mean),
        f1: Reading::measured(scores.f1),
        score_low: Reading::or_why(interval.map(|i| i.low), too_few),
        score_high: Reading::or_why(interval.map(|i| i.high), too_few),
        eval_seconds: Reading::measured(evaluation.time.0),
        eval_samples_per_second: Reading::measured(evaluation.examples as f64 / evaluation.time.0),
        eval_energy_joules: Reading::or_why(energy.energy.map(|joules| joules.0), &energy.note),
        // After a restart, training itself was measured by the process before.
        peak_bytes_measured: trained.peak_bytes_measured.with(&Reading::measured(used), f64::max),
        ..trained.clone()
    })
}

/// A protocol's name in files.
fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Scrolls => "scrolls",
        Protocol::Paper => "paper",
    }
}

fn file(dir: &Path, protocol: Protocol) -> PathBuf {
    dir.join(format!("predictions-{}.jsonl", name(protocol)))
}

fn write(path: &Path, examples: &[Example], predictions: &[String], scores: &[Scores]) -> Result<()> {
    files::replace(path, |file| {
        let mut out = io::BufWriter::new(file);
        for ((example, prediction), &scores) in examples.iter().zip(predictions).zip(scores) {
            let line = Line {
                id: &example.id,
                pid: &example.pid,
                prediction,
                references: &example.references,
                scores,
            };
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    })
}

/// The `pid` and scores of every example of a finished cell, where its predictions are still there.
pub fn example_scores(dir: &Path, protocol: &str) -> Option<Vec<(String, Scores)>> {
    #[derive(Deserialize)]
    struct Scored {
        pid: String,
        scores: Scores,
    }
    let text = std::fs::read_to_string(dir.join(format!("predictions-{protocol}.jsonl"))).ok()?;
    let lines = text.lines().map(|line| {
        let Scored { pid, scores } = serde_json::from_str(line).ok()?;
        Some((pid, scores))
    });
    lines.collect()
}
