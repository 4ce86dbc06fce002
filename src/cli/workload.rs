//! The kinds of work that `bench` times and `profile` divides, in the words of the command line.

use super::choices::{self, Recomputation, check_batch};
use super::global::Global;
use super::ranks::TrainingRanks;
use crate::collective::CommunicationType;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hub::Name;
use crate::models::{self, Loaded, ModelLimits, ModelOptions};
use crate::nn::Weights;
use crate::settings::named;
use crate::train::Sharing;
use crate::train::synthetic::Mode;
use crate::workload::{GenerationSizes, Sizes, StepSizes};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A model, or what makes one.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    Model(Name),
    /// A config.json alone: weights are drawn at random.
    Config(PathBuf),
}

/// Flags of a kind of work: lists of sizes.
pub trait Kind: clap::Args {
    type Sizes: Sizes;

    /// Every combination, in the order of the lists.
    fn combinations(&self) -> Vec<Self::Sizes>;

    fn options(&self) -> ModelOptions;

    /// Fails where a flag has no use.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Fails where a flag about ranks would have no use, for `why`: any of them, or those about exchanges alone.
    fn refuse_ranks(&self, _any: bool, _why: &str) -> Result<()> {
        Ok(())
    }

    /// The ranks that share it, where ranks can.
    fn ranks(&self) -> Option<&TrainingRanks> {
        None
    }

    /// What else decides the work, as a profile has it.
    fn settings(&self) -> Value {
        json!({})
    }
}

#[derive(clap::Args, Debug)]
pub struct StepArgs {
    /// How much of a step to run: encoder, forward, forward-backward, train
    #[arg(long, value_name = "MODE,..", value_delimiter = ',', default_value = "train", value_parser = named::<Mode>())]
    mode: Vec<Mode>,

    /// Examples of a step
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<NonZeroUsize>,

    /// Tokens of every input
    #[arg(long, value_name = "L,..", value_delimiter = ',', default_value = "1024")]
    max_source_length: Vec<NonZeroUsize>,

    /// Tokens of every target
    #[arg(long, value_name = "T", default_value = "128")]
    max_target_length: NonZeroUsize,

    #[command(flatten)]
    recomputation: Recomputation,

    #[command(flatten)]
    ranks: TrainingRanks,

    /// 1 keeps of the optimizer's state one part on each rank
    #[arg(long, value_name = "0|1", default_value_t = 0, help_heading = "Ranks", value_parser = clap::value_parser!(u8).range(0..=1))]
    zero_stage: u8,

    /// The type in which ranks exchange gradients
    #[arg(long, value_name = "TYPE", default_value = "fp32", help_heading = "Ranks", value_parser = named::<CommunicationType>())]
    communication_data_type: CommunicationType,
}

#[derive(clap::Args, Debug)]
pub struct GenerateArgs {
    /// Inputs of a batch
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<NonZeroUsize>,

    /// Tokens of every input
    #[arg(long, value_name = "L,..", value_delimiter = ',', default_value = "1024")]
    max_source_length: Vec<NonZeroUsize>,

    /// Tokens of every answer: none ends earlier
    #[arg(long, value_name = "T", default_value = "64")]
    max_new_tokens: NonZeroUsize,

    /// Beams of every input
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    num_beams: Vec<NonZeroUsize>,

    /// How weights are kept: as --precision says (stored), or those of linear layers and of the head in 8 bits (int8)
    #[arg(long, value_name = "HOW,..", value_delimiter = ',', default_value = "stored", value_parser = named::<Weights>())]
    weights: Vec<Weights>,
}

impl Subject {
    /// What was named.
    pub fn name(&self) -> &Path {
        match self {
            Subject::Model(name) => name.as_written(),
            Subject::Config(file) => file,
        }
    }

    /// The model, with its weights or with random ones.
    pub fn load(&self, device: &Device, options: ModelOptions, global: &Global) -> Result<Loaded> {
        match self {
            Subject::Model(name) => models::load(&choices::model_dir(name, global)?, device, options),
            Subject::Config(file) => models::random(file, device, options, global.seed),
        }
    }

    /// The configuration of the model.
    pub fn config(&self) -> Result<PathBuf> {
        match self {
            Subject::Model(name) => Ok(name.open()?.join("config.json")),
            Subject::Config(file) => Ok(file.clone()),
        }
    }
}

/// Fails for lengths that the model has no positions for, and for a batch whose tokens no index counts.
pub fn check(sizes: &impl Sizes, limits: &ModelLimits) -> Result<()> {
    sizes.lengths().check(limits)?;
    check_batch(sizes.batch_size(), sizes.lengths())
}

/// The one combination of `kind`, where lists are not taken.
pub fn only<K: Kind>(kind: &K) -> Result<K::Sizes> {
    match kind.combinations()[..] {
        [sizes] => Ok(sizes),
        _ => Err(Error::usage(format!(
            "a profile is of one combination of sizes; `bench {}` takes lists of them",
            K::Sizes::NAME
        ))),
    }
}

impl Kind for StepArgs {
    type Sizes = StepSizes;

    fn combinations(&self) -> Vec<StepSizes> {
        let sharing =
            Sharing { zero_stage: self.zero_stage, communication_data_type: self.communication_data_type };
        let mut all = Vec::new();
        for &mode in &self.mode {
            for batch_size in &self.batch_size {
                for length in &self.max_source_length {
                    all.push(StepSizes {
                        mode,
                        batch_size: batch_size.get(),
                        max_source_length: length.get(),
                        max_target_length: self.max_target_length.get(),
                        sharing,
                    });
                }
            }
        }
        all
    }

    fn options(&self) -> ModelOptions {
        self.recomputation.options()
    }

    fn check(&self) -> Result<()> {
        match self.mode.iter().any(|mode| mode.has_gradients()) {
            true => Ok(()),
            false => self.refuse_ranks(false, "no --mode here sums gradients"),
        }
    }

    fn refuse_ranks(&self, any: bool, why: &str) -> Result<()> {
        let sharing = [
            ("--zero-stage", self.zero_stage != 0),
            ("--communication-data-type", self.communication_data_type != CommunicationType::Fp32),
        ];
        self.ranks.refuse(any, &sharing, why)
    }

    fn ranks(&self) -> Option<&TrainingRanks> {
        Some(&self.ranks)
    }

    fn settings(&self) -> Value {
        json!({ "recompute": self.recomputation.recompute })
    }
}

impl Kind for GenerateArgs {
    type Sizes = GenerationSizes;

    fn combinations(&self) -> Vec<GenerationSizes> {
        let mut all = Vec::new();
        for num_beams in &self.num_beams {
            for batch_size in &self.batch_size {
                for length in &self.max_source_length {
                    all.extend(self.weights.iter().map(|&weights| GenerationSizes {
                        batch_size: batch_size.get(),
                        max_source_length: length.get(),
                        max_new_tokens: self.max_new_tokens.get(),
                        num_beams: num_beams.get(),
                        weights,
                    }));
                }
            }
        }
        all
    }

    fn options(&self) -> ModelOptions {
        ModelOptions::default()
    }
}
