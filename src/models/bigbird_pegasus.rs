//! BigBird-Pegasus: pre-norm, block-sparse encoder attention with random blocks.
//!
//! Zaheer et al. 2020, arXiv 2007.14062; HF `BigBirdPegasusForConditionalGeneration`.

mod config;
mod layers;

pub use config::{AttentionType, Config};

use super::batch::DeviceSource;
use super::block_plan::{BlockTable, RandomBlocks, block_table, uses_full_attention};
use super::{Limits, Model, Options};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{
    Bias, Builder, CrossAttention, Init, LayerCache, LayerNorm, Memory, StepAt, dropped, keys_values,
};
use crate::ops::Position;
use crate::ops::attention::block_sparse_attention::Blocks;
use crate::ops::embedding::{Lookup, embedding};
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::trace::phase;
use layers::{DecoderLayer, EncoderLayer, EncoderRun, Pattern};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// By padded length and source of the random blocks: one table a layer.
type Tables = HashMap<(usize, RandomBlocks), Rc<Vec<Blocks>>>;

/// The whole model; the head is the shared embedding, unscaled.
pub struct BigBirdPegasus {
    config: Config,
    options: Options,
    final_logits_bias: Tensor,
    shared: Tensor,
    encoder_positions: Tensor,
    encoder_layers: Vec<Rc<EncoderLayer>>,
    /// The encoder's last norm, despite HF's name `layernorm_embedding`.
    encoder_norm: LayerNorm,
    decoder_positions: Tensor,
    decoder_layers: Vec<Rc<DecoderLayer>>,
    decoder_norm: LayerNorm,
    /// Constants, so built once.
    tables: RefCell<Tables>,
}

impl BigBirdPegasus {
    pub fn new(builder: &mut Builder, config: &Config, options: Options) -> Result<Self> {
        let (c, v) = (config.d_model, config.vocab_size);
        let aliases =
            ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"];
        let pad = config.pad_token_id as usize;
        let mut positions = |side: &str| {
            let shape = [config.max_position_embeddings, c];
            builder.parameter(&format!("model.{side}.embed_positions.weight"), shape, Init::Normal)
        };
        let (encoder_positions, decoder_positions) = (positions("encoder")?, positions("decoder")?);
        let cross: Vec<String> = (0..config.decoder_layers)
            .map(|layer| format!("model.decoder.layers.{layer}.encoder_attn"))
            .collect();
        let (heads, bias) = (config.decoder_attention_heads, Bias::from(config.use_bias));
        let cross = CrossAttention::layers(builder, &cross, c, heads, bias, config.attention_dropout)?;
        Ok(BigBirdPegasus {
            config: config.clone(),
            options,
            final_logits_bias: builder.buffer("final_logits_bias", [1, v])?.reshape([v])?,
            shared: builder.tied("model.shared.weight", &aliases, [v, c], Init::Embedding { pad })?,
            encoder_positions,
            encoder_layers: (0..config.encoder_layers)
                .map(|layer| EncoderLayer::new(builder, config, layer).map(Rc::new))
                .collect::<Result<_>>()?,
            encoder_norm: LayerNorm::new(builder, "model.encoder.layernorm_embedding", c)?,
            decoder_positions,
            decoder_layers: cross
                .into_iter()
                .enumerate()
                .map(|(layer, cross)| DecoderLayer::new(builder, config, layer, cross).map(Rc::new))
                .collect::<Result<_>>()?,
            decoder_norm: LayerNorm::new(builder, "model.decoder.layernorm_embedding", c)?,
            tables: RefCell::default(),
        })
    }

    /// scale * tokens + positions for the first `placed` of each row, dropped out.
    fn embed(
        &self,
        tape: &Tape,
        ids: &Tensor,
        positions: &Tensor,
        past: Option<Position>,
        placed: usize,
    ) -> Result<Tensor> {
        let lookup = Lookup {
            table: &self.shared,
            positions,
            scale: match self.config.scale_embedding {
                true => (self.config.d_model as f32).sqrt(),
                false => 1.0,
            },
            pad: self.config.pad_token_id as usize,
            past,
            placed,
        };
        dropped(tape, &embedding(tape, ids, lookup)?, self.config.dropout)
    }

    /// Full attention for short inputs, decided for each batch alone.
    fn pattern(&self, tape: &Tape, source: &DeviceSource) -> Result<Pattern> {
        let full = self.config.attention_type == AttentionType::OriginalFull;
        if full || uses_full_attention(source.len, &self.config.plan()) {
            return Ok(Pattern::Full);
        }
        let random = match tape.is_training() {
            true => RandomBlocks::Drawn,
            false => self.options.random_blocks,
        };
        let length = source.ids.shape().last();
        if let Some(tables) = self.tables.borrow().get(&(length, random)) {
            return Ok(Pattern::Blocks(tables.clone()));
        }
        let heads = self.config.encoder_attention_heads;
        let tables = (0..self.config.encoder_layers)
            .map(|layer| {
                let table = block_table(layer as u32, heads, length, &self.config.plan(), random)?;
                upload(source.ids.device(), &table)
            })
            .collect::<Result<Vec<_>>>()?;
        let tables = Rc::new(tables);
        self.tables.borrow_mut().insert((length, random), tables.clone());
        Ok(Pattern::Blocks(tables))
    }

    /// The norm that follows decoder layer i.
    fn norm_after(&self, i: usize) -> &LayerNorm {
        self.decoder_layers.get(i + 1).map_or(&self.decoder_norm, |layer| &layer.self_attn_layer_norm)
    }

    /// Embedded tokens `[B, T, C]` and their first norm.
    fn begin_decoder(&self, tape: &Tape, ids: &Tensor, past: Option<Position>) -> Result<[Tensor; 2]> {
        let x = {
            let _phase = phase("decoder.embedding");
            self.embed(tape, ids, &self.decoder_positions, past, ids.shape().last())?
        };
        let _phase = phase("decoder.attention");
        let normed = self.decoder_layers[0].self_attn_layer_norm.forward(tape, &x)?;
        Ok([x, normed])
    }
}

fn upload(device: &Device, table: &BlockTable) -> Result<Blocks> {
    let (heads, inverse) = (table.heads, table.inverse());
    let [table, inverse] = [table, &inverse].map(|t| [&t.row_ptr[..], &t.col, &t.count]);
    Blocks::new(device, heads, table, inverse)
}

impl Model for BigBirdPegasus {
    fn limits(&self) -> Limits {
        Limits {
            vocab: self.config.vocab_size,
            max_source: self.config.max_position_embeddings,
            max_target: self.config.max_position_embeddings,
            source_multiple: self.config.block_size,
            has_global_attention: false,
            pad: self.config.pad_token_id as i32,
            bos: self.config.bos_token_id as i32,
            eos: self.config.eos_token_id as i32,
            decoder_start: self.config.decoder_start_token_id as i32,
        }
    }

    fn encode(&self, tape: &Tape, source: &DeviceSource) -> Result<Tensor> {
        let x = {
            let _phase = phase("encoder.embedding");
            self.embed(tape, &source.ids, &self.encoder_positions, None, source.len)?
        };
        let pattern = self.pattern(tape, source)?;
        let normed = {
            let _phase = phase("encoder.attention");
            self.encoder_layers[0].self_attn_layer_norm.forward(tape, &x)?
        };
        let mut state = [x, normed];
        for (i, layer) in self.encoder_layers.iter().enumerate() {
            let next = self
                .encoder_layers
                .get(i + 1)
                .map_or(&self.encoder_norm, |layer| &layer.self_attn_layer_norm);
            let run = EncoderRun {
                source: source.clone(),
                pattern: pattern.clone(),
                layer: i,
                dropout: self.config.dropout,
            };
            state = self.options.recompute.layer(tape, state, layer.parts(run, next.clone()))?;
        }
        let [_, normed] = state;
        Ok(normed)
    }

    fn decode(&self, tape: &Tape, ids: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        let mut state = self.begin_decoder(tape, ids, None)?;
        let (recompute, p) = (self.options.recompute, self.config.dropout);
        let layers: Vec<_> = self.decoder_layers.iter().map(|layer| &layer.encoder_attn).collect();
        let memories = Memory::of_layers(tape, &layers, memory, key_state, recompute)?;
        for (i, (layer, memory)) in self.decoder_layers.iter().zip(memories).enumerate() {
            let parts = layer.parts(memory, p, self.norm_after(i).clone());
            state = recompute.layer(tape, state, parts)?;
        }
        let [_, normed] = state;
        Ok(normed)
    }

    fn decode_step(
        &self,
        ids: &Tensor,
        caches: &[LayerCache],
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor> {
        let tape = Tape::off();
        let mut state = self.begin_decoder(&tape, ids, Some(at.position))?;
        for (i, (layer, cache)) in self.decoder_layers.iter().zip(caches).enumerate() {
            state = layer.attention(&tape, &state, 0.0, |attn, x| attn.causal_step(&tape, x, cache, at))?;
            state = layer.cross(&tape, &state, 0.0, |attn, x| attn.step(&tape, x, cache, key_state, at))?;
            state = layer.feed_forward(&tape, &state, 0.0, self.norm_after(i))?;
        }
        let [_, normed] = state;
        Ok(normed)
    }

    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()> {
        let tape = Tape::off();
        let layers: Vec<_> = self.decoder_layers.iter().map(|layer| &layer.encoder_attn).collect();
        let memory = keys_values(&tape, &layers, memory)?;
        caches.iter().zip(&memory).try_for_each(|(cache, kv)| cache.fill_cross(&tape, kv))
    }

    fn decoder_layers(&self) -> usize {
        self.decoder_layers.len()
    }

    fn d_model(&self) -> usize {
        self.config.d_model
    }

    fn head(&self) -> (&Tensor, &Tensor) {
        (&self.shared, &self.final_logits_bias)
    }
}
