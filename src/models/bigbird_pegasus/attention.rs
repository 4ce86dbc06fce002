//! An encoder layer's attention: blocks of keys from a table, or all keys of a short input.

use super::{AttentionType, Config};
use crate::device::Device;
use crate::error::Result;
use crate::models::batch::DeviceSource;
use crate::models::block_plan::{BlockTable, PlanConfig, RandomBlocks, block_table, uses_full_attention};
use crate::models::config::Common;
use crate::models::encoder_decoder::EncoderAttention;
use crate::nn::{Bias, Builder, Linear, together};
use crate::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::tape::Tape;
use crate::tensor::Tensor;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How the encoder attends to a sequence.
#[derive(Clone)]
enum Pattern {
    Full,
    /// One table a layer.
    Blocks(Rc<Vec<Blocks>>),
}

/// By padded length and source of the random blocks: one table a layer.
type Tables = HashMap<(usize, RandomBlocks), Rc<Vec<Blocks>>>;

/// The patterns of all layers, which are constants and so built once.
pub struct Patterns {
    always_full: bool,
    plan: PlanConfig,
    layers: usize,
    heads: usize,
    /// Outside of training.
    random_blocks: RandomBlocks,
    tables: RefCell<Tables>,
}

impl Patterns {
    pub fn new(config: &Config, random_blocks: RandomBlocks) -> Self {
        Patterns {
            always_full: config.attention_type == AttentionType::OriginalFull,
            plan: config.plan(),
            layers: config.common.encoder_layers,
            heads: config.common.encoder_attention_heads,
            random_blocks,
            tables: RefCell::default(),
        }
    }

    /// Full attention for short inputs, decided for each batch alone.
    fn pattern(&self, tape: &Tape, source: &DeviceSource) -> Result<Pattern> {
        if self.always_full || uses_full_attention(source.len, &self.plan) {
            return Ok(Pattern::Full);
        }
        let random = match tape.is_training() {
            true => RandomBlocks::Drawn,
            false => self.random_blocks,
        };
        let length = source.ids.shape().last();
        if let Some(tables) = self.tables.borrow().get(&(length, random)) {
            return Ok(Pattern::Blocks(tables.clone()));
        }
        let tables = (0..self.layers)
            .map(|layer| {
                let table = block_table(layer as u32, self.heads, length, &self.plan, random)?;
                upload(source.ids.device(), &table)
            })
            .collect::<Result<Vec<_>>>()?;
        let tables = Rc::new(tables);
        self.tables.borrow_mut().insert((length, random), tables.clone());
        Ok(Pattern::Blocks(tables))
    }
}

fn upload(device: &Device, table: &BlockTable) -> Result<Blocks> {
    let (heads, inverse) = (table.heads, table.inverse());
    let [table, inverse] = [table, &inverse].map(|t| [&t.row_ptr[..], &t.col, &t.count]);
    Blocks::new(device, heads, table, inverse)
}

/// `model.encoder.layers.i.self_attn`.
pub struct BlockAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    block_size: usize,
    dropout: f32,
    layer: usize,
    patterns: Rc<Patterns>,
}

impl BlockAttention {
    pub fn new(
        builder: &mut Builder,
        prefix: &str,
        common: &Common,
        bias: Bias,
        layer: usize,
        patterns: Rc<Patterns>,
    ) -> Result<Self> {
        let c = common.d_model;
        let mut projection = |name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        Ok(BlockAttention {
            query: projection("self.query")?,
            key: projection("self.key")?,
            value: projection("self.value")?,
            output: projection("output")?,
            heads: common.encoder_attention_heads,
            block_size: patterns.plan.block_size,
            dropout: common.attention_dropout,
            layer,
            patterns,
        })
    }
}

impl EncoderAttention for BlockAttention {
    fn forward(&self, tape: &Tape, x: &Tensor, source: &DeviceSource) -> Result<Tensor> {
        let pattern = self.patterns.pattern(tape, source)?;
        let [q, k, v] = together(tape, x, [&self.query, &self.key, &self.value])?;
        let o = match &pattern {
            Pattern::Blocks(tables) => {
                let sparse = BlockSparse {
                    heads: self.heads,
                    block_size: self.block_size,
                    blocks: &tables[self.layer],
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
