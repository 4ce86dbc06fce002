//! A task as the scorer of a training run, at each of its evaluations.

use super::{Task, Work, evaluate};
use crate::error::Result;
use crate::metrics::SCORES;
use crate::models::session::Session;
use crate::train::{Scorer, Scores};

impl Scorer<Work> for Task<'_> {
    fn names(&self) -> &'static [&'static str] {
        &SCORES
    }

    fn scores(&mut self, session: &mut Session<Work>) -> Result<Scores> {
        let scores = evaluate(session, self.clone(), &mut |_| Ok(()))?.scores.rounded();
        let values = [scores.rouge1, scores.rouge2, scores.rouge_l, scores.geometric_mean, scores.f1];
        Ok(SCORES.into_iter().zip(values).collect())
    }
}
