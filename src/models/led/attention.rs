//! An encoder layer's attention: a window around each token, and global tokens that see and are seen by all.

use crate::error::{Error, Result};
use crate::models::batch::DeviceSource;
use crate::models::config::Common;
use crate::models::encoder_decoder::EncoderAttention;
use crate::nn::{Bias, Builder, Linear, together};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::attention::window_attention::{Window, window_attention};
use crate::ops::global_attention::{Projections, global_attention};
use crate::ops::rows;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// `led.encoder.layers.i.self_attn`: local and global projections.
pub struct WindowAttention {
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

impl WindowAttention {
    /// `window` counts the tokens of both sides.
    pub fn new(builder: &mut Builder, prefix: &str, common: &Common, window: usize) -> Result<Self> {
        let c = common.d_model;
        let mut projection = |name: &str| {
            Linear::new(builder, &format!("{prefix}.longformer_self_attn.{name}"), [c, c], Bias::With)
        };
        Ok(WindowAttention {
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            query_global: projection("query_global")?,
            key_global: projection("key_global")?,
            value_global: projection("value_global")?,
            output: Linear::new(builder, &format!("{prefix}.output"), [c, c], Bias::With)?,
            heads: common.encoder_attention_heads,
            window: window / 2,
            dropout: common.attention_dropout,
        })
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
                key: self.key_global.weight()?,
                value: self.value_global.weight()?,
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

impl EncoderAttention for WindowAttention {
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
}

fn bias(linear: &Linear) -> Result<Tensor> {
    linear.bias.clone().ok_or_else(|| Error::internal("a LED projection has no bias"))
}
