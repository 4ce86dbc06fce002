//! Predictions on the validation split: at the end of a run, and at its evaluations where they decide.

use super::saving::SCORES;
use wattention::data::Example;
use wattention::error::Result;
use wattention::evaluate::{Task, Work, evaluate};
use wattention::generate::GenerateOptions;
use wattention::metrics::Protocol;
use wattention::models::session::Session;
use wattention::text::Tokenizer;
use wattention::train::{Corpus, Scorer, Scores};

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
