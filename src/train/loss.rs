//! The loss of a model over a whole split.

use super::batches::Corpus;
use super::step::loss_step;
use crate::error::{Error, Result};
use crate::models::LossRule;
use crate::models::session::Session;

/// Mean loss per target token over all of `corpus`.
pub fn evaluate_loss<X>(session: &mut Session<X>, corpus: &Corpus, batch_size: usize) -> Result<f64> {
    loss_unless(session, corpus, batch_size, &|| None)
}

/// As [`evaluate_loss`], given up between two batches when `interrupted` names a signal.
pub(super) fn loss_unless<X>(
    session: &mut Session<X>,
    corpus: &Corpus,
    batch_size: usize,
    interrupted: &dyn Fn() -> Option<i32>,
) -> Result<f64> {
    let all: Vec<usize> = (0..corpus.examples.len()).collect();
    let (mut sum, mut tokens) = (0.0, 0);
    for which in all.chunks(batch_size) {
        if let Some(signal) = interrupted() {
            return Err(Error::Interrupted(signal));
        }
        let (source, target) = (corpus.source(which)?, corpus.target(which)?);
        let rule = LossRule { normaliser: 1.0, smoothing: 0.0 };
        sum += loss_step(session, &source, &target, rule)? as f64;
        tokens += target.labels.len();
    }
    Ok(sum / tokens.max(1) as f64)
}
