//! What every family's `config.json` holds.

use super::{ModelLimits, check};
use crate::error::Result;
use crate::nn::FeedForwardConfig;
use crate::ops::activation::Activation;
use serde::{Deserialize, Serialize};

/// The keys that all families have, with their meaning in HF.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Common {
    pub vocab_size: usize,
    pub d_model: usize,
    pub encoder_layers: usize,
    pub encoder_ffn_dim: usize,
    pub encoder_attention_heads: usize,
    pub encoder_layerdrop: f32,
    pub decoder_layers: usize,
    pub decoder_ffn_dim: usize,
    pub decoder_attention_heads: usize,
    pub decoder_layerdrop: f32,
    pub activation_function: Activation,
    pub dropout: f32,
    pub attention_dropout: f32,
    pub activation_dropout: f32,
    pub init_std: f32,
    pub pad_token_id: i64,
    pub bos_token_id: i64,
    pub eos_token_id: i64,
    pub decoder_start_token_id: i64,
    pub tie_word_embeddings: bool,
}

impl Default for Common {
    /// Those of HF's `BartConfig`, from which the other families' differ in some keys.
    fn default() -> Self {
        Common {
            vocab_size: 50265,
            d_model: 1024,
            encoder_layers: 12,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            encoder_layerdrop: 0.0,
            decoder_layers: 12,
            decoder_ffn_dim: 4096,
            decoder_attention_heads: 16,
            decoder_layerdrop: 0.0,
            activation_function: Activation::Gelu,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            pad_token_id: 1,
            bos_token_id: 0,
            eos_token_id: 2,
            decoder_start_token_id: 2,
            tie_word_embeddings: true,
        }
    }
}

impl Common {
    /// Ranges that keep every size addressable and every op defined.
    pub fn check(&self) -> Result<(), String> {
        check::range("vocab_size", self.vocab_size, 1, 1 << 24)?;
        check::range("d_model", self.d_model, 1, 1 << 16)?;
        check::range("encoder_layers", self.encoder_layers, 1, 1000)?;
        check::range("decoder_layers", self.decoder_layers, 1, 1000)?;
        check::range("encoder_ffn_dim", self.encoder_ffn_dim, 1, 1 << 20)?;
        check::range("decoder_ffn_dim", self.decoder_ffn_dim, 1, 1 << 20)?;
        check::heads("encoder_attention_heads", self.d_model, self.encoder_attention_heads)?;
        check::heads("decoder_attention_heads", self.d_model, self.decoder_attention_heads)?;
        check::probability("dropout", self.dropout)?;
        check::probability("attention_dropout", self.attention_dropout)?;
        check::probability("activation_dropout", self.activation_dropout)?;
        check::no_layerdrop("encoder_layerdrop", self.encoder_layerdrop)?;
        check::no_layerdrop("decoder_layerdrop", self.decoder_layerdrop)?;
        check::token("pad_token_id", self.pad_token_id, self.vocab_size)?;
        check::token("bos_token_id", self.bos_token_id, self.vocab_size)?;
        check::token("eos_token_id", self.eos_token_id, self.vocab_size)?;
        check::token("decoder_start_token_id", self.decoder_start_token_id, self.vocab_size)?;
        check::tied(self.tie_word_embeddings)
    }

    /// The limits of a model with positions for so many tokens of input and output, and no more to it.
    pub fn limits(&self, [max_source, max_target]: [usize; 2]) -> ModelLimits {
        ModelLimits {
            vocab: self.vocab_size,
            max_source,
            max_target,
            source_multiple: 1,
            has_global_attention: false,
            pad: self.pad_token_id as i32,
            bos: self.bos_token_id as i32,
            eos: self.eos_token_id as i32,
            decoder_start: self.decoder_start_token_id as i32,
            becomes_led: false,
            target_begins_with_last_label: false,
        }
    }

    /// What HF multiplies token embeddings by under `scale_embedding`.
    pub fn embed_scale(&self, scale_embedding: bool) -> f32 {
        match scale_embedding {
            true => (self.d_model as f32).sqrt(),
            false => 1.0,
        }
    }

    pub fn feed_forward(&self, ffn_dim: usize, activation_dropout: f32) -> FeedForwardConfig {
        FeedForwardConfig {
            d_model: self.d_model,
            ffn_dim,
            activation: self.activation_function,
            activation_dropout,
        }
    }
}
