//! The layers of both sides; each sublayer's residual add is fused with the next norm.

use super::Config;
use crate::error::Result;
use crate::models::batch::DeviceSource;
use crate::nn::{Attention, Bias, Builder, CrossAttention, FeedForward, LayerNorm, Linear, Memory, together};
use crate::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::tape::{Part, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;
use std::rc::Rc;

/// How an encoder layer attends to the sequence at hand.
#[derive(Clone)]
pub enum Pattern {
    Full,
    Blocks(Rc<Vec<Blocks>>),
}

/// `model.encoder.layers.i.self_attn`.
struct EncoderAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    block_size: usize,
    dropout: f32,
}

impl EncoderAttention {
    fn new(builder: &mut Builder, prefix: &str, config: &Config) -> Result<Self> {
        let (c, bias) = (config.d_model, Bias::from(config.use_bias));
        let mut projection = |name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        Ok(EncoderAttention {
            query: projection("self.query")?,
            key: projection("self.key")?,
            value: projection("self.value")?,
            output: projection("output")?,
            heads: config.encoder_attention_heads,
            block_size: config.block_size,
            dropout: config.attention_dropout,
        })
    }

    fn forward(
        &self,
        tape: &Tape,
        x: &Tensor,
        source: &DeviceSource,
        pattern: &Pattern,
        layer: usize,
    ) -> Result<Tensor> {
        let [q, k, v] = together(tape, x, [&self.query, &self.key, &self.value])?;
        let o = match pattern {
            Pattern::Blocks(tables) => {
                let sparse = BlockSparse {
                    heads: self.heads,
                    block_size: self.block_size,
                    blocks: &tables[layer],
                    key_state: &source.key_state,
                };
                block_sparse_attention(tape, &q, &k, &v, sparse)?
            }
            Pattern::Full => {
                let dense = Dense {
                    heads: self.heads,
                    key_len: x.shape().dims3("bigbird_pegasus")?[1],
                    causal: None,
                    key_state: Some(&source.key_state),
                    dropout: tape.dropout(self.dropout),
                };
                dense_attention(tape, &q, &k, &v, dense)?
            }
        };
        self.output.forward(tape, &o)
    }
}

/// `model.encoder.layers.i`; each sublayer's residual add is fused with the next norm.
pub struct EncoderLayer {
    self_attn: EncoderAttention,
    pub self_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

/// `model.decoder.layers.i`.
pub struct DecoderLayer {
    self_attn: Attention,
    pub self_attn_layer_norm: LayerNorm,
    pub encoder_attn: CrossAttention,
    encoder_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

impl EncoderLayer {
    pub fn new(builder: &mut Builder, config: &Config, layer: usize) -> Result<Self> {
        let (name, c) = (format!("model.encoder.layers.{layer}"), config.d_model);
        Ok(EncoderLayer {
            self_attn: EncoderAttention::new(builder, &format!("{name}.self_attn"), config)?,
            self_attn_layer_norm: LayerNorm::new(builder, &format!("{name}.self_attn_layer_norm"), c)?,
            // HF's encoder layer has no activation dropout.
            ffn: FeedForward::new(builder, &name, config.feed_forward(config.encoder_ffn_dim, 0.0))?,
            final_layer_norm: LayerNorm::new(builder, &format!("{name}.final_layer_norm"), c)?,
        })
    }

    /// The layer's parts on (residual stream, its norm); `next` is the norm that comes after it.
    pub fn parts(self: &Rc<Self>, run: EncoderRun, next: LayerNorm) -> Vec<Part<2>> {
        let (attention, feed_forward, p) = (self.clone(), self.clone(), run.dropout);
        vec![
            Box::new(move |tape, [x, normed]| {
                let _phase = phase("encoder.attention");
                let a = attention.self_attn.forward(tape, normed, &run.source, &run.pattern, run.layer)?;
                Ok(attention.final_layer_norm.residual(tape, x, &a, p)?.into())
            }),
            Box::new(move |tape, [x, normed]| {
                let _phase = phase("encoder.ffn");
                let f = feed_forward.ffn.forward(tape, normed)?;
                Ok(next.residual(tape, x, &f, p)?.into())
            }),
        ]
    }
}

/// What an encoder layer is run with.
pub struct EncoderRun {
    pub source: DeviceSource,
    pub pattern: Pattern,
    pub layer: usize,
    pub dropout: f32,
}

impl DecoderLayer {
    pub fn new(
        builder: &mut Builder,
        config: &Config,
        layer: usize,
        encoder_attn: CrossAttention,
    ) -> Result<Self> {
        let (name, c) = (format!("model.decoder.layers.{layer}"), config.d_model);
        let (heads, p) = (config.decoder_attention_heads, config.attention_dropout);
        let bias = Bias::from(config.use_bias);
        let ffn = config.feed_forward(config.decoder_ffn_dim, config.activation_dropout);
        let part = |part: &str| format!("{name}.{part}");
        Ok(DecoderLayer {
            self_attn: Attention::new(builder, &part("self_attn"), c, heads, bias, p)?,
            self_attn_layer_norm: LayerNorm::new(builder, &part("self_attn_layer_norm"), c)?,
            encoder_attn,
            encoder_attn_layer_norm: LayerNorm::new(builder, &part("encoder_attn_layer_norm"), c)?,
            ffn: FeedForward::new(builder, &name, ffn)?,
            final_layer_norm: LayerNorm::new(builder, &part("final_layer_norm"), c)?,
        })
    }

    /// Self-attention, given how it is computed, on (residual stream, its norm), which it returns.
    pub fn attention(
        &self,
        tape: &Tape,
        [x, normed]: &[Tensor; 2],
        p: f32,
        attend: impl Fn(&Attention, &Tensor) -> Result<Tensor>,
    ) -> Result<[Tensor; 2]> {
        let _phase = phase("decoder.attention");
        let a = attend(&self.self_attn, normed)?;
        Ok(self.encoder_attn_layer_norm.residual(tape, x, &a, p)?.into())
    }

    /// Cross-attention, likewise.
    pub fn cross(
        &self,
        tape: &Tape,
        [x, normed]: &[Tensor; 2],
        p: f32,
        attend: impl Fn(&CrossAttention, &Tensor) -> Result<Tensor>,
    ) -> Result<[Tensor; 2]> {
        let _phase = phase("decoder.cross");
        let a = attend(&self.encoder_attn, normed)?;
        Ok(self.final_layer_norm.residual(tape, x, &a, p)?.into())
    }

    /// The feed-forward part and the norm that comes after the layer.
    pub fn feed_forward(
        &self,
        tape: &Tape,
        [x, normed]: &[Tensor; 2],
        p: f32,
        next: &LayerNorm,
    ) -> Result<[Tensor; 2]> {
        let _phase = phase("decoder.ffn");
        let f = self.ffn.forward(tape, normed)?;
        Ok(next.residual(tape, x, &f, p)?.into())
    }

    pub fn parts(self: &Rc<Self>, memory: Memory, p: f32, next: LayerNorm) -> Vec<Part<2>> {
        let [attention, cross, feed_forward] = [(); 3].map(|()| self.clone());
        vec![
            Box::new(move |tape, state| attention.attention(tape, state, p, |attn, x| attn.causal(tape, x))),
            Box::new(move |tape, state| {
                cross.cross(tape, state, p, |attn, x| attn.attend_memory(tape, x, &memory))
            }),
            Box::new(move |tape, state| feed_forward.feed_forward(tape, state, p, &next)),
        ]
    }
}
