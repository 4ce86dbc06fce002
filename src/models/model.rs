//! A model as its users see it: encode, decode, and what is made of that once for all of them.

use super::ModelLimits;
use super::batch::{DeviceBatch, DeviceSource, DeviceTarget};
use crate::error::Result;
use crate::nn::{CacheSizes, LayerCache, StepAt};
use crate::ops::cross_entropy::{Head, cross_entropy};
use crate::ops::linear::{linear, linear_int8};
use crate::ops::rows;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::tensor::int8::Int8;
use crate::trace::phase;

/// The hidden states of both sides.
pub struct States {
    /// `[B, S, C]`, S padded as [`ModelLimits::source_multiple`] says.
    pub encoder: Tensor,
    /// `[B, T, C]`.
    pub decoder: Tensor,
}

/// The language-model head.
#[derive(Clone, Copy)]
pub struct LmHead<'a> {
    /// `[V, C]`, the token table.
    pub table: &'a Tensor,
    /// The table in 8 bits, where weights are kept so.
    pub int8: Option<&'a Int8>,
    /// `[V]`.
    pub bias: &'a Tensor,
}

/// An encoder-decoder with a tied language-model head.
pub trait Model {
    fn limits(&self) -> ModelLimits;

    /// Hidden states `[B, S, C]`, S padded as [`ModelLimits::source_multiple`] says.
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

    /// What the logits are made with.
    fn head(&self) -> LmHead<'_>;
}

impl dyn Model {
    /// Encodes `source` and decodes the given ids `[B, T]` over it (teacher forcing).
    pub fn states(&self, tape: &Tape, source: &DeviceSource, ids: &Tensor) -> Result<States> {
        let encoder = self.encode(tape, source)?;
        let decoder = self.decode(tape, ids, &encoder, &source.key_state)?;
        Ok(States { encoder, decoder })
    }

    /// Logits `[B, T, V]` of the given ids `[B, T]` over `source`.
    pub fn logits(&self, tape: &Tape, source: &DeviceSource, ids: &Tensor) -> Result<Tensor> {
        // The encoder's states are released here.
        let decoder = self.states(tape, source, ids)?.decoder;
        self.logits_of(tape, &decoder)
    }

    /// The loss `[1]` of a batch, over its labelled tokens.
    pub fn loss(&self, tape: &Tape, batch: &DeviceBatch) -> Result<Tensor> {
        // The encoder's states are released here.
        let decoder = self.states(tape, &batch.source, &batch.target.ids)?.decoder;
        self.loss_of(tape, &decoder, &batch.target)
    }

    /// Logits `[.., V]` of hidden states `[.., C]`.
    pub fn logits_of(&self, tape: &Tape, hidden: &Tensor) -> Result<Tensor> {
        let _phase = phase("head");
        let LmHead { table, int8, bias } = self.head();
        match int8 {
            Some(table) => linear_int8(tape, hidden, table, Some(bias)),
            None => linear(tape, hidden, table, Some(bias)),
        }
    }

    /// The loss `[1]` of hidden states `[B, T, C]`, over the labelled tokens.
    pub fn loss_of(&self, tape: &Tape, hidden: &Tensor, target: &DeviceTarget) -> Result<Tensor> {
        let _phase = phase("loss");
        let LmHead { table, int8, bias } = self.head();
        let labelled = rows::gather(tape, hidden, &target.label_rows)?;
        let head = Head {
            table,
            int8,
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
