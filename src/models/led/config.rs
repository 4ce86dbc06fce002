//! What `config.json` of a LED says, and which of it is refused.

use crate::error::Result;
use crate::models::check;
use crate::nn::FeedForwardConfig;
use crate::ops::activation::Activation;
use serde::{Deserialize, Serialize};

/// The keys of HF's `LEDConfig` that the model reads, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: usize,
    pub max_encoder_position_embeddings: usize,
    pub max_decoder_position_embeddings: usize,
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
    pub pad_token_id: i64,
    pub bos_token_id: i64,
    pub eos_token_id: i64,
    pub attention_window: AttentionWindow,
    pub tie_word_embeddings: bool,
}

/// One window for all encoder layers, or one each: tokens seen in all, half on each side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttentionWindow {
    Same(usize),
    PerLayer(Vec<usize>),
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vocab_size: 50265,
            max_encoder_position_embeddings: 16384,
            max_decoder_position_embeddings: 1024,
            encoder_layers: 12,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            decoder_layers: 12,
            decoder_ffn_dim: 4096,
            decoder_attention_heads: 16,
            encoder_layerdrop: 0.0,
            decoder_layerdrop: 0.0,
            activation_function: Activation::Gelu,
            d_model: 1024,
            dropout: 0.1,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            init_std: 0.02,
            decoder_start_token_id: 2,
            pad_token_id: 1,
            bos_token_id: 0,
            eos_token_id: 2,
            attention_window: AttentionWindow::Same(512),
            tie_word_embeddings: true,
        }
    }
}

impl Config {
    /// Ranges that keep every size addressable and every op defined.
    pub fn check(&self) -> Result<(), String> {
        check::range("vocab_size", self.vocab_size, 1, 1 << 24)?;
        check::range("d_model", self.d_model, 1, 1 << 16)?;
        for (key, value) in [("encoder_layers", self.encoder_layers), ("decoder_layers", self.decoder_layers)]
        {
            check::range(key, value, 1, 1000)?;
        }
        for (key, value) in [
            ("encoder_ffn_dim", self.encoder_ffn_dim),
            ("decoder_ffn_dim", self.decoder_ffn_dim),
            ("max_encoder_position_embeddings", self.max_encoder_position_embeddings),
            ("max_decoder_position_embeddings", self.max_decoder_position_embeddings),
        ] {
            check::range(key, value, 1, 1 << 20)?;
        }
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
        if let AttentionWindow::PerLayer(windows) = &self.attention_window
            && windows.len() != self.encoder_layers
        {
            return Err(format!(
                "attention_window lists {} windows for {} encoder layers",
                windows.len(),
                self.encoder_layers
            ));
        }
        for layer in 0..self.encoder_layers {
            let window = self.window(layer);
            check::range("attention_window", window, 2, 1 << 20)?;
            if !window.is_multiple_of(2) {
                return Err(format!("attention_window is {window}; it must be even"));
            }
        }
        check::tied(self.tie_word_embeddings)
    }

    /// Tokens that layer `layer` sees around each token, both sides together.
    pub(super) fn window(&self, layer: usize) -> usize {
        match &self.attention_window {
            AttentionWindow::Same(window) => *window,
            AttentionWindow::PerLayer(windows) => windows[layer],
        }
    }

    pub(super) fn feed_forward(&self, ffn_dim: usize) -> FeedForwardConfig {
        FeedForwardConfig {
            d_model: self.d_model,
            ffn_dim,
            activation: self.activation_function,
            activation_dropout: self.activation_dropout,
        }
    }
}
