//! A task as the scorer of a training run, at each of its evaluations.

use super::{Task, Work, evaluate_among};
use crate::collective::Group;
use crate::error::Result;
use crate::metrics::SCORES;
use crate::models::session::Session;
use crate::train::{Scorer, Scores};
use std::rc::Rc;

/// A task whose examples the ranks of a group share.
pub struct Shared<'a> {
    pub task: Task<'a>,
    pub group: Rc<Group>,
}

impl Scorer<Work> for Shared<'_> {
    fn names(&self) -> &'static [&'static str] {
        &SCORES
    }

    fn scores(&mut self, session: &mut Session<Work>) -> Result<Scores> {
        let scores =
            evaluate_among(session, self.task.clone(), &self.group, &mut |_| Ok(()))?.scores.rounded();
        let values = [scores.rouge1, scores.rouge2, scores.rouge_l, scores.geometric_mean, scores.f1];
        Ok(SCORES.into_iter().zip(values).collect())
    }
}
