//! Accuracy of a model on a dataset: generated answers (SCROLLS) or teacher-forced ones (the paper).

use crate::data::Example;
use crate::device::Used;
use crate::error::Result;
use crate::generate::{self, GenerateOptions, generate};
use crate::metrics::{Accumulator, Protocol, Scores, score};
use crate::models::Loaded;
use crate::models::batch::{Source, Target};
use crate::models::session::{Session, Side, Signature};
use crate::ops::argmax::argmax;
use crate::tape::Tape;
use crate::text::{Spaces, Tokenizer};
use crate::train::{Corpus, TrainState, train_state};
use crate::units::Seconds;
use std::time::Instant;

/// State of a session that trains and decodes.
pub struct Work {
    train: TrainState,
    decode: generate::State,
}

/// Fresh state of both kinds, as [`Session::new`] wants it.
pub fn work(loaded: &Loaded) -> Result<Work> {
    Ok(Work { train: train_state(loaded)?, decode: generate::state(loaded)? })
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
pub struct Task<'a> {
    pub tokenizer: &'a Tokenizer,
    /// `examples` in tokens, in the same order.
    pub corpus: &'a Corpus,
    pub examples: &'a [Example],
    pub protocol: Protocol,
    pub max_new_tokens: usize,
    pub batch_size: usize,
}

/// Scores a task's examples.
///
/// `scrolls` generates up to `max_new_tokens` tokens greedily; `paper` takes the argmax of the
/// teacher-forced logits at every position, as Ang et al. 2022 did. `progress` hears examples done.
pub fn evaluate<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    task: Task,
    progress: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    let Task { tokenizer, corpus, examples, protocol, max_new_tokens, batch_size } = task;
    let start = Instant::now();
    let all: Vec<usize> = (0..examples.len()).collect();
    let mut accumulator = Accumulator::default();
    let mut predictions = Vec::with_capacity(examples.len());
    for which in all.chunks(batch_size) {
        let (source, target) = (corpus.source(which)?, corpus.target(which)?);
        let rows = predict(session, &source, &target, protocol, max_new_tokens)?;
        for (row, &i) in rows.iter().zip(which) {
            let ids: Vec<u32> = row.iter().map(|&id| id as u32).collect();
            let text = tokenizer.decode(&ids, Spaces::CleanedUp)?;
            let text = text.trim();
            accumulator.add(&score(protocol, text, &examples[i].references)?);
            predictions.push(text.to_string());
        }
        progress(predictions.len());
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
    max_new_tokens: usize,
    batch_size: usize,
) -> Result<Used> {
    session.dry(|session| {
        let (source, target) = corpus.largest(batch_size)?;
        predict(session, &source, &target, protocol, max_new_tokens)?;
        Ok(session.planned())
    })
}

fn predict<X: AsRef<generate::State>>(
    session: &mut Session<X>,
    source: &Source,
    target: &Target,
    protocol: Protocol,
    max_new_tokens: usize,
) -> Result<Vec<Vec<i32>>> {
    match protocol {
        Protocol::Scrolls => generate(session, source, GenerateOptions { max_new_tokens }),
        Protocol::Paper => teacher_forced(session, source, target),
    }
}

/// The most likely token at every target position, given the reference before it.
fn teacher_forced<X>(session: &mut Session<X>, source: &Source, target: &Target) -> Result<Vec<Vec<i32>>> {
    let shape = source.signature().into_iter().chain([target.len]);
    let flat = session.read::<i32>(Signature::new("teacher-forced", shape), |side: &Side<X>| {
        let tape = Tape::off();
        let model = &*side.loaded.model;
        let on_device = source.upload(side.device())?;
        let ids = target.upload(side.device())?.ids;
        let memory = model.encode(&tape, &on_device)?;
        let hidden = model.decode(&tape, &ids, &memory, &on_device.key_state)?;
        let logits = model.logits(&tape, &hidden)?;
        argmax(&tape, &logits)
    })?;
    Ok(flat.chunks(target.len).map(<[i32]>::to_vec).collect())
}
