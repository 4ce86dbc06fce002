//! The memory of a whole run, before its first step.

use super::batches::Corpus;
use super::options::Options;
use super::step::{TrainState, loss_step, micro_step, optimizer_step};
use crate::device::Used;
use crate::error::Result;
use crate::models::LossRule;
use crate::models::session::Session;
use crate::tape::Randomness;

/// Plans the largest step and the largest evaluation that the run can meet; nothing is computed.
pub fn plan_run<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    train: &Corpus,
    validation: Option<&Corpus>,
    options: &Options,
) -> Result<Used> {
    let rule = LossRule { normaliser: 1.0, smoothing: options.label_smoothing as f32 };
    let randomness = Randomness { seed: options.seed, step: 0 };
    session.dry(|session| {
        let (source, target) = train.largest(options.per_device_train_batch_size)?;
        micro_step(session, &source, &target, rule, randomness)?;
        optimizer_step(session, options, 0, 1)?;
        if let Some(validation) = validation {
            let (source, target) = validation.largest(options.per_device_eval_batch_size)?;
            loss_step(session, &source, &target, rule)?;
        }
        Ok(session.planned())
    })
}
