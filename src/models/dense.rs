//! What the families share whose encoder attends densely: every token of the input sees every other.
//!
//! BART, mBART and Pegasus differ in where their norms stand and in what their positions are. Configurations
//! written before transformers 4 say so in [`Keys`]' last four; since then the family decides.

use super::batch::DeviceSource;
use super::config::Common;
use super::encoder_decoder::{Design, EncoderAttention, EncoderDecoder, POST_NORM, PRE_NORM, Positions};
use super::family::{Config, Family};
use super::{Model, ModelLimits, ModelOptions, check};
use crate::error::Result;
use crate::nn::{Attention, Bias, Builder};
use crate::tape::Tape;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// The keys of HF's configuration that the models read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    #[serde(flatten)]
    pub common: Common,
    pub max_position_embeddings: usize,
    pub scale_embedding: bool,
    /// Pre-norm.
    pub normalize_before: bool,
    /// Whether a norm follows the embedding.
    pub normalize_embedding: bool,
    /// Whether a norm follows the last layer.
    pub add_final_layer_norm: bool,
    /// Sinusoids instead of a learned table.
    pub static_position_embeddings: bool,
}

impl Default for Keys {
    /// Those of a BART.
    fn default() -> Self {
        Keys {
            common: Common::default(),
            max_position_embeddings: 1024,
            scale_embedding: false,
            normalize_before: false,
            normalize_embedding: true,
            add_final_layer_norm: false,
            static_position_embeddings: false,
        }
    }
}

impl Keys {
    fn check(&self, family: &Keys, name: &str) -> Result<(), String> {
        self.common.check()?;
        check::range("max_position_embeddings", self.max_position_embeddings, 1, 1 << 20)?;
        for (key, value, wanted) in [
            ("normalize_before", self.normalize_before, family.normalize_before),
            ("normalize_embedding", self.normalize_embedding, family.normalize_embedding),
            ("add_final_layer_norm", self.add_final_layer_norm, family.add_final_layer_norm),
            (
                "static_position_embeddings",
                self.static_position_embeddings,
                family.static_position_embeddings,
            ),
        ] {
            if value != wanted {
                return Err(format!(
                    "{key} is {value}, and in a {name} of transformers 5 it is {wanted}; \
                     the weights belong to another architecture"
                ));
            }
        }
        Ok(())
    }
}

/// A configuration of one of the families.
#[derive(Debug)]
struct Dense {
    family: &'static Family,
    keys: Keys,
}

/// Reads a configuration of `family`, whose keys are `defaults` where `text` lacks them.
pub fn parse(family: &'static Family, defaults: &Keys, at: &str, text: &str) -> Result<Rc<dyn Config>> {
    let keys = check::parse(defaults, at, text, |keys: &Keys| keys.check(defaults, family.name))?;
    Ok(Rc::new(Dense { family, keys }))
}

impl Config for Dense {
    fn family(&self) -> &'static Family {
        self.family
    }

    fn common(&self) -> &Common {
        &self.keys.common
    }

    fn limits(&self) -> ModelLimits {
        let Family { becomes_led, target_begins_with_last_label, .. } = *self.family;
        let limits = self.keys.common.limits([self.keys.max_position_embeddings; 2]);
        ModelLimits { becomes_led, target_begins_with_last_label, ..limits }
    }

    fn build(&self, builder: &mut Builder, options: ModelOptions) -> Result<Box<dyn Model>> {
        let Dense { keys, .. } = self;
        let common = &keys.common;
        let rows = keys.max_position_embeddings;
        let positions = match keys.static_position_embeddings {
            true => Positions::Sinusoids(rows),
            // HF's tables begin with two rows that no position uses.
            false => Positions::LearnedAfter { unused: 2, rows },
        };
        let design = Design {
            prefix: "model",
            embed_scale: common.embed_scale(keys.scale_embedding),
            positions: [positions; 2],
            embedding_norm: keys.normalize_embedding,
            final_norm: keys.add_final_layer_norm.then_some("layer_norm"),
            bias: Bias::With,
            encoder_activation_dropout: common.activation_dropout,
            limits: self.limits(),
        };
        let attention = |builder: &mut Builder, name: &str, _| -> Result<Box<dyn EncoderAttention>> {
            let (c, heads) = (common.d_model, common.encoder_attention_heads);
            Ok(Box::new(Attention::new(builder, name, c, heads, Bias::With, common.attention_dropout)?))
        };
        Ok(match keys.normalize_before {
            true => Box::new(EncoderDecoder::<PRE_NORM>::new(builder, common, design, options, attention)?),
            false => Box::new(EncoderDecoder::<POST_NORM>::new(builder, common, design, options, attention)?),
        })
    }
}

impl EncoderAttention for Attention {
    fn forward(&self, tape: &Tape, x: &Tensor, source: &DeviceSource) -> Result<Tensor> {
        self.bidirectional(tape, x, &source.key_state)
    }
}
