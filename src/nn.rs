//! Layers: parameters with HF's names, composed of ops.

mod attention;
mod parameters;
mod weights;

pub use attention::{Attention, CacheSizes, CrossAttention, LayerCache, Memory, StepAt, keys_values};
pub use parameters::{Builder, Entry, Init, Parameters, STEP};
pub use weights::{Kept, Weight, Weights};

use crate::error::{Error, Result};
use crate::ops::activation::{Activation, activation};
use crate::ops::dropout::dropout;
use crate::ops::layer_norm::{Affine, layer_norm, residual_layer_norm};
use crate::ops::linear::{linear, linear_int8, linears};
use crate::tape::{Dropout, Tape};
use crate::tensor::Tensor;

/// Whether a projection has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    With,
    Without,
}

impl From<bool> for Bias {
    fn from(with: bool) -> Self {
        if with { Bias::With } else { Bias::Without }
    }
}

/// torch.nn.Linear: weight `[O, I]`, bias `[O]`.
pub struct Linear {
    weight: Weight,
    pub bias: Option<Tensor>,
}

impl Linear {
    pub fn new(builder: &mut Builder, name: &str, [o, i]: [usize; 2], bias: Bias) -> Result<Self> {
        let weight = builder.weight(&format!("{name}.weight"), [o, i])?;
        let bias = match bias {
            Bias::With => Some(builder.parameter(&format!("{name}.bias"), [o], Init::Zeros)?),
            Bias::Without => None,
        };
        Ok(Linear { weight, bias })
    }

    /// `[.., I]` to `[.., O]`.
    pub fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Stored(weight) => linear(tape, x, weight, self.bias.as_ref()),
            Weight::Int8(weight) => linear_int8(tape, x, weight, self.bias.as_ref()),
        }
    }

    /// The weight in the device's storage type; for as long as the step where it is kept in 8 bits.
    pub fn weight(&self) -> Result<Tensor> {
        match &self.weight {
            Weight::Stored(weight) => Ok(weight.clone()),
            Weight::Int8(weight) => weight.widened(),
        }
    }
}

/// The outputs of several layers over one input `[.., I]`, in one product where the layers are alike.
pub fn together<const N: usize>(tape: &Tape, x: &Tensor, layers: [&Linear; N]) -> Result<[Tensor; N]> {
    let outputs = all_together(tape, x, &layers)?;
    outputs.try_into().map_err(|_| Error::internal("layers and outputs differ in number"))
}

/// [`together`] for any number of layers.
pub fn all_together(tape: &Tape, x: &Tensor, layers: &[&Linear]) -> Result<Vec<Tensor>> {
    let stored = layers.iter().map(|layer| match &layer.weight {
        Weight::Stored(weight) => Some((weight, layer.bias.as_ref())),
        Weight::Int8(_) => None,
    });
    match stored.collect::<Option<Vec<_>>>() {
        Some(parts) => linears(tape, x, &parts),
        None => layers.iter().map(|layer| layer.forward(tape, x)).collect(),
    }
}

/// torch.nn.LayerNorm over the last dimension, eps 1e-5 as both families have it.
#[derive(Clone)]
pub struct LayerNorm {
    affine: Affine,
}

impl LayerNorm {
    pub fn new(builder: &mut Builder, name: &str, c: usize) -> Result<Self> {
        let affine = Affine {
            w: builder.parameter(&format!("{name}.weight"), [c], Init::Ones)?,
            b: builder.parameter(&format!("{name}.bias"), [c], Init::Zeros)?,
            eps: 1e-5,
        };
        Ok(LayerNorm { affine })
    }

    pub fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Tensor> {
        layer_norm(tape, x, &self.affine)
    }

    /// (s, LN(s)) for s = x + dropout(branch).
    pub fn residual(&self, tape: &Tape, x: &Tensor, branch: &Tensor, p: f32) -> Result<(Tensor, Tensor)> {
        residual_layer_norm(tape, x, branch, tape.dropout(p), &self.affine)
    }
}

/// fc2(dropout(f(fc1(x)))): `[.., C]` to `[.., F]` and back.
pub struct FeedForward {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
    activation_dropout: f32,
}

/// Sizes and options of a [`FeedForward`].
#[derive(Clone, Copy)]
pub struct FeedForwardConfig {
    pub d_model: usize,
    pub ffn_dim: usize,
    pub activation: Activation,
    pub activation_dropout: f32,
}

impl FeedForward {
    /// `prefix` is the layer's: HF keeps fc1 and fc2 beside the attentions.
    pub fn new(builder: &mut Builder, prefix: &str, config: FeedForwardConfig) -> Result<Self> {
        let FeedForwardConfig { d_model, ffn_dim, .. } = config;
        Ok(FeedForward {
            fc1: Linear::new(builder, &format!("{prefix}.fc1"), [ffn_dim, d_model], Bias::With)?,
            fc2: Linear::new(builder, &format!("{prefix}.fc2"), [d_model, ffn_dim], Bias::With)?,
            activation: config.activation,
            activation_dropout: config.activation_dropout,
        })
    }

    pub fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Tensor> {
        let h = activation(tape, &self.fc1.forward(tape, x)?, self.activation)?;
        let h = dropped(tape, &h, self.activation_dropout)?;
        self.fc2.forward(tape, &h)
    }
}

/// dropout(x) at the tape's next site.
pub fn dropped(tape: &Tape, x: &Tensor, p: f32) -> Result<Tensor> {
    let site: Dropout = tape.dropout(p);
    dropout(tape, x, site)
}
