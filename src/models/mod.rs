//! The model families, found by `model_type` in a HF `config.json`.

pub mod batch;
pub mod bigbird_pegasus;
pub mod block_plan;
pub(crate) mod check;
pub mod led;
mod load;
mod saved;
pub mod session;

pub use load::{Loaded, Weights, convert, limits, load, random};

use crate::error::{Error, Result};
use crate::nn::{Builder, CacheSizes, LayerCache, StepAt};
use crate::ops::cross_entropy::{Head, cross_entropy};
use crate::ops::linear::linear;
use crate::ops::rows;
use crate::tape::{Recompute, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;
use batch::{DeviceSource, DeviceTarget};
pub use block_plan::RandomBlocks;

/// What inputs a model takes, and its special tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
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
}

/// How a loss is averaged and softened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossRule {
    /// Target tokens of the whole (accumulated) batch.
    pub normaliser: f32,
    /// Label smoothing, 0 for none.
    pub smoothing: f32,
}

/// An encoder-decoder with a tied language-model head.
pub trait Model {
    fn limits(&self) -> Limits;

    /// Hidden states `[B, S, C]`, S padded as [`Limits::source_multiple`] says.
    fn encode(&self, tape: &Tape, source: &DeviceSource) -> Result<Tensor>;

    /// Hidden states `[B, T, C]` of ids `[B, T]` over `memory` `[B, S, C]`.
    fn decode(&self, tape: &Tape, ids: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor>;

    /// Hidden states `[B, 1, C]` of one more token per row.
    fn decode_step(
        &self,
        ids: &Tensor,
        caches: &[LayerCache],
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor>;

    /// Projects `memory` into every layer's cross-attention cache.
    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()>;

    fn decoder_layers(&self) -> usize;

    fn d_model(&self) -> usize;

    /// The head's table `[V, C]` and bias `[V]`.
    fn head(&self) -> (&Tensor, &Tensor);
}

impl dyn Model {
    /// Logits `[.., V]` of hidden states `[.., C]`.
    pub fn logits(&self, tape: &Tape, hidden: &Tensor) -> Result<Tensor> {
        let _phase = phase("head");
        let (table, bias) = self.head();
        linear(tape, hidden, table, Some(bias))
    }

    /// Loss `[1]` of hidden states `[B, T, C]` over the labelled rows only.
    pub fn loss(&self, tape: &Tape, hidden: &Tensor, target: &DeviceTarget) -> Result<Tensor> {
        let _phase = phase("loss");
        let (table, bias) = self.head();
        let labelled = rows::gather(tape, hidden, &target.label_rows)?;
        let head = Head {
            table,
            bias,
            labels: &target.labels,
            normaliser: &target.normaliser,
            smoothing: target.smoothing,
        };
        cross_entropy(tape, &labelled, head)
    }

    /// Elements of memory that [`LayerCache`]s of these sizes need.
    pub fn cache_elements(&self, sizes: CacheSizes) -> usize {
        self.decoder_layers() * sizes.elements(self.d_model())
    }

    /// Each layer's cache in `memory`.
    pub fn caches(&self, memory: &Tensor, sizes: CacheSizes) -> Result<Vec<LayerCache>> {
        (0..self.decoder_layers())
            .map(|layer| LayerCache::new(memory, layer, sizes, self.d_model()))
            .collect()
    }
}

/// A validated configuration of one family.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    Led(led::Config),
    BigBirdPegasus(bigbird_pegasus::Config),
}

/// Choices at run time that no `config.json` holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// BigBird's random blocks outside of training; training always draws them.
    pub random_blocks: RandomBlocks,
    /// What training computes twice rather than keep.
    pub recompute: Recompute,
}

impl Default for Options {
    fn default() -> Self {
        Options { random_blocks: RandomBlocks::EvalZero, recompute: Recompute::None }
    }
}

impl Config {
    /// Parses and checks `config.json` text; `at` names the file in errors.
    pub fn parse(at: &str, text: &str) -> Result<Self> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|e| Error::data(at, format!("not valid JSON: {e}")))?;
        let model_type = json.get("model_type").and_then(|v| v.as_str()).unwrap_or("");
        match model_type {
            "led" => Ok(Config::Led(check::parse(at, text, led::Config::check)?)),
            "bigbird_pegasus" => {
                Ok(Config::BigBirdPegasus(check::parse(at, text, bigbird_pegasus::Config::check)?))
            }
            other => {
                Err(Error::data(at, format!("model_type is '{other}'; supported: led, bigbird_pegasus")))
            }
        }
    }

    pub fn build(&self, builder: &mut Builder, options: Options) -> Result<Box<dyn Model>> {
        Ok(match self {
            Config::Led(config) => Box::new(led::Led::new(builder, config, options)?),
            Config::BigBirdPegasus(config) => {
                Box::new(bigbird_pegasus::BigBirdPegasus::new(builder, config, options)?)
            }
        })
    }

    /// Standard deviation of freshly drawn weights.
    pub fn init_std(&self) -> f32 {
        match self {
            Config::Led(config) => config.init_std,
            Config::BigBirdPegasus(config) => config.init_std,
        }
    }
}
