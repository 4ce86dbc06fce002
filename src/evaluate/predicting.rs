//! Predictions on the validation split, as a training run scores them at its evaluations.

use super::{Task, Work, evaluate};
use crate::data::Example;
use crate::error::Result;
use crate::generate::GenerateOptions;
use crate::metrics::Protocol;
use crate::models::session::Session;
use crate::text::Tokenizer;
use crate::train::{Corpus, Scorer, Scores};

/// What predictions are scored by, under HF's names.
pub const SCORES: [&str; 5] = ["rouge1", "rouge2", "rougeL", "geometric_mean", "f1"];

/// What is predicted, and how it is scored.
pub struct Predicting<'a> {
    pub tokenizer: &'a Tokenizer,
    pub corpus: &'a Corpus,
    pub examples: &'a [Example],
    pub protocol: Protocol,
    pub decoding: &'a GenerateOptions,
    pub batch_size: usize,
}

impl Predicting<'_> {
    pub fn task(&self) -> Task<'_> {
        Task {
            tokenizer: self.tokenizer,
            corpus: self.corpus,
            examples: self.examples,
            protocol: self.protocol,
            decoding: self.decoding,
            batch_size: self.batch_size,
            known: Vec::new(),
        }
    }
}

impl Scorer<Work> for Predicting<'_> {
    fn names(&self) -> &'static [&'static str] {
        &SCORES
    }

    fn scores(&mut self, session: &mut Session<Work>) -> Result<Scores> {
        let scores = evaluate(session, self.task(), &mut |_| Ok(()))?.scores.rounded();
        let values = [scores.rouge1, scores.rouge2, scores.rouge_l, scores.geometric_mean, scores.f1];
        Ok(SCORES.into_iter().zip(values).collect())
    }
}
