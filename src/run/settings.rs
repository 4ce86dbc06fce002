//! What a run is asked to compute, and what of it decides the bits.

use crate::data::RecordFormat;
use crate::error::{Error, Result};
use crate::generate::GenerateOptions;
use crate::metrics::Protocol;
use crate::models::{self, Loaded, ModelLimits, RandomBlocks};
use crate::settings::{Declared, settings};
use crate::tape::Recompute;
use crate::train::checkpoint;
use crate::train::{BatchSize, Control, Corpus, GlobalAttention, Lengths, Options};
use crate::units::Bytes;
use std::num::NonZeroUsize;

settings! {
    /// How many examples a step takes.
    pub struct Batch {
        /// Examples that are trained on at once, or auto: as many as memory holds
        #[arg(value_name = "N|auto", aliases = ["batch-size", "per-gpu-train-batch-size"])]
        per_device_train_batch_size: BatchSize = BatchSize::Of(8);

        /// Batches of each rank whose gradients are added up for one optimizer step
        #[arg(value_name = "N", conflicts_with = "global_batch_size")]
        gradient_accumulation_steps: usize = 1, at least 1;

        /// Examples of one optimizer step of all ranks: batches are added up until there are so many
        #[arg(value_name = "N")]
        global_batch_size: Option<NonZeroUsize>;

        /// Memory that the run may take, such as 48GiB [default: what is free on the device]
        #[arg(value_name = "BYTES")]
        memory: Option<Bytes>;
    }
    elsewhere {
        ranks: usize = 1, at least 1;
    }
}

impl Batch {
    /// The batch that is asked for, or the smallest where it is looked for.
    pub fn size(&self) -> usize {
        match self.per_device_train_batch_size {
            BatchSize::Of(size) => size,
            BatchSize::Largest => 1,
        }
    }

    /// The largest batch up to `most` that keeps the global batch.
    pub(super) fn divisor(&self, most: usize) -> usize {
        self.global_batch_size.map_or(most, |all| largest_divisor(all.get(), most))
    }

    /// Batches of `size` examples that are added up for one step, by all ranks together.
    pub fn accumulation(&self, size: usize) -> Result<usize> {
        match self.global_batch_size.map(NonZeroUsize::get) {
            None => Ok(self.gradient_accumulation_steps * self.ranks),
            Some(all) if size > 0 && all.is_multiple_of(size) => Ok(all / size),
            Some(all) => {
                let above = (size + 1..=all).find(|&n| all.is_multiple_of(n));
                let above = above.map_or(String::new(), |above| format!(" or {above}"));
                Err(Error::usage(format!(
                    "--global-batch-size {all} is no multiple of --per-device-train-batch-size {size}; make that {}{above}",
                    largest_divisor(all, size),
                )))
            }
        }
    }
}

/// The largest divisor of `all` that is at most `most`, and at least 1.
fn largest_divisor(all: usize, most: usize) -> usize {
    (1..=most.min(all)).rev().find(|&n| all.is_multiple_of(n)).unwrap_or(1)
}

/// Everything that decides what a run computes and how it is scored; lengths lie within the model's positions.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A path, or the name of an embedded dataset.
    pub dataset: String,
    /// How the records of the dataset's files are read.
    pub reading: RecordFormat,
    /// Examples of the training split, from its start; None for all.
    pub max_train_samples: Option<usize>,
    /// Examples of the validation split, from its start; None for all.
    pub max_eval_samples: Option<usize>,
    pub protocol: Protocol,
    /// How predictions are generated, where they are.
    pub decoding: GenerateOptions,
    /// Whether the trained model predicts the validation split.
    pub predict: bool,
    pub global_attention: GlobalAttention,
    pub random_blocks: RandomBlocks,
    pub recompute: Recompute,
    pub energy_per_phase: bool,
    /// Decides the batch of `training`.
    pub batch: Batch,
    pub training: Options,
    pub control: Control,
}

impl Settings {
    /// Everything as `finetune` has it by default, but for the dataset, the protocol and the training.
    pub fn new(dataset: &str, protocol: Protocol, training: Options, limits: &ModelLimits) -> Self {
        Settings {
            dataset: dataset.into(),
            reading: RecordFormat::default(),
            max_train_samples: None,
            max_eval_samples: None,
            protocol,
            decoding: GenerateOptions::new(limits),
            predict: true,
            global_attention: GlobalAttention::default(),
            random_blocks: models::ModelOptions::default().random_blocks,
            recompute: Recompute::default(),
            energy_per_phase: false,
            batch: Batch {
                per_device_train_batch_size: BatchSize::Of(training.per_device_train_batch_size),
                gradient_accumulation_steps: training.gradient_accumulation_steps,
                ..Batch::default()
            },
            training,
            control: Control::default(),
        }
    }

    /// Refuses values that mean nothing.
    pub fn check(&self) -> Result<()> {
        self.batch.check_ranges()?;
        self.training.check()?;
        self.control.check(self.training.eval_steps)
    }

    pub(super) fn model_options(&self) -> models::ModelOptions {
        let (random_blocks, recompute) = (self.random_blocks, self.recompute);
        models::ModelOptions { random_blocks, recompute, ..models::ModelOptions::default() }
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths { source: self.training.max_source_length, target: self.training.max_target_length }
    }

    /// Whether predictions are made at every evaluation, and say which model is the best.
    pub(super) fn decided_by_predictions(&self) -> bool {
        self.control.metric() != "loss"
    }

    /// Whether answers are generated and scored.
    pub(super) fn generates(&self) -> bool {
        self.predicts() && self.protocol == Protocol::Scrolls
    }

    /// Whether there are predictions at all.
    pub(super) fn predicts(&self) -> bool {
        self.predict || self.decided_by_predictions()
    }

    /// What decides the results of a run that starts with `loaded`, to be compared with a checkpoint's.
    pub(super) fn decided(
        &self,
        loaded: &Loaded,
        train: &Corpus,
        validation: Option<&Corpus>,
    ) -> Result<checkpoint::Settings> {
        let (options, control) = (&self.training, &self.control);
        let mut settings = checkpoint::Settings::of(loaded, train, validation, options, control)?;
        settings.add("random_blocks", &self.random_blocks)?;
        if self.decided_by_predictions() {
            settings.add("protocol", &self.protocol)?;
            settings.add("decoding", &self.decoding)?;
        }
        Ok(settings)
    }
}
