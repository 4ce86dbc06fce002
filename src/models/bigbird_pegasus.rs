//! BigBird-Pegasus: pre-norm, block-sparse encoder attention with random blocks.
//!
//! Zaheer et al. 2020, arXiv 2007.14062; HF `BigBirdPegasusForConditionalGeneration`.

mod config;

pub use config::{AttentionType, Config};

use super::batch::DeviceSource;
use super::block_plan::{BlockTable, RandomBlocks, block_table, uses_full_attention};
use super::{Limits, Model, Options};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{
    Attention, Bias, Builder, CrossAttention, FeedForward, Init, LayerCache, LayerNorm, Linear, StepAt,
    dropped, keys_values, together,
};
use crate::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::embedding::{Lookup, embedding};
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::trace::phase;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How an encoder layer attends to the sequence at hand.
enum Pattern {
    Full,
    Blocks(Rc<Vec<Blocks>>),
}

/// `model.encoder.layers.i.self_attn`.
struct EncoderAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    block_size: usize,
    dropout: f32,
}

impl EncoderAttention {
    fn new(builder: &mut Builder, prefix: &str, config: &Config) -> Result<Self> {
        let (c, bias) = (config.d_model, Bias::from(config.use_bias));
        let mut projection = |name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        Ok(EncoderAttention {
            query: projection("self.query")?,
            key: projection("self.key")?,
            value: projection("self.value")?,
            output: projection("output")?,
            heads: config.encoder_attention_heads,
            block_size: config.block_size,
            dropout: config.attention_dropout,
        })
    }

    fn forward(
        &self,
        tape: &Tape,
        x: &Tensor,
        source: &DeviceSource,
        pattern: &Pattern,
        layer: usize,
    ) -> Result<Tensor> {
        let [q, k, v] = together(tape, x, [&self.query, &self.key, &self.value])?;
        let o = match pattern {
            Pattern::Blocks(tables) => {
                let sparse = BlockSparse {
                    heads: self.heads,
                    block_size: self.block_size,
                    blocks: &tables[layer],
                    key_state: &source.key_state,
                };
                block_sparse_attention(tape, &q, &k, &v, sparse)?
            }
            Pattern::Full => {
                let dense = Dense {
                    heads: self.heads,
                    key_len: x.shape().dims3("bigbird_pegasus")?[1],
                    causal: None,
                    key_state: Some(&source.key_state),
                    dropout: tape.dropout(self.dropout),
                };
                dense_attention(tape, &q, &k, &v, dense)?
            }
        };
        self.output.forward(tape, &o)
    }
}

/// `model.encoder.layers.i`; each sublayer's residual add is fused with the next norm.
struct EncoderLayer {
    self_attn: EncoderAttention,
    self_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

/// `model.decoder.layers.i`.
struct DecoderLayer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    encoder_attn: CrossAttention,
    encoder_attn_layer_norm: LayerNorm,
    ffn: FeedForward,
    final_layer_norm: LayerNorm,
}

impl EncoderLayer {
    fn new(builder: &mut Builder, config: &Config, layer: usize) -> Result<Self> {
        let (name, c) = (format!("model.encoder.layers.{layer}"), config.d_model);
        Ok(EncoderLayer {
            self_attn: EncoderAttention::new(builder, &format!("{name}.self_attn"), config)?,
            self_attn_layer_norm: LayerNorm::new(builder, &format!("{name}.self_attn_layer_norm"), c)?,
            // HF's encoder layer has no activation dropout.
            ffn: FeedForward::new(builder, &name, config.feed_forward(config.encoder_ffn_dim, 0.0))?,
            final_layer_norm: LayerNorm::new(builder, &format!("{name}.final_layer_norm"), c)?,
        })
    }
}

impl DecoderLayer {
    fn new(
        builder: &mut Builder,
        config: &Config,
        layer: usize,
        encoder_attn: CrossAttention,
    ) -> Result<Self> {
        let (name, c) = (format!("model.decoder.layers.{layer}"), config.d_model);
        let (heads, p) = (config.decoder_attention_heads, config.attention_dropout);
        let bias = Bias::from(config.use_bias);
        let ffn = config.feed_forward(config.decoder_ffn_dim, config.activation_dropout);
        let part = |part: &str| format!("{name}.{part}");
        Ok(DecoderLayer {
            self_attn: Attention::new(builder, &part("self_attn"), c, heads, bias, p)?,
            self_attn_layer_norm: LayerNorm::new(builder, &part("self_attn_layer_norm"), c)?,
            encoder_attn,
            encoder_attn_layer_norm: LayerNorm::new(builder, &part("encoder_attn_layer_norm"), c)?,
            ffn: FeedForward::new(builder, &name, ffn)?,
            final_layer_norm: LayerNorm::new(builder, &part("final_layer_norm"), c)?,
        })
    }
}

/// By padded length and source of the random blocks: one table a layer.
type Tables = HashMap<(usize, RandomBlocks), Rc<Vec<Blocks>>>;

/// The whole model; the head is the shared embedding, unscaled.
pub struct BigBirdPegasus {
    config: Config,
    options: Options,
    final_logits_bias: Tensor,
    shared: Tensor,
    encoder_positions: Tensor,
    encoder_layers: Vec<EncoderLayer>,
    /// The encoder's last norm, despite HF's name `layernorm_embedding`.
    encoder_norm: LayerNorm,
    decoder_positions: Tensor,
    decoder_layers: Vec<DecoderLayer>,
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
                .map(|layer| EncoderLayer::new(builder, config, layer))
                .collect::<Result<_>>()?,
            encoder_norm: LayerNorm::new(builder, "model.encoder.layernorm_embedding", c)?,
            decoder_positions,
            decoder_layers: cross
                .into_iter()
                .enumerate()
                .map(|(layer, cross)| DecoderLayer::new(builder, config, layer, cross))
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
        past: usize,
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

    /// Every decoder layer's cross-attention keys and values of `memory` `[B, S, C]`.
    fn keys_values(&self, tape: &Tape, memory: &Tensor) -> Result<Vec<[Tensor; 2]>> {
        let _phase = phase("decoder.cross");
        let layers: Vec<_> = self.decoder_layers.iter().map(|layer| &layer.encoder_attn).collect();
        keys_values(tape, &layers, memory)
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

    /// The decoder, given how its two attentions are computed in layer i.
    fn decoder(
        &self,
        tape: &Tape,
        mut x: Tensor,
        self_attn: impl Fn(usize, &Attention, &Tensor) -> Result<Tensor>,
        cross_attn: impl Fn(usize, &CrossAttention, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let p = self.config.dropout;
        let mut normed = {
            let _phase = phase("decoder.attention");
            self.decoder_layers[0].self_attn_layer_norm.forward(tape, &x)?
        };
        for (i, layer) in self.decoder_layers.iter().enumerate() {
            {
                let _phase = phase("decoder.attention");
                let a = self_attn(i, &layer.self_attn, &normed)?;
                (x, normed) = layer.encoder_attn_layer_norm.residual(tape, &x, &a, p)?;
            }
            {
                let _phase = phase("decoder.cross");
                let a = cross_attn(i, &layer.encoder_attn, &normed)?;
                (x, normed) = layer.final_layer_norm.residual(tape, &x, &a, p)?;
            }
            let _phase = phase("decoder.ffn");
            let f = layer.ffn.forward(tape, &normed)?;
            let next = self.decoder_layers.get(i + 1).map(|l| &l.self_attn_layer_norm);
            (x, normed) = next.unwrap_or(&self.decoder_norm).residual(tape, &x, &f, p)?;
        }
        Ok(normed)
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
        let mut x = {
            let _phase = phase("encoder.embedding");
            self.embed(tape, &source.ids, &self.encoder_positions, 0, source.len)?
        };
        let pattern = self.pattern(tape, source)?;
        let p = self.config.dropout;
        let mut normed = {
            let _phase = phase("encoder.attention");
            self.encoder_layers[0].self_attn_layer_norm.forward(tape, &x)?
        };
        for (i, layer) in self.encoder_layers.iter().enumerate() {
            {
                let _phase = phase("encoder.attention");
                let a = layer.self_attn.forward(tape, &normed, source, &pattern, i)?;
                (x, normed) = layer.final_layer_norm.residual(tape, &x, &a, p)?;
            }
            let _phase = phase("encoder.ffn");
            let f = layer.ffn.forward(tape, &normed)?;
            let next = self.encoder_layers.get(i + 1).map(|l| &l.self_attn_layer_norm);
            (x, normed) = next.unwrap_or(&self.encoder_norm).residual(tape, &x, &f, p)?;
        }
        Ok(normed)
    }

    fn decode(&self, tape: &Tape, ids: &Tensor, memory: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        let x = {
            let _phase = phase("decoder.embedding");
            self.embed(tape, ids, &self.decoder_positions, 0, ids.shape().last())?
        };
        let memory = self.keys_values(tape, memory)?;
        self.decoder(
            tape,
            x,
            |_, attn, x| attn.causal(tape, x),
            |i, attn, x| attn.attend(tape, x, memory[i].each_ref(), key_state),
        )
    }

    fn decode_step(
        &self,
        ids: &Tensor,
        caches: &[LayerCache],
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor> {
        let tape = Tape::off();
        let x = self.embed(&tape, ids, &self.decoder_positions, at.position, 1)?;
        self.decoder(
            &tape,
            x,
            |i, attn, x| attn.causal_step(&tape, x, &caches[i], at),
            |i, attn, x| attn.step(&tape, x, &caches[i], key_state, at),
        )
    }

    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()> {
        let tape = Tape::off();
        let memory = self.keys_values(&tape, memory)?;
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
