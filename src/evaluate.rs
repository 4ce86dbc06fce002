//! Accuracy of a model on a dataset: generated answers (SCROLLS) or teacher-forced ones (the paper).

mod predicting;
mod rounding;

pub use predicting::Shared;
pub use rounding::{LogitError, logit_error};

use crate::collective::Group;
use crate::data::Example;
use crate::device::Used;
use crate::error::Result;
use crate::generate::{self, GenerateOptions, generate, texts};
use crate::metrics::{Accumulator, Protocol, Scores, score};
use crate::models::Loaded;
use crate::models::batch::{Source, Target};
use crate::models::session::{Session, Side, Signature};
use crate::ops::argmax::argmax;
use crate::tape::Tape;
use crate::text::{Spaces, Tokenizer};
use crate::train::{Corpus, RankLayout, TrainState, ranked_train_state};
use crate::units::Seconds;
use std::time::Instant;

/// State of a session that trains and decodes.
pub struct Work {
    train: TrainState,
    decode: generate::State,
}

/// Fresh state of both kinds, as [`Session::new`] wants it.
pub fn work(loaded: &Loaded) -> Result<Work> {
    ranked_work(loaded, RankLayout::ALONE)
}

/// The same as one of several ranks has it.
pub fn ranked_work(loaded: &Loaded, layout: RankLayout) -> Result<Work> {
    Ok(Work { train: ranked_train_state(loaded, layout)?, decode: generate::state(loaded)? })
}

impl AsRef<TrainState> for Work {
    fn as_ref(&self) -> &TrainState {
        &self.train
    }
}

impl AsRef<generate::State> for Work {
    fn as_ref(&self) -> &generate::State {
        &self.decode
    }
}

/// What was predicted and how it scored.
pub struct Evaluation {
    pub scores: Scores,
    pub examples: usize,
    /// Model, transfers, detokenisation and scoring, as the paper's inference time.
    pub time: Seconds,
    pub predictions: Vec<String>,
}

/// What is scored, and how.
#[derive(Clone)]
pub struct Task<'a> {
    pub tokenizer: &'a Tokenizer,
    /// `examples` in tokens, in the same order.
    pub corpus: &'a Corpus,
    pub examples: &'a [Example],
    pub protocol: Protocol,
    /// How `scrolls` generates.
    pub decoding: &'a GenerateOptions,
    pub batch_size: usize,
    /// Predictions for the first examples, from a run that was stopped.
    pub known: Vec<String>,
}

/// Scores a task's examples.
///
/// `scrolls` generates as `decoding` says; `paper` takes the argmax of the teacher-forced logits at every
/// position, as Ang et al. 2022 did. `progress` hears all predictions so far after every batch, and may stop
/// the work with an error.
pub fn evaluate<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    task: Task,
    progress: &mut dyn FnMut(&[String]) -> Result<()>,
) -> Result<Evaluation> {
    evaluate_among(session, task, &Group::alone(), progress)
}

/// As [`evaluate`], the batches shared out among the ranks of `group`; every rank has all predictions, in their order.
///
/// `progress` hears of every rank's batch at once, and stops all ranks or none.
pub fn evaluate_among<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    task: Task,
    group: &Group,
    progress: &mut dyn FnMut(&[String]) -> Result<()>,
) -> Result<Evaluation> {
    let Task { tokenizer, corpus, examples, protocol, decoding, batch_size, known } = task;
    let start = Instant::now();
    let mut predictions = known;
    let open: Vec<usize> = (predictions.len()..examples.len()).collect();
    let batches: Vec<&[usize]> = open.chunks(batch_size).collect();
    for turn in batches.chunks(group.size()) {
        group.at("example", predictions.len() as u64);
        let mut said = Vec::new();
        if let Some(&which) = turn.get(group.rank()) {
            let source = corpus.source(which)?;
            let decoding = decoding.from_row(which[0]);
            let rows = predict(session, &source, || corpus.target(which), protocol, &decoding)?;
            said = texts(tokenizer, &rows, Spaces::CleanedUp)?;
            said.iter_mut().for_each(|text| *text = text.trim().to_string());
        }
        predictions.extend(group.gather_texts(said)?);
        progress(&predictions)?;
    }
    let mut accumulator = Accumulator::default();
    // A test split's examples have no answers.
    let answered = predictions.iter().zip(examples).filter(|(_, example)| !example.references.is_empty());
    for (text, example) in answered {
        accumulator.add(&score(protocol, text, &example.references)?);
    }
    Ok(Evaluation {
        scores: accumulator.mean().unwrap_or_default(),
        examples: accumulator.examples(),
        time: start.elapsed().into(),
        predictions,
    })
}

/// Plans the largest batch that [`evaluate`] can meet; nothing is computed.
pub fn plan_evaluation<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    corpus: &Corpus,
    protocol: Protocol,
    decoding: &GenerateOptions,
    batch_size: usize,
) -> Result<Used> {
    session.dry(|session| {
        let (source, target) = corpus.largest(batch_size)?;
        predict(session, &source, || Ok(target), protocol, decoding)?;
        Ok(session.planned())
    })
}

fn predict<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    source: &Source,
    // A test split has none.
    target: impl FnOnce() -> Result<Target>,
    protocol: Protocol,
    decoding: &GenerateOptions,
) -> Result<Vec<Vec<i32>>> {
    match protocol {
        Protocol::Scrolls => generate(session, source, decoding),
        Protocol::Paper => teacher_forced(session, source, &target()?),
    }
}

/// The most likely token at every target position, given the reference before it.
fn teacher_forced<X>(session: &mut Session<X>, source: &Source, target: &Target) -> Result<Vec<Vec<i32>>> {
    let shape = source.signature().into_iter().chain([target.len]);
    let flat = session.read::<i32>(Signature::new("teacher-forced", shape), |side: &Side<X>| {
        let (tape, device) = (Tape::off(), side.device());
        let logits = side.loaded.model.logits(&tape, &source.upload(device)?, &target.upload_ids(device)?)?;
        argmax(&tape, &logits)
    })?;
    Ok(flat.chunks(target.len).map(<[i32]>::to_vec).collect())
}
