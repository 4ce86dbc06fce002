//! LED, the Longformer-Encoder-Decoder: post-norm, sliding-window encoder with global tokens.
//!
//! Beltagy et al. 2020, arXiv 2004.05150; HF `LEDForConditionalGeneration`.

mod attention;

use super::config::Common;
use super::encoder_decoder::{Design, EncoderDecoder, POST_NORM, Positions};
use super::family::{self, Family};
use super::{Model, ModelLimits, ModelOptions, check};
use crate::error::Result;
use crate::nn::{Bias, Builder};
use attention::WindowAttention;
use serde::{Deserialize, Serialize};

pub static FAMILY: Family = Family {
    name: "LED",
    model_type: "led",
    architecture: "LEDForConditionalGeneration",
    window_key: Some("attention_window"),
    has_global_attention: true,
    has_random_blocks: false,
    becomes_led: false,
    target_begins_with_last_label: false,
    parse: |at, text| family::parse(at, text, Config::check),
};

/// The keys of HF's `LEDConfig` that the model reads, with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(flatten)]
    pub common: Common,
    pub max_encoder_position_embeddings: usize,
    pub max_decoder_position_embeddings: usize,
    pub attention_window: AttentionWindow,
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
            common: Common::default(),
            max_encoder_position_embeddings: 16384,
            max_decoder_position_embeddings: 1024,
            attention_window: AttentionWindow::Same(512),
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("max_encoder_position_embeddings", self.max_encoder_position_embeddings),
            ("max_decoder_position_embeddings", self.max_decoder_position_embeddings),
        ] {
            check::range(key, value, 1, 1 << 20)?;
        }
        if let AttentionWindow::PerLayer(windows) = &self.attention_window
            && windows.len() != self.common.encoder_layers
        {
            return Err(format!(
                "attention_window lists {} windows for {} encoder layers",
                windows.len(),
                self.common.encoder_layers
            ));
        }
        for layer in 0..self.common.encoder_layers {
            let window = self.window(layer);
            check::range("attention_window", window, 2, 1 << 20)?;
            if !window.is_multiple_of(2) {
                return Err(format!("attention_window is {window}; it must be even"));
            }
        }
        Ok(())
    }

    /// Tokens that layer `layer` sees around each token, both sides together.
    fn window(&self, layer: usize) -> usize {
        match &self.attention_window {
            AttentionWindow::Same(window) => *window,
            AttentionWindow::PerLayer(windows) => windows[layer],
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
        let positions = [self.max_encoder_position_embeddings, self.max_decoder_position_embeddings];
        ModelLimits { has_global_attention: true, ..self.common.limits(positions) }
    }

    fn build(&self, builder: &mut Builder, options: ModelOptions) -> Result<Box<dyn Model>> {
        let common = &self.common;
        let limits = self.limits();
        let design = Design {
            prefix: "led",
            embed_scale: 1.0,
            positions: [limits.max_source, limits.max_target].map(Positions::Learned),
            embedding_norm: true,
            final_norm: None,
            bias: Bias::With,
            encoder_activation_dropout: common.activation_dropout,
            limits,
        };
        let model =
            EncoderDecoder::<POST_NORM>::new(builder, common, design, options, |builder, name, layer| {
                Ok(Box::new(WindowAttention::new(builder, name, common, self.window(layer))?))
            })?;
        Ok(Box::new(model))
    }
}
