//! The encoder-decoder that all families share: embedding, two stacks of layers, the tied head, and the caches.
//!
//! A family says in a [`Design`] where its norms, positions and names differ, and brings its encoder's
//! attention ([`EncoderAttention`]). Vaswani et al. 2017, arXiv 1706.03762; Lewis et al. 2020, arXiv 1910.13461.

mod blocks;
mod embedding;

pub use blocks::{EncoderAttention, POST_NORM, PRE_NORM};
pub use embedding::Positions;

use super::batch::DeviceSource;
use super::config::Common;
use super::{LmHead, Model, ModelLimits, ModelOptions};
use crate::error::{Error, Result};
use crate::nn::{
    Bias, Builder, CrossAttention, Init, LayerCache, LayerNorm, Memory, StepAt, dropped, keys_values,
};
use crate::ops::Position;
use crate::tape::{Recompute, Tape};
use crate::tensor::Tensor;
use crate::tensor::int8::Int8;
use crate::trace::phase;
use blocks::{DecoderLayer, EncoderLayer};
use embedding::Embedding;
use std::rc::Rc;

/// What sets a family's model apart from the others.
pub struct Design {
    /// The first part of HF's parameter names.
    pub prefix: &'static str,
    /// Multiplies the token embeddings, but neither the positions nor the head.
    pub embed_scale: f32,
    /// Positions of the encoder and of the decoder.
    pub positions: [Positions; 2],
    /// Whether a norm (`layernorm_embedding`) follows the embedding.
    pub embedding_norm: bool,
    /// HF's name of the norm after the last layer; pre-norm models have one.
    pub final_norm: Option<&'static str>,
    /// Bias of the projections in the decoder's attention.
    pub bias: Bias,
    /// Dropout after the encoder's activations.
    pub encoder_activation_dropout: f32,
    pub limits: ModelLimits,
}

/// A model whose layers are [`POST_NORM`] or [`PRE_NORM`]; the head is the token table, unscaled.
pub struct EncoderDecoder<const N: usize> {
    limits: ModelLimits,
    recompute: Recompute,
    d_model: usize,
    dropout: f32,
    final_logits_bias: Tensor,
    shared: Tensor,
    /// The same in 8 bits, for the head.
    shared_int8: Option<Int8>,
    encoder: Stack<EncoderLayer>,
    decoder: Stack<DecoderLayer>,
}

/// The layers of one side and what comes before them.
struct Stack<L> {
    embedding: Embedding,
    /// Before the first layer of a pre-norm stack.
    first_norm: Option<LayerNorm>,
    layers: Vec<Rc<L>>,
}

impl<const N: usize> EncoderDecoder<N> {
    /// Asks `builder` for all parameters in a fixed order, that of the slab; `attention` makes the encoder's
    /// self-attention for (HF's name of it, number of the layer).
    pub fn new(
        builder: &mut Builder,
        common: &Common,
        design: Design,
        options: ModelOptions,
        attention: impl Fn(&mut Builder, &str, usize) -> Result<Box<dyn EncoderAttention>>,
    ) -> Result<Self> {
        let Design { prefix, bias, .. } = design;
        let (c, v) = (common.d_model, common.vocab_size);
        let [encoder_name, decoder_name] = ["encoder", "decoder"].map(|side| format!("{prefix}.{side}"));
        let mut positions = |name: &str, positions: Positions| positions.build(builder, name, c);
        let encoder_positions = positions(&encoder_name, design.positions[0])?;
        let decoder_positions = positions(&decoder_name, design.positions[1])?;
        let cross: Vec<String> = (0..common.decoder_layers)
            .map(|layer| format!("{decoder_name}.layers.{layer}.encoder_attn"))
            .collect();
        let (heads, p) = (common.decoder_attention_heads, common.attention_dropout);
        let cross = CrossAttention::layers(builder, &cross, c, heads, bias, p)?;
        let final_logits_bias = builder.buffer("final_logits_bias", [1, v])?.reshape([v])?;
        let aliases = [&encoder_name, &decoder_name].map(|side| format!("{side}.embed_tokens.weight"));
        let aliases = [&aliases[0], &aliases[1], "lm_head.weight"];
        let pad = common.pad_token_id as usize;
        let (shared, shared_int8) =
            builder.tied(&format!("{prefix}.shared.weight"), &aliases, [v, c], Init::Embedding { pad })?;
        let embedding = |builder: &mut Builder, name: &str, positions| {
            let norm = match design.embedding_norm {
                true => Some(LayerNorm::new(builder, &format!("{name}.layernorm_embedding"), c)?),
                false => None,
            };
            Ok(Embedding { table: shared.clone(), scale: design.embed_scale, pad, positions, norm })
        };
        let final_norm = |builder: &mut Builder, name: &str| match design.final_norm {
            Some(norm) => Ok(Some(LayerNorm::new(builder, &format!("{name}.{norm}"), c)?)),
            None => Ok(None),
        };

        let encoder_embedding = embedding(builder, &encoder_name, encoder_positions)?;
        let mut layers = Vec::with_capacity(common.encoder_layers);
        for layer in 0..common.encoder_layers {
            let name = format!("{encoder_name}.layers.{layer}");
            let self_attn = attention(builder, &format!("{name}.self_attn"), layer)?;
            let ffn = common.feed_forward(common.encoder_ffn_dim, design.encoder_activation_dropout);
            layers.push(EncoderLayer::new(builder, &name, self_attn, ffn)?);
        }
        let norm = final_norm(builder, &encoder_name)?;
        let encoder = Stack::new::<N>(encoder_embedding, layers, |layer| &mut layer.norms, norm)?;

        let decoder_embedding = embedding(builder, &decoder_name, decoder_positions)?;
        let mut layers = Vec::with_capacity(common.decoder_layers);
        for (layer, cross) in cross.into_iter().enumerate() {
            let name = format!("{decoder_name}.layers.{layer}");
            layers.push(DecoderLayer::new(builder, &name, common, bias, cross)?);
        }
        let norm = final_norm(builder, &decoder_name)?;
        let decoder = Stack::new::<N>(decoder_embedding, layers, |layer| &mut layer.norms, norm)?;
        Ok(EncoderDecoder {
            limits: design.limits,
            recompute: options.recompute,
            d_model: c,
            dropout: common.dropout,
            final_logits_bias,
            shared,
            shared_int8,
            encoder,
            decoder,
        })
    }

    /// What the decoder's first sublayer reads, for ids `[B, T]` after `past`.
    fn begin_decoder(&self, tape: &Tape, ids: &Tensor, past: Option<Position>) -> Result<[Tensor; N]> {
        let x = {
            let _phase = phase("decoder.embedding");
            self.decoder.embed(tape, ids, past, ids.shape().last(), self.dropout)?
        };
        let _phase = phase("decoder.attention");
        self.decoder.begin(tape, x)
    }

    fn cross_attentions(&self) -> Vec<&CrossAttention> {
        self.decoder.layers.iter().map(|layer| &layer.encoder_attn).collect()
    }
}

impl<L> Stack<L> {
    /// A stack of layers that hold their own norms: a pre-norm layer's sublayers are each followed by the norm of the
    /// next sublayer, with which the residual add is fused.
    fn new<const N: usize>(
        embedding: Embedding,
        mut layers: Vec<L>,
        norms: impl for<'a> Fn(&'a mut L) -> &'a mut [LayerNorm],
        final_norm: Option<LayerNorm>,
    ) -> Result<Self> {
        let first_norm = match (N, final_norm) {
            (POST_NORM, None) => None,
            (PRE_NORM, Some(mut next)) => {
                let all = layers.iter_mut().flat_map(norms);
                all.rev().for_each(|norm| std::mem::swap(norm, &mut next));
                Some(next)
            }
            _ => return Err(Error::internal("pre-norm models have a final norm, and post-norm ones none")),
        };
        let layers = layers.into_iter().map(Rc::new).collect();
        Ok(Stack { embedding, first_norm, layers })
    }

    /// Embedded tokens `[B, T, C]`, of which the first `placed` of each row have a position, dropped out.
    fn embed(
        &self,
        tape: &Tape,
        ids: &Tensor,
        past: Option<Position>,
        placed: usize,
        p: f32,
    ) -> Result<Tensor> {
        dropped(tape, &self.embedding.forward(tape, ids, past, placed)?, p)
    }

    /// What the first sublayer of a stack reads, given the embedded tokens.
    fn begin<const N: usize>(&self, tape: &Tape, x: Tensor) -> Result<[Tensor; N]> {
        let normed = match &self.first_norm {
            None => x.clone(),
            Some(norm) => norm.forward(tape, &x)?,
        };
        Ok(blocks::state([x, normed]))
    }
}

impl<const N: usize> Model for EncoderDecoder<N> {
    fn limits(&self) -> ModelLimits {
        self.limits
    }

    fn encode(&self, tape: &Tape, source: &DeviceSource) -> Result<Tensor> {
        let x = {
            let _phase = phase("encoder.embedding");
            self.encoder.embed(tape, &source.ids, None, source.len, self.dropout)?
        };
        let mut state = {
            let _phase = phase("encoder.attention");
            self.encoder.begin::<N>(tape, x)?
        };
        for layer in &self.encoder.layers {
            state = self.recompute.layer(tape, state, layer.parts(source, self.dropout))?;
        }
        blocks::normed(state)
    }

    fn decode(&self, tape: &Tape, ids: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        let mut state = self.begin_decoder(tape, ids, None)?;
        let memories = Memory::of_layers(tape, &self.cross_attentions(), memory, key_state, self.recompute)?;
        for (layer, memory) in self.decoder.layers.iter().zip(memories) {
            state = self.recompute.layer(tape, state, layer.parts(memory, self.dropout))?;
        }
        blocks::normed(state)
    }

    fn decode_step(
        &self,
        ids: &Tensor,
        caches: &[LayerCache],
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor> {
        let tape = Tape::off();
        let mut state = self.begin_decoder(&tape, ids, Some(at.position))?;
        for (layer, cache) in self.decoder.layers.iter().zip(caches) {
            state = layer.attention(&tape, &state, 0.0, |attn, x| attn.causal_step(&tape, x, cache, at))?;
            state = layer.cross(&tape, &state, 0.0, |attn, x| attn.step(&tape, x, cache, key_state, at))?;
            state = layer.feed_forward(&tape, &state, 0.0)?;
        }
        blocks::normed(state)
    }

    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()> {
        let tape = Tape::off();
        let memory = keys_values(&tape, &self.cross_attentions(), memory)?;
        caches.iter().zip(&memory).try_for_each(|(cache, kv)| cache.fill_cross(&tape, kv))
    }

    fn decoder_layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn d_model(&self) -> usize {
        self.d_model
    }

    fn head(&self) -> LmHead<'_> {
        let int8 = self.shared_int8.as_ref();
        LmHead { table: &self.shared, int8, bias: &self.final_logits_bias }
    }
}
