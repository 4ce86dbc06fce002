//! What `config.json` of a BigBird-Pegasus says, and which of it is refused.

use crate::error::Result;
use crate::models::block_plan::PlanConfig;
use crate::models::check;
use crate::nn::FeedForwardConfig;
use crate::ops::activation::Activation;
use serde::{Deserialize, Serialize};

/// The keys of HF's `BigBirdPegasusConfig` that the model reads, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    pub encoder_layers: usize,
    pub encoder_ffn_dim: usize,
    pub encoder_attention_heads: usize,
    pub decoder_layers: usize,
    pub decoder_ffn_dim: usize,
    pub decoder_attention_heads: usize,
    pub encoder_layerdrop: f32,
    pub decoder_layerdrop: f32,
    pub activation_function: Activation,
    pub d_model: usize,
    pub dropout: f32,
    pub attention_dropout: f32,
    pub activation_dropout: f32,
    pub init_std: f32,
    pub decoder_start_token_id: i64,
    pub scale_embedding: bool,
    pub pad_token_id: i64,
    pub bos_token_id: i64,
    pub eos_token_id: i64,
    pub attention_type: AttentionType,
    pub block_size: usize,
    pub num_random_blocks: usize,
    pub use_bias: bool,
    pub tie_word_embeddings: bool,
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
            vocab_size: 96103,
            max_position_embeddings: 4096,
            encoder_layers: 16,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            decoder_layers: 16,
            decoder_ffn_dim: 4096,
            decoder_attention_heads: 16,
            encoder_layerdrop: 0.0,
            decoder_layerdrop: 0.0,
            activation_function: Activation::GeluNew,
            d_model: 1024,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            decoder_start_token_id: 2,
            scale_embedding: true,
            pad_token_id: 0,
            bos_token_id: 2,
            eos_token_id: 1,
            attention_type: AttentionType::BlockSparse,
            block_size: 64,
            num_random_blocks: 3,
            use_bias: false,
            tie_word_embeddings: true,
        }
    }
}

impl Config {
    /// Ranges that keep every size addressable and every op defined.
    pub fn check(&self) -> Result<(), String> {
        check::range("vocab_size", self.vocab_size, 1, 1 << 24)?;
        check::range("d_model", self.d_model, 1, 1 << 16)?;
        check::range("encoder_layers", self.encoder_layers, 1, 1000)?;
        check::range("decoder_layers", self.decoder_layers, 1, 1000)?;
        for (key, value) in [
            ("encoder_ffn_dim", self.encoder_ffn_dim),
            ("decoder_ffn_dim", self.decoder_ffn_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            check::range(key, value, 1, 1 << 20)?;
        }
        check::range("block_size", self.block_size, 1, 4096)?;
        check::range("num_random_blocks", self.num_random_blocks, 1, 1024)?;
        check::heads("encoder_attention_heads", self.d_model, self.encoder_attention_heads)?;
        check::heads("decoder_attention_heads", self.d_model, self.decoder_attention_heads)?;
        for (key, p) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("activation_dropout", self.activation_dropout),
        ] {
            check::probability(key, p)?;
        }
        check::no_layerdrop("encoder_layerdrop", self.encoder_layerdrop)?;
        check::no_layerdrop("decoder_layerdrop", self.decoder_layerdrop)?;
        for (key, id) in [
            ("pad_token_id", self.pad_token_id),
            ("bos_token_id", self.bos_token_id),
            ("eos_token_id", self.eos_token_id),
            ("decoder_start_token_id", self.decoder_start_token_id),
        ] {
            check::token(key, id, self.vocab_size)?;
        }
        check::tied(self.tie_word_embeddings)
    }

    pub(super) fn plan(&self) -> PlanConfig {
        PlanConfig {
            block_size: self.block_size,
            num_random_blocks: self.num_random_blocks,
            max_position: self.max_position_embeddings,
        }
    }

    pub(super) fn feed_forward(&self, ffn_dim: usize, activation_dropout: f32) -> FeedForwardConfig {
        FeedForwardConfig {
            d_model: self.d_model,
            ffn_dim,
            activation: self.activation_function,
            activation_dropout,
        }
    }
}
