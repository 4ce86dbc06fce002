//! What weights in 8 bits change: the logits of a batch, beside those of the weights as they are stored.

use crate::error::{Error, Result};
use crate::generate::{self, GenerateOptions, State, generate};
use crate::models::batch::Source;
use crate::models::session::{Session, Side, Signature};
use crate::models::{self, ModelOptions};
use crate::nn::Weights;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::units::counted;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Tokens of each answer whose logits are compared.
const TOKENS: usize = 8;

/// How far the logits of a batch are from those of the stored weights, both given the first tokens that the weights in
/// 8 bits answer greedily.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogitError {
    pub inputs: usize,
    /// Of each input's answer.
    pub tokens: usize,
    /// The largest difference of a logit.
    pub largest: f64,
    /// The L2 norm of all differences over that of the stored weights' logits.
    pub relative: f64,
    /// The share of tokens that both find the most likely next one.
    pub same_next: f64,
}

/// Compares the logits of `source`, where weights are kept in 8 bits; the model of `session` is gone before that of the
/// stored weights is read from `dir`, as `options` says but for the weights.
pub fn logit_error(
    mut session: Session<State>,
    dir: &Path,
    options: ModelOptions,
    source: impl FnOnce() -> Result<Source>,
) -> Result<Option<LogitError>> {
    if options.weights == Weights::Stored {
        return Ok(None);
    }
    let source = source()?;
    let limits = session.real().loaded.model.limits();
    // One less than there are positions: the start token has one too.
    let max_new_tokens = TOKENS.min(limits.max_target - 1).max(1);
    let greedy =
        GenerateOptions { max_new_tokens, eos_token_id: Vec::new(), ..GenerateOptions::new(&limits) };
    let answers = generate(&mut session, &source, &greedy)?;
    let answers: Vec<&[i32]> = answers.iter().map(|answer| &answer[..max_new_tokens]).collect();
    let ids = answers.concat();
    let rounded = logits(&mut session, &source, &ids)?;
    let device = session.real().device().clone();
    drop(session);
    let options = ModelOptions { weights: Weights::Stored, ..options };
    let loaded = models::load(dir, &device, options)?;
    let stored = logits(&mut Session::new(loaded, options, generate::state)?, &source, &ids)?;
    LogitError::between(&rounded, &stored, source.batch, limits.vocab).map(Some)
}

/// Logits `[B * T, V]` of ids `[B, T]`.
fn logits(session: &mut Session<State>, source: &Source, ids: &[i32]) -> Result<Vec<f32>> {
    let shape = [source.batch, ids.len() / source.batch];
    let signature = Signature::new("evaluate.logits", source.signature().into_iter().chain(shape));
    let logits = session.step(signature, |side: &Side<State>| {
        let ids = Tensor::upload(side.device(), shape, ids)?;
        side.loaded.model.logits(&Tape::off(), &source.upload(side.device())?, &ids)
    })?;
    logits.read_floats()
}

impl LogitError {
    /// Of logits `[B * T, V]`.
    fn between(rounded: &[f32], stored: &[f32], inputs: usize, vocab: usize) -> Result<Self> {
        if rounded.len() != stored.len() || stored.is_empty() {
            return Err(Error::internal("two models gave logits of different numbers"));
        }
        let difference = |(a, b): (&f32, &f32)| f64::from(*a) - f64::from(*b);
        let differences = || rounded.iter().zip(stored).map(difference);
        let squares: f64 = stored.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let rows = stored.len() / vocab;
        let next =
            |logits: &[f32]| logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at);
        let same =
            rounded.chunks(vocab).zip(stored.chunks(vocab)).filter(|(a, b)| next(a) == next(b)).count();
        Ok(LogitError {
            inputs,
            tokens: rows / inputs,
            largest: differences().fold(0.0, |largest, difference| difference.abs().max(largest)),
            relative: (differences().map(|d| d * d).sum::<f64>() / squares).sqrt(),
            same_next: same as f64 / rows as f64,
        })
    }

    /// `text` with a line about the error, where there is one.
    pub fn below(text: String, error: Option<&Self>) -> String {
        match error {
            Some(error) => format!("{text}\n{error}"),
            None => text,
        }
    }
}

impl fmt::Display for LogitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogitError { inputs, tokens, largest, relative, same_next } = self;
        write!(
            f,
            "int8 weights: logits within {largest:.3} of the stored weights' ({:.2} % of their norm), the same next token in \
             {:.1} % of places; first {} of {}",
            100.0 * relative,
            100.0 * same_next,
            counted(*tokens, "token"),
            counted(*inputs, "input")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_two_rows() {
        let (stored, rounded) = ([3.0, 0.0, 0.0, 4.0], [3.0, 0.0, 5.0, 4.0]);
        let error = LogitError::between(&rounded, &stored, 1, 2).unwrap();
        let want = LogitError { inputs: 1, tokens: 2, largest: 5.0, relative: 1.0, same_next: 0.5 };
        assert_eq!(error, want);
        assert!(LogitError::between(&rounded[1..], &stored, 1, 2).is_err());
    }
}
