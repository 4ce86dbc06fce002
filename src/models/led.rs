//! LED, the Longformer-Encoder-Decoder: post-norm, sliding-window encoder with global tokens.
//!
//! Beltagy et al. 2020, arXiv 2004.05150; HF `LEDForConditionalGeneration`.

mod config;

pub use config::{AttentionWindow, Config};

use super::batch::DeviceSource;
use super::{Limits, Model, Options};
use crate::error::Result;
use crate::nn::{
    Attention, Bias, Builder, CrossAttention, FeedForward, Init, LayerCache, LayerNorm, Linear, Memory,
    StepAt, dropped, keys_values, together,
};
use crate::ops::Position;
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::attention::window_attention::{Window, window_attention};
use crate::ops::embedding::{Lookup, embedding};
use crate::ops::global_attention::{Projections, global_attention};
use crate::ops::rows;
use crate::tape::{Part, Recompute, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;
use std::rc::Rc;

/// `led.encoder.layers.i.self_attn`: local and global projections.
struct EncoderAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    query_global: Linear,
    key_global: Linear,
    value_global: Linear,
    output: Linear,
    heads: usize,
    /// W, one-sided.
    window: usize,
    dropout: f32,
}

impl EncoderAttention {
    fn new(builder: &mut Builder, prefix: &str, config: &Config, layer: usize) -> Result<Self> {
        let c = config.d_model;
        let mut projection = |name: &str| {
            Linear::new(builder, &format!("{prefix}.longformer_self_attn.{name}"), [c, c], Bias::With)
        };
        Ok(EncoderAttention {
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            query_global: projection("query_global")?,
            key_global: projection("key_global")?,
            value_global: projection("value_global")?,
            output: Linear::new(builder, &format!("{prefix}.output"), [c, c], Bias::With)?,
            heads: config.encoder_attention_heads,
            window: config.window(layer) / 2,
            dropout: config.attention_dropout,
        })
    }

    fn forward(&self, tape: &Tape, x: &Tensor, source: &DeviceSource) -> Result<Tensor> {
        let [q, k, v] = together(tape, x, [&self.query, &self.key, &self.value])?;
        let pattern = Window {
            heads: self.heads,
            window: self.window,
            key_state: &source.key_state,
            global_index: &source.global_index,
            dropout: tape.dropout(self.dropout),
        };
        let mut o = window_attention(tape, &q, &k, &v, pattern)?;
        drop((q, k, v));
        if !source.global_index.is_empty() {
            let global = self.global_rows(tape, x, source)?;
            o = rows::scatter_add(tape, o, &global, &source.global_rows)?;
        }
        self.output.forward(tape, &o)
    }

    /// Attention outputs `[B * G, C]` of the global tokens, over all tokens.
    fn global_rows(&self, tape: &Tape, x: &Tensor, source: &DeviceSource) -> Result<Tensor> {
        let [b, s, c] = x.shape().dims3("led")?;
        let g = source.global_index.shape().last();
        let rows = rows::gather(tape, x, &source.global_rows)?;
        let q = self.query_global.forward(tape, &rows)?.reshape([b, g, c])?;
        let dropout = tape.dropout(self.dropout);
        // The short way costs G/D of projecting every token; it has no place for dropout on scores.
        let o = if 2 * g <= c / self.heads && dropout.is_off() {
            let projections = Projections {
                key: self.key_global.weight.clone(),
                value: self.value_global.weight.clone(),
                value_bias: bias(&self.value_global)?,
            };
            global_attention(tape, &q, x, &projections, &source.key_state, self.heads)?
        } else {
            let k = self.key_global.forward(tape, x)?;
            let v = self.value_global.forward(tape, x)?;
            let pattern = Dense {
                heads: self.heads,
                key_len: s,
                causal: None,
                key_state: Some(&source.key_state),
                dropout,
            };
            dense_attention(tape, &q, &k, &v, pattern)?
        };
        o.reshape([b * g, c])
    }
}

fn bias(linear: &Linear) -> Result<Tensor> {
    let missing = || crate::error::Error::internal("a LED projection has no bias");
    linear.bias.clone().ok_or_else(missing)
}

/// `led.encoder.layers.i`.
struct EncoderLayer {
    self_attn: EncoderAttention,
    self_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

impl EncoderLayer {
    fn new(builder: &mut Builder, config: &Config, layer: usize) -> Result<Self> {
        let (name, c) = (format!("led.encoder.layers.{layer}"), config.d_model);
        Ok(EncoderLayer {
            self_attn: EncoderAttention::new(builder, &format!("{name}.self_attn"), config, layer)?,
            self_attn_layer_norm: LayerNorm::new(builder, &format!("{name}.self_attn_layer_norm"), c)?,
            ffn: FeedForward::new(builder, &name, config.feed_forward(config.encoder_ffn_dim))?,
            final_layer_norm: LayerNorm::new(builder, &format!("{name}.final_layer_norm"), c)?,
        })
    }

    fn attention(&self, tape: &Tape, x: &Tensor, source: &DeviceSource, p: f32) -> Result<Tensor> {
        let _phase = phase("encoder.attention");
        let a = self.self_attn.forward(tape, x, source)?;
        Ok(self.self_attn_layer_norm.residual(tape, x, &a, p)?.1)
    }

    fn feed_forward(&self, tape: &Tape, x: &Tensor, p: f32) -> Result<Tensor> {
        let _phase = phase("encoder.ffn");
        let f = self.ffn.forward(tape, x)?;
        Ok(self.final_layer_norm.residual(tape, x, &f, p)?.1)
    }

    fn parts(self: &Rc<Self>, source: &DeviceSource, p: f32) -> Vec<Part<1>> {
        let (attention, feed_forward, source) = (self.clone(), self.clone(), source.clone());
        vec![
            Box::new(move |tape, [x]| Ok([attention.attention(tape, x, &source, p)?])),
            Box::new(move |tape, [x]| Ok([feed_forward.feed_forward(tape, x, p)?])),
        ]
    }
}

/// `led.decoder.layers.i`.
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: CrossAttention,
    encoder_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

impl DecoderLayer {
    fn new(
        builder: &mut Builder,
        config: &Config,
        layer: usize,
        encoder_attn: CrossAttention,
    ) -> Result<Self> {
        let (name, c) = (format!("led.decoder.layers.{layer}"), config.d_model);
        let (heads, p) = (config.decoder_attention_heads, config.attention_dropout);
        let part = |part: &str| format!("{name}.{part}");
        Ok(DecoderLayer {
            self_attn: Attention::new(builder, &part("self_attn"), c, heads, Bias::With, p)?,
            self_attn_layer_norm: LayerNorm::new(builder, &part("self_attn_layer_norm"), c)?,
            encoder_attn,
            encoder_attn_layer_norm: LayerNorm::new(builder, &part("encoder_attn_layer_norm"), c)?,
            ffn: FeedForward::new(builder, &name, config.feed_forward(config.decoder_ffn_dim))?,
            final_layer_norm: LayerNorm::new(builder, &part("final_layer_norm"), c)?,
        })
    }

    /// LN(x + self-attention), given how that is computed.
    fn attention(
        &self,
        tape: &Tape,
        x: &Tensor,
        p: f32,
        attend: impl Fn(&Attention, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _phase = phase("decoder.attention");
        let a = attend(&self.self_attn, x)?;
        Ok(self.self_attn_layer_norm.residual(tape, x, &a, p)?.1)
    }

    /// LN(x + cross-attention), given how that is computed.
    fn cross(
        &self,
        tape: &Tape,
        x: &Tensor,
        p: f32,
        attend: impl Fn(&CrossAttention, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let _phase = phase("decoder.cross");
        let a = attend(&self.encoder_attn, x)?;
        Ok(self.encoder_attn_layer_norm.residual(tape, x, &a, p)?.1)
    }

    fn feed_forward(&self, tape: &Tape, x: &Tensor, p: f32) -> Result<Tensor> {
        let _phase = phase("decoder.ffn");
        let f = self.ffn.forward(tape, x)?;
        Ok(self.final_layer_norm.residual(tape, x, &f, p)?.1)
    }

    fn parts(self: &Rc<Self>, memory: Memory, p: f32) -> Vec<Part<1>> {
        let [attention, cross, feed_forward] = [(); 3].map(|()| self.clone());
        vec![
            Box::new(move |tape, [x]| Ok([attention.attention(tape, x, p, |attn, x| attn.causal(tape, x))?])),
            Box::new(move |tape, [x]| {
                Ok([cross.cross(tape, x, p, |attn, x| attn.attend_memory(tape, x, &memory))?])
            }),
            Box::new(move |tape, [x]| Ok([feed_forward.feed_forward(tape, x, p)?])),
        ]
    }
}

/// The whole model; the head is the shared embedding.
pub struct Led {
    config: Config,
    recompute: Recompute,
    final_logits_bias: Tensor,
    shared: Tensor,
    encoder_positions: Tensor,
    encoder_layernorm_embedding: LayerNorm,
    encoder_layers: Vec<Rc<EncoderLayer>>,
    decoder_positions: Tensor,
    decoder_layernorm_embedding: LayerNorm,
    decoder_layers: Vec<Rc<DecoderLayer>>,
}

impl Led {
    pub fn new(builder: &mut Builder, config: &Config, options: Options) -> Result<Self> {
        let (c, v) = (config.d_model, config.vocab_size);
        let aliases =
            ["led.encoder.embed_tokens.weight", "led.decoder.embed_tokens.weight", "lm_head.weight"];
        let pad = config.pad_token_id as usize;
        let mut positions = |side: &str, rows: usize| {
            builder.parameter(&format!("led.{side}.embed_positions.weight"), [rows, c], Init::Normal)
        };
        let encoder_positions = positions("encoder", config.max_encoder_position_embeddings)?;
        let decoder_positions = positions("decoder", config.max_decoder_position_embeddings)?;
        let cross: Vec<String> = (0..config.decoder_layers)
            .map(|layer| format!("led.decoder.layers.{layer}.encoder_attn"))
            .collect();
        let (heads, p) = (config.decoder_attention_heads, config.attention_dropout);
        let cross = CrossAttention::layers(builder, &cross, c, heads, Bias::With, p)?;
        Ok(Led {
            config: config.clone(),
            recompute: options.recompute,
            final_logits_bias: builder.buffer("final_logits_bias", [1, v])?.reshape([v])?,
            shared: builder.tied("led.shared.weight", &aliases, [v, c], Init::Embedding { pad })?,
            encoder_positions,
            encoder_layernorm_embedding: LayerNorm::new(builder, "led.encoder.layernorm_embedding", c)?,
            encoder_layers: (0..config.encoder_layers)
                .map(|layer| EncoderLayer::new(builder, config, layer).map(Rc::new))
                .collect::<Result<_>>()?,
            decoder_positions,
            decoder_layernorm_embedding: LayerNorm::new(builder, "led.decoder.layernorm_embedding", c)?,
            decoder_layers: cross
                .into_iter()
                .enumerate()
                .map(|(layer, cross)| DecoderLayer::new(builder, config, layer, cross).map(Rc::new))
                .collect::<Result<_>>()?,
        })
    }

    /// LN(tokens + positions), dropped out.
    fn embed(
        &self,
        tape: &Tape,
        ids: &Tensor,
        positions: &Tensor,
        past: Option<Position>,
        norm: &LayerNorm,
    ) -> Result<Tensor> {
        let lookup = Lookup {
            table: &self.shared,
            positions,
            scale: 1.0,
            pad: self.config.pad_token_id as usize,
            past,
            placed: ids.shape().last(),
        };
        let x = norm.forward(tape, &embedding(tape, ids, lookup)?)?;
        dropped(tape, &x, self.config.dropout)
    }
}

impl Model for Led {
    fn limits(&self) -> Limits {
        Limits {
            vocab: self.config.vocab_size,
            max_source: self.config.max_encoder_position_embeddings,
            max_target: self.config.max_decoder_position_embeddings,
            source_multiple: 1,
            has_global_attention: true,
            pad: self.config.pad_token_id as i32,
            bos: self.config.bos_token_id as i32,
            eos: self.config.eos_token_id as i32,
            decoder_start: self.config.decoder_start_token_id as i32,
        }
    }

    fn encode(&self, tape: &Tape, source: &DeviceSource) -> Result<Tensor> {
        let mut x = {
            let _phase = phase("encoder.embedding");
            let norm = &self.encoder_layernorm_embedding;
            self.embed(tape, &source.ids, &self.encoder_positions, None, norm)?
        };
        for layer in &self.encoder_layers {
            [x] = self.recompute.layer(tape, [x], layer.parts(source, self.config.dropout))?;
        }
        Ok(x)
    }

    fn decode(&self, tape: &Tape, ids: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        let mut x = {
            let _phase = phase("decoder.embedding");
            let norm = &self.decoder_layernorm_embedding;
            self.embed(tape, ids, &self.decoder_positions, None, norm)?
        };
        let layers: Vec<_> = self.decoder_layers.iter().map(|layer| &layer.encoder_attn).collect();
        let memories = Memory::of_layers(tape, &layers, memory, key_state, self.recompute)?;
        for (layer, memory) in self.decoder_layers.iter().zip(memories) {
            [x] = self.recompute.layer(tape, [x], layer.parts(memory, self.config.dropout))?;
        }
        Ok(x)
    }

    fn decode_step(
        &self,
        ids: &Tensor,
        caches: &[LayerCache],
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor> {
        let tape = Tape::off();
        let norm = &self.decoder_layernorm_embedding;
        let mut x = self.embed(&tape, ids, &self.decoder_positions, Some(at.position), norm)?;
        for (layer, cache) in self.decoder_layers.iter().zip(caches) {
            x = layer.attention(&tape, &x, 0.0, |attn, x| attn.causal_step(&tape, x, cache, at))?;
            x = layer.cross(&tape, &x, 0.0, |attn, x| attn.step(&tape, x, cache, key_state, at))?;
            x = layer.feed_forward(&tape, &x, 0.0)?;
        }
        Ok(x)
    }

    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()> {
        let tape = Tape::off();
        let layers: Vec<_> = self.decoder_layers.iter().map(|layer| &layer.encoder_attn).collect();
        let memory = keys_values(&tape, &layers, memory)?;
        caches.iter().zip(&memory).try_for_each(|(cache, kv)| cache.fill_cross(&tape, kv))
    }

    fn decoder_layers(&self) -> usize {
        self.decoder_layers.len()
    }

    fn d_model(&self) -> usize {
        self.config.d_model
    }

    fn head(&self) -> (&Tensor, &Tensor) {
        (&self.shared, &self.final_logits_bias)
    }
}
