//! BigBird-Pegasus: pre-norm, block-sparse encoder attention with random blocks.
//!
//! Zaheer et al. 2020, arXiv 2007.14062; HF `BigBirdPegasusForConditionalGeneration`.

use super::batch::DeviceSource;
use super::block_plan::{BlockTable, PlanConfig, RandomBlocks, block_table, uses_full_attention};
use super::{Limits, Model, Options, check};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{
    Attention, Bias, Builder, FeedForward, FeedForwardConfig, Init, LayerCache, LayerNorm, Linear, StepAt,
    dropped,
};
use crate::ops::activation::Activation;
use crate::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::embedding::{Lookup, embedding};
use crate::shape::DType;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::trace::phase;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

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

    fn plan(&self) -> PlanConfig {
        PlanConfig {
            block_size: self.block_size,
            num_random_blocks: self.num_random_blocks,
            max_position: self.max_position_embeddings,
        }
    }

    fn feed_forward(&self, ffn_dim: usize, activation_dropout: f32) -> FeedForwardConfig {
        FeedForwardConfig {
            d_model: self.d_model,
            ffn_dim,
            activation: self.activation_function,
            activation_dropout,
        }
    }
}

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
        let q = self.query.forward(tape, x)?;
        let k = self.key.forward(tape, x)?;
        let v = self.value.forward(tape, x)?;
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
    encoder_attn: Attention,
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
    fn new(builder: &mut Builder, config: &Config, layer: usize) -> Result<Self> {
        let (name, c) = (format!("model.decoder.layers.{layer}"), config.d_model);
        let (heads, p) = (config.decoder_attention_heads, config.attention_dropout);
        let bias = Bias::from(config.use_bias);
        let ffn = config.feed_forward(config.decoder_ffn_dim, config.activation_dropout);
        let part = |part: &str| format!("{name}.{part}");
        Ok(DecoderLayer {
            self_attn: Attention::new(builder, &part("self_attn"), c, heads, bias, p)?,
            self_attn_layer_norm: LayerNorm::new(builder, &part("self_attn_layer_norm"), c)?,
            encoder_attn: Attention::new(builder, &part("encoder_attn"), c, heads, bias, p)?,
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
            decoder_layers: (0..config.decoder_layers)
                .map(|layer| DecoderLayer::new(builder, config, layer))
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
        cross_attn: impl Fn(usize, &Attention, &Tensor) -> Result<Tensor>,
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
    let persistent = |values: &[i32]| -> Result<Tensor> {
        let tensor = Tensor::persistent(device, [values.len()], DType::I32)?;
        tensor.write(values)?;
        Ok(tensor)
    };
    let inverse = table.inverse();
    Ok(Blocks {
        row_ptr: persistent(&table.row_ptr)?,
        col: persistent(&table.col)?,
        count: persistent(&table.count)?,
        inverse_row_ptr: persistent(&inverse.row_ptr)?,
        inverse_col: persistent(&inverse.col)?,
        inverse_count: persistent(&inverse.count)?,
    })
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
        self.decoder(
            tape,
            x,
            |_, attn, x| attn.causal(tape, x),
            |_, attn, x| attn.cross(tape, x, memory, key_state),
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
            |i, attn, x| attn.cross_step(&tape, x, &caches[i], key_state),
        )
    }

    fn fill_caches(&self, memory: &Tensor, caches: &[LayerCache]) -> Result<()> {
        let _phase = phase("decoder.cross");
        let tape = Tape::off();
        for (layer, cache) in self.decoder_layers.iter().zip(caches) {
            layer.encoder_attn.fill_cross(&tape, memory, cache)?;
        }
        Ok(())
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
