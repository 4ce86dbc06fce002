//! The memory of a whole run, before its first step.

use super::batches::Corpus;
use super::options::Options;
use super::shard::RankLayout;
use super::step::{TrainState, loss_step, micro_step, optimizer_step};
use crate::device::Used;
use crate::error::Result;
use crate::models::session::Session;
use crate::models::{Loaded, LossRule};
use crate::shape::DType;
use crate::tape::Randomness;
use crate::units::Bytes;
use serde::Serialize;

/// Persistent bytes of a model in training, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parts {
    /// In f32, and in the storage type where that is another.
    pub weights: Bytes,
    pub gradients: Bytes,
    /// Moments, and the table that says which parameters decay.
    pub optimizer: Bytes,
    /// The copy of the gradients that GPUs exchange, where that is of another type.
    pub communication: Bytes,
}

impl Parts {
    /// Divides `persistent` bytes that training with this layout, or a forward pass alone, holds for `loaded`.
    pub fn new(loaded: &Loaded, persistent: usize, layout: RankLayout) -> Self {
        let elements = loaded.parameters.slab.len();
        let slab = elements * DType::F32.size();
        let working =
            loaded.parameters.working.as_ref().map_or(0, |working| elements * working.dtype().size());
        let weights = slab + working;
        let gradients = slab.min(persistent - weights);
        let rest = persistent - weights - gradients;
        let communication = layout.copied(elements).min(rest);
        let [weights, gradients, optimizer, communication] =
            [weights, gradients, rest - communication, communication].map(|bytes| Bytes(bytes as u64));
        Parts { weights, gradients, optimizer, communication }
    }
}

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
