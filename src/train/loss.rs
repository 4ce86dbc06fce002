//! The loss of a model over a whole split.

use super::batches::Corpus;
use super::ranks::in_turn;
use super::step::loss_step;
use crate::collective::Group;
use crate::error::{Error, Result};
use crate::models::LossRule;
use crate::models::session::Session;

/// Mean loss per target token over all of `corpus`.
pub fn evaluate_loss<X>(session: &mut Session<X>, corpus: &Corpus, batch_size: usize) -> Result<f64> {
    evaluate_loss_among(session, corpus, batch_size, &Group::alone())
}

/// As [`evaluate_loss`], the batches shared out among the ranks of `group`: the bits of one process on all of them.
pub fn evaluate_loss_among<X>(
    session: &mut Session<X>,
    corpus: &Corpus,
    batch_size: usize,
    group: &Group,
) -> Result<f64> {
    loss_unless(session, corpus, batch_size, group, &|| None)
}

/// As [`evaluate_loss_among`]; given up between two batches when `interrupted` names a signal, on all ranks.
pub(super) fn loss_unless<X>(
    session: &mut Session<X>,
    corpus: &Corpus,
    batch_size: usize,
    group: &Group,
    interrupted: &dyn Fn() -> Option<i32>,
) -> Result<f64> {
    let all: Vec<usize> = (0..corpus.examples.len()).collect();
    let (mut losses, mut tokens) = (Vec::new(), Vec::new());
    let batches: Vec<&[usize]> = all.chunks(batch_size).collect();
    for turn in batches.chunks(group.size()) {
        if let Some(signal) = interrupted() {
            return Err(Error::Interrupted(signal));
        }
        let Some(which) = turn.get(group.rank()) else { break };
        let (source, target) = (corpus.source(which)?, corpus.target(which)?);
        let rule = LossRule { normaliser: 1.0, smoothing: 0.0 };
        losses.push(loss_step(session, &source, &target, rule)? as f64);
        tokens.push(target.labels.len() as u64);
    }
    let sum = in_turn(&group.gather(&losses)).fold(0.0, |sum, loss| sum + loss);
    let tokens: u64 = group.gather(&tokens).into_iter().flatten().sum();
    Ok(sum / tokens.max(1) as f64)
}
