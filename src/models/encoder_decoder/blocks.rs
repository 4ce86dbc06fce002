//! The layers of both sides, post-norm or pre-norm: sublayers whose residual add is fused with the norm after it.
//!
//! Post-norm: x = LN(x + f(x)), with the sublayer's own norm. Pre-norm: x = x + f(LN(x)), so that the norm after
//! a sublayer is the one before the next. What flows from sublayer to sublayer is the normed stream alone
//! ([`POST_NORM`]), or the stream and its norm ([`PRE_NORM`]). Xiong et al. 2020, arXiv 2002.04745.

use crate::error::{Error, Result};
use crate::models::batch::DeviceSource;
use crate::models::config::Common;
use crate::nn::{
    Attention, Bias, Builder, CrossAttention, FeedForward, FeedForwardConfig, LayerNorm, Memory,
};
use crate::tape::{Part, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;
use std::rc::Rc;

/// Tensors between the sublayers of a post-norm model.
pub const POST_NORM: usize = 1;

/// Tensors between the sublayers of a pre-norm model.
pub const PRE_NORM: usize = 2;

/// Self-attention of one encoder layer, with its projections.
pub trait EncoderAttention {
    /// `[B, S, C]` from x `[B, S, C]`.
    fn forward(&self, tape: &Tape, x: &Tensor, source: &DeviceSource) -> Result<Tensor>;
}

/// `encoder.layers.i`.
pub struct EncoderLayer {
    self_attn: Box<dyn EncoderAttention>,
    ffn: FeedForward,
    /// After the attention and after the feed-forward part.
    pub norms: [LayerNorm; 2],
}

/// `decoder.layers.i`.
pub struct DecoderLayer {
    self_attn: Attention,
    pub encoder_attn: CrossAttention,
    ffn: FeedForward,
    /// After the self-attention, the cross-attention and the feed-forward part.
    pub norms: [LayerNorm; 3],
}

/// What a sublayer reads.
fn input<const N: usize>(state: &[Tensor; N]) -> &Tensor {
    &state[N - 1]
}

/// The state after a sublayer with the output `branch`, which is dropped out and added to the stream.
fn add<const N: usize>(
    norm: &LayerNorm,
    tape: &Tape,
    state: &[Tensor; N],
    branch: &Tensor,
    p: f32,
) -> Result<[Tensor; N]> {
    Ok(self::state(norm.residual(tape, &state[0], branch, p)?.into()))
}

/// What flows on of the stream and its norm.
pub fn state<const N: usize>(pair: [Tensor; 2]) -> [Tensor; N] {
    std::array::from_fn(|i| pair[PRE_NORM - N + i].clone())
}

/// The output of a stack that ends in `state`.
pub fn normed<const N: usize>(state: [Tensor; N]) -> Result<Tensor> {
    state.into_iter().next_back().ok_or_else(|| Error::internal("a state without tensors"))
}

impl EncoderLayer {
    pub fn new(
        builder: &mut Builder,
        name: &str,
        self_attn: Box<dyn EncoderAttention>,
        ffn: FeedForwardConfig,
    ) -> Result<Self> {
        let c = ffn.d_model;
        let self_attn_layer_norm = LayerNorm::new(builder, &format!("{name}.self_attn_layer_norm"), c)?;
        let ffn = FeedForward::new(builder, name, ffn)?;
        let final_layer_norm = LayerNorm::new(builder, &format!("{name}.final_layer_norm"), c)?;
        Ok(EncoderLayer { self_attn, ffn, norms: [self_attn_layer_norm, final_layer_norm] })
    }

    /// The layer's parts with dropout `p`, each of which may be recomputed.
    pub fn parts<const N: usize>(self: &Rc<Self>, source: &DeviceSource, p: f32) -> Vec<Part<N>> {
        let (attention, feed_forward, source) = (self.clone(), self.clone(), source.clone());
        vec![
            Box::new(move |tape, state| {
                let _phase = phase("encoder.attention");
                let a = attention.self_attn.forward(tape, input(state), &source)?;
                add(&attention.norms[0], tape, state, &a, p)
            }),
            Box::new(move |tape, state| {
                let _phase = phase("encoder.ffn");
                let f = feed_forward.ffn.forward(tape, input(state))?;
                add(&feed_forward.norms[1], tape, state, &f, p)
            }),
        ]
    }
}

impl DecoderLayer {
    pub fn new(
        builder: &mut Builder,
        name: &str,
        common: &Common,
        bias: Bias,
        encoder_attn: CrossAttention,
    ) -> Result<Self> {
        let (c, heads, p) = (common.d_model, common.decoder_attention_heads, common.attention_dropout);
        let part = |part: &str| format!("{name}.{part}");
        let self_attn = Attention::new(builder, &part("self_attn"), c, heads, bias, p)?;
        let self_attn_layer_norm = LayerNorm::new(builder, &part("self_attn_layer_norm"), c)?;
        let encoder_attn_layer_norm = LayerNorm::new(builder, &part("encoder_attn_layer_norm"), c)?;
        let ffn = common.feed_forward(common.decoder_ffn_dim, common.activation_dropout);
        let ffn = FeedForward::new(builder, name, ffn)?;
        let final_layer_norm = LayerNorm::new(builder, &part("final_layer_norm"), c)?;
        let norms = [self_attn_layer_norm, encoder_attn_layer_norm, final_layer_norm];
        Ok(DecoderLayer { self_attn, encoder_attn, ffn, norms })
    }

    /// Self-attention, given how it is computed, with dropout `p` of its output.
    pub fn attention<const N: usize>(
        &self,
        tape: &Tape,
        state: &[Tensor; N],
        p: f32,
        attend: impl Fn(&Attention, &Tensor) -> Result<Tensor>,
    ) -> Result<[Tensor; N]> {
        let _phase = phase("decoder.attention");
        let a = attend(&self.self_attn, input(state))?;
        add(&self.norms[0], tape, state, &a, p)
    }

    /// Cross-attention, likewise.
    pub fn cross<const N: usize>(
        &self,
        tape: &Tape,
        state: &[Tensor; N],
        p: f32,
        attend: impl Fn(&CrossAttention, &Tensor) -> Result<Tensor>,
    ) -> Result<[Tensor; N]> {
        let _phase = phase("decoder.cross");
        let a = attend(&self.encoder_attn, input(state))?;
        add(&self.norms[1], tape, state, &a, p)
    }

    /// The feed-forward part, likewise.
    pub fn feed_forward<const N: usize>(
        &self,
        tape: &Tape,
        state: &[Tensor; N],
        p: f32,
    ) -> Result<[Tensor; N]> {
        let _phase = phase("decoder.ffn");
        let f = self.ffn.forward(tape, input(state))?;
        add(&self.norms[2], tape, state, &f, p)
    }

    /// The layer's parts with dropout `p`, each of which may be recomputed.
    pub fn parts<const N: usize>(self: &Rc<Self>, memory: Memory, p: f32) -> Vec<Part<N>> {
        let [attention, cross, feed_forward] = [(); 3].map(|()| self.clone());
        vec![
            Box::new(move |tape, state| attention.attention(tape, state, p, |attn, x| attn.causal(tape, x))),
            Box::new(move |tape, state| {
                cross.cross(tape, state, p, |attn, x| attn.attend_memory(tape, x, &memory))
            }),
            Box::new(move |tape, state| feed_forward.feed_forward(tape, state, p)),
        ]
    }
}
