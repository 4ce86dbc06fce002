//! The flags of training, under the names that HF's trainer uses.
//!
//! What is flattened in here or in `Args` can also stand in a `--config` file (`cli/layers.rs`).

use super::super::choices::Truncation;
use crate::error::Result;
use crate::models::ModelLimits;
use crate::run::Batch;
use crate::train::Options;
use std::num::NonZeroUsize;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Training")]
pub struct Training {
    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    pub batch: Batch,

    #[command(flatten)]
    truncation: Truncation,

    /// Examples of the training split to use, from its start [default: all]
    #[arg(long, value_name = "N")]
    pub max_train_samples: Option<NonZeroUsize>,

    /// Examples of the validation split to use, from its start [default: all]
    #[arg(long, value_name = "N")]
    pub max_eval_samples: Option<NonZeroUsize>,
}

impl Training {
    /// What was asked for, with a batch of 1 where the largest is looked for.
    pub fn options(&self, limits: &ModelLimits, seed: u64, batch: &Batch) -> Result<Options> {
        let size = batch.size();
        let lengths = self.truncation.lengths(limits);
        let options = Options {
            per_device_train_batch_size: size,
            gradient_accumulation_steps: batch.accumulation(size)?,
            max_source_length: lengths.source,
            max_target_length: lengths.target,
            seed,
            ..self.options.clone()
        };
        options.check()?;
        Ok(options)
    }
}
