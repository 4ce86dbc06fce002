//! BigBird-Pegasus: pre-norm, block-sparse encoder attention with random blocks.
//!
//! Zaheer et al. 2020, arXiv 2007.14062; HF `BigBirdPegasusForConditionalGeneration`.

mod attention;

use super::block_plan::PlanConfig;
use super::config::Common;
use super::encoder_decoder::{Design, EncoderDecoder, PRE_NORM, Positions};
use super::family::{self, Family};
use super::{Model, ModelLimits, ModelOptions, check};
use crate::error::Result;
use crate::nn::{Bias, Builder};
use crate::ops::activation::Activation;
use attention::{BlockAttention, Patterns};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

pub static FAMILY: Family = Family {
    name: "BigBird-Pegasus",
    model_type: "bigbird_pegasus",
    architecture: "BigBirdPegasusForConditionalGeneration",
    window_key: None,
    has_global_attention: false,
    has_random_blocks: true,
    becomes_led: false,
    target_begins_with_last_label: false,
    parse: |at, text| family::parse(at, text, Config::check),
};

/// The keys of HF's `BigBirdPegasusConfig` that the model reads, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub common: Common,
    pub max_position_embeddings: usize,
    pub scale_embedding: bool,
    pub attention_type: AttentionType,
    pub block_size: usize,
    pub num_random_blocks: usize,
    pub use_bias: bool,
}

/// The encoder's attention; short inputs fall back to full attention in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionType {
    BlockSparse,
    OriginalFull,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            common: Common {
                vocab_size: 96103,
                encoder_layers: 16,
                decoder_layers: 16,
                activation_function: Activation::GeluNew,
                pad_token_id: 0,
                bos_token_id: 2,
                eos_token_id: 1,
                ..Common::default()
            },
            max_position_embeddings: 4096,
            scale_embedding: true,
            attention_type: AttentionType::BlockSparse,
            block_size: 64,
            num_random_blocks: 3,
            use_bias: false,
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), String> {
        check::range("max_position_embeddings", self.max_position_embeddings, 1, 1 << 20)?;
        check::range("block_size", self.block_size, 1, 4096)?;
        check::range("num_random_blocks", self.num_random_blocks, 1, 1024)
    }

    fn plan(&self) -> PlanConfig {
        PlanConfig {
            block_size: self.block_size,
            num_random_blocks: self.num_random_blocks,
            max_position: self.max_position_embeddings,
        }
    }
}

impl family::Config for Config {
    fn family(&self) -> &'static Family {
        &FAMILY
    }

    fn common(&self) -> &Common {
        &self.common
    }

    fn limits(&self) -> ModelLimits {
        let limits = self.common.limits([self.max_position_embeddings; 2]);
        ModelLimits { source_multiple: self.block_size, ..limits }
    }

    fn build(&self, builder: &mut Builder, options: ModelOptions) -> Result<Box<dyn Model>> {
        let (common, bias) = (&self.common, Bias::from(self.use_bias));
        let design = Design {
            prefix: "model",
            embed_scale: common.embed_scale(self.scale_embedding),
            positions: [Positions::Learned(self.max_position_embeddings); 2],
            embedding_norm: false,
            // Despite its name.
            final_norm: Some("layernorm_embedding"),
            bias,
            // HF's encoder layer has no activation dropout.
            encoder_activation_dropout: 0.0,
            limits: self.limits(),
        };
        let patterns = Rc::new(Patterns::new(self, options.random_blocks));
        let model =
            EncoderDecoder::<PRE_NORM>::new(builder, common, design, options, |builder, name, layer| {
                Ok(Box::new(BlockAttention::new(builder, name, common, bias, layer, patterns.clone())?))
            })?;
        Ok(Box::new(model))
    }
}
