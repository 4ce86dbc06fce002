//! Predictions on the validation split: at the end of a run, and at its evaluations where they decide.

use wattention::data::Example;
use wattention::error::Result;
use wattention::evaluate::{Task, Work, evaluate};
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
    pub max_new_tokens: usize,
    pub batch_size: usize,
}

impl Predicting<'_> {
    pub fn task(&self) -> Task<'_> {
        Task {
            tokenizer: self.tokenizer,
            corpus: self.corpus,
            examples: self.examples,
            protocol: self.protocol,
            max_new_tokens: self.max_new_tokens,
            batch_size: self.batch_size,
        }
    }
}

impl Scorer<Work> for Predicting<'_> {
    /// As `saving::SCORES` names them.
    fn scores(&mut self, session: &mut Session<Work>) -> Result<Scores> {
        let scores = evaluate(session, self.task(), &mut |_| ())?.scores.rounded();
        Ok(vec![
            ("rouge1", scores.rouge1),
            ("rouge2", scores.rouge2),
            ("rougeL", scores.rouge_l),
            ("geometric_mean", scores.geometric_mean),
            ("f1", scores.f1),
        ])
    }
}
