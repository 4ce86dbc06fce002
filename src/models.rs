//! The model families: [`ALL`] lists them, and `model_type` in a HF `config.json` chooses.

mod bart;
pub mod batch;
pub mod bigbird_pegasus;
pub mod block_plan;
pub(crate) mod check;
pub mod config;
mod dense;
pub mod encoder_decoder;
mod family;
pub mod led;
mod load;
mod mbart;
mod model;
mod pegasus;
mod saved;
pub mod session;
mod to_led;

pub use block_plan::RandomBlocks;
pub use family::{Family, family, parse_config};
pub use load::{Loaded, Weights, convert, limits, load, random};
pub use model::{LmHead, Model, States};
pub use to_led::{LedShape, to_led};

use crate::nn;
use crate::tape::Recompute;

/// The families that there are.
pub static ALL: [&Family; 5] =
    [&led::FAMILY, &bigbird_pegasus::FAMILY, &bart::FAMILY, &pegasus::FAMILY, &mbart::FAMILY];

/// How a loss is averaged and softened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossRule {
    /// Target tokens of the whole (accumulated) batch.
    pub normaliser: f32,
    /// Label smoothing, 0 for none.
    pub smoothing: f32,
}

/// What inputs a model takes, and its special tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelLimits {
    pub vocab: usize,
    pub max_source: usize,
    pub max_target: usize,
    /// The encoder works in multiples of this many tokens.
    pub source_multiple: usize,
    pub has_global_attention: bool,
    pub pad: i32,
    pub bos: i32,
    pub eos: i32,
    pub decoder_start: i32,
    /// As [`Family::becomes_led`].
    pub becomes_led: bool,
    /// As [`Family::target_begins_with_last_label`].
    pub target_begins_with_last_label: bool,
}

impl ModelLimits {
    /// What to do about an input that is longer than the encoder's positions.
    pub fn remedy(&self) -> &'static str {
        match self.becomes_led {
            true => "truncate the input, or make a LED of the model with `wattention convert --to led`",
            false => "truncate the input",
        }
    }
}

/// Choices at run time that no `config.json` holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelOptions {
    /// BigBird's random blocks outside of training; training always draws them.
    pub random_blocks: RandomBlocks,
    /// What training computes twice rather than keep.
    pub recompute: Recompute,
    pub weights: nn::Weights,
}

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions {
            random_blocks: RandomBlocks::EvalZero,
            recompute: Recompute::None,
            weights: nn::Weights::Stored,
        }
    }
}
