//! Multi-head attention of the decoders, to themselves and to the encoder, with or without a key-value cache.

use super::{Bias, Builder, Linear, all_together, together};
use crate::error::Result;
use crate::ops::Position;
use crate::ops::attention::decode_attention::{Cached, Keys, decode_attention};
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::ops::rows;
use crate::tape::{Recompute, Tape};
use crate::tensor::Tensor;
use crate::trace::phase;

/// `self_attn` of a decoder layer, and of an encoder layer that attends densely (HF `BartAttention`).
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    dropout: f32,
}

impl Attention {
    pub fn new(
        builder: &mut Builder,
        prefix: &str,
        c: usize,
        heads: usize,
        bias: Bias,
        dropout: f32,
    ) -> Result<Self> {
        let mut proj = |name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        Ok(Attention {
            q_proj: proj("q_proj")?,
            k_proj: proj("k_proj")?,
            v_proj: proj("v_proj")?,
            out_proj: proj("out_proj")?,
            heads,
            dropout,
        })
    }

    /// Each of x `[B, T, C]` attends to itself and to what stands before it.
    pub fn causal(&self, tape: &Tape, x: &Tensor) -> Result<Tensor> {
        self.attend(tape, x, Some(0), None)
    }

    /// Each of x `[B, S, C]` attends to all that `key_state` `[B, S]` does not mask.
    pub fn bidirectional(&self, tape: &Tape, x: &Tensor, key_state: &Tensor) -> Result<Tensor> {
        self.attend(tape, x, None, Some(key_state))
    }

    fn attend(
        &self,
        tape: &Tape,
        x: &Tensor,
        causal: Option<usize>,
        key_state: Option<&Tensor>,
    ) -> Result<Tensor> {
        let [q, k, v] = together(tape, x, [&self.q_proj, &self.k_proj, &self.v_proj])?;
        let key_len = x.shape().dims3("attention")?[1];
        let dropout = tape.dropout(self.dropout);
        let pattern = Dense { heads: self.heads, key_len, causal, key_state, dropout };
        self.out_proj.forward(tape, &dense_attention(tape, &q, &k, &v, pattern)?)
    }

    /// One new row x `[N, 1, C]` at `position` attends to the cached ones and itself.
    pub fn causal_step(&self, tape: &Tape, x: &Tensor, cache: &LayerCache, at: &StepAt) -> Result<Tensor> {
        let [q, k, v] = together(tape, x, [&self.q_proj, &self.k_proj, &self.v_proj])?;
        rows::store(tape, &cache.self_k, &k, Some(at.places))?;
        rows::store(tape, &cache.self_v, &v, Some(at.places))?;
        let cached = Cached {
            heads: self.heads,
            k: &cache.self_k,
            v: &cache.self_v,
            index: at.past,
            beams: 1,
            keys: Keys::UpTo(at.position),
            key_state: None,
        };
        self.out_proj.forward(tape, &decode_attention(tape, &q, cached)?)
    }
}

/// `encoder_attn` of a decoder layer: its keys and values are those of the encoder's states.
pub struct CrossAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    dropout: f32,
}

impl CrossAttention {
    /// One for each of `prefixes`. The projections of keys and values come first and lie together, so
    /// that those of all layers are one product.
    pub fn layers(
        builder: &mut Builder,
        prefixes: &[String],
        c: usize,
        heads: usize,
        bias: Bias,
        dropout: f32,
    ) -> Result<Vec<Self>> {
        let mut proj =
            |prefix: &str, name: &str| Linear::new(builder, &format!("{prefix}.{name}"), [c, c], bias);
        let mut keys_values = Vec::with_capacity(prefixes.len());
        for prefix in prefixes {
            keys_values.push((proj(prefix, "k_proj")?, proj(prefix, "v_proj")?));
        }
        let layer = |(prefix, (k_proj, v_proj)): (&String, (Linear, Linear))| {
            let (q_proj, out_proj) = (proj(prefix, "q_proj")?, proj(prefix, "out_proj")?);
            Ok(CrossAttention { q_proj, k_proj, v_proj, out_proj, heads, dropout })
        };
        prefixes.iter().zip(keys_values).map(layer).collect()
    }

    /// Each of x `[B, T, C]` attends to the unmasked of `memory`.
    pub fn attend_memory(&self, tape: &Tape, x: &Tensor, memory: &Memory) -> Result<Tensor> {
        match &memory.kind {
            MemoryKind::Projected([k, v]) => self.attend(tape, x, [k, v], &memory.key_state),
            MemoryKind::States(states) => {
                let [k, v] = together(tape, states, [&self.k_proj, &self.v_proj])?;
                self.attend(tape, x, [&k, &v], &memory.key_state)
            }
        }
    }

    /// Each of x `[B, T, C]` attends to the unmasked of the keys and values `[B, S, C]`.
    fn attend(&self, tape: &Tape, x: &Tensor, [k, v]: [&Tensor; 2], key_state: &Tensor) -> Result<Tensor> {
        let q = self.q_proj.forward(tape, x)?;
        let key_len = k.shape().dims3("attention")?[1];
        let dropout = tape.dropout(self.dropout);
        let pattern = Dense { heads: self.heads, key_len, causal: None, key_state: Some(key_state), dropout };
        self.out_proj.forward(tape, &dense_attention(tape, &q, k, v, pattern)?)
    }

    /// One new row x `[N, 1, C]` attends to the cached keys and values of its input.
    pub fn step(
        &self,
        tape: &Tape,
        x: &Tensor,
        cache: &LayerCache,
        key_state: &Tensor,
        at: &StepAt,
    ) -> Result<Tensor> {
        let cached = Cached {
            heads: self.heads,
            k: &cache.cross_k,
            v: &cache.cross_v,
            index: at.sources,
            beams: at.beams,
            keys: Keys::First(key_state.shape().last()),
            key_state: Some(key_state),
        };
        let q = self.q_proj.forward(tape, x)?;
        self.out_proj.forward(tape, &decode_attention(tape, &q, cached)?)
    }
}

/// What a decoder layer attends to outside of itself.
pub struct Memory {
    kind: MemoryKind,
    /// `[B, S]`.
    key_state: Tensor,
}

enum MemoryKind {
    /// The layer's keys and values `[B, S, C]`.
    Projected([Tensor; 2]),
    /// The encoder's states `[B, S, C]`, to be projected where they are used.
    States(Tensor),
}

impl Memory {
    /// The memory of each layer: keys and values in one product, or in each layer where it is recomputed.
    pub fn of_layers(
        tape: &Tape,
        layers: &[&CrossAttention],
        states: &Tensor,
        key_state: &Tensor,
        recompute: Recompute,
    ) -> Result<Vec<Memory>> {
        let kinds: Vec<MemoryKind> = match tape.is_recording() && recompute != Recompute::None {
            true => layers.iter().map(|_| MemoryKind::States(states.clone())).collect(),
            false => keys_values(tape, layers, states)?.into_iter().map(MemoryKind::Projected).collect(),
        };
        Ok(kinds.into_iter().map(|kind| Memory { kind, key_state: key_state.clone() }).collect())
    }
}

/// Keys and values `[B, S, C]` of every layer from the encoder's states `memory` `[B, S, C]`.
pub fn keys_values(tape: &Tape, layers: &[&CrossAttention], memory: &Tensor) -> Result<Vec<[Tensor; 2]>> {
    let _phase = phase("decoder.cross");
    let projections: Vec<&Linear> = layers.iter().flat_map(|layer| [&layer.k_proj, &layer.v_proj]).collect();
    let mut planes = all_together(tape, memory, &projections)?.into_iter();
    let mut pairs = Vec::with_capacity(layers.len());
    while let (Some(k), Some(v)) = (planes.next(), planes.next()) {
        pairs.push([k, v]);
    }
    Ok(pairs)
}

/// Where a decoding step of N rows stands.
pub struct StepAt<'a> {
    /// Tokens already decoded.
    pub position: Position<'a>,
    /// `[N]` i32: the places in the cache, seen as `[R * capacity]`, that the new keys and values go to.
    pub places: &'a Tensor,
    /// `[N, capacity]` i32: the cache row that each position of row n was written to.
    pub past: &'a Tensor,
    /// `[N, 1]` i32: the input that row n answers.
    pub sources: &'a Tensor,
    /// How many rows that follow each other answer one input, as a rule.
    pub beams: usize,
}

/// What decoding has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSizes {
    /// R, rows decoded at once.
    pub rows: usize,
    /// Positions of each.
    pub capacity: usize,
    /// B, inputs that they answer.
    pub inputs: usize,
    /// S, padded tokens of each.
    pub source: usize,
}

impl CacheSizes {
    /// Elements of the keys, or the values, of self-attention and of cross-attention in one layer of width c.
    fn parts(&self, c: usize) -> [usize; 2] {
        [self.rows * self.capacity * c, self.inputs * self.source * c].map(|n| n.next_multiple_of(STEP))
    }

    /// Elements of one layer of width c.
    pub fn elements(&self, c: usize) -> usize {
        2 * self.parts(c).iter().sum::<usize>()
    }
}

/// Elements between the starts of a cache's parts: cache lines.
const STEP: usize = 32;

/// Keys and values of one decoder layer that outlive a step.
pub struct LayerCache {
    /// `[R, capacity, C]`.
    self_k: Tensor,
    self_v: Tensor,
    /// `[B, S, C]`: once for all rows that answer an input.
    cross_k: Tensor,
    cross_v: Tensor,
}

impl LayerCache {
    /// Layer `layer`'s share of `memory`, which holds [`CacheSizes::elements`] for each layer.
    pub fn new(memory: &Tensor, layer: usize, sizes: CacheSizes, c: usize) -> Result<Self> {
        let CacheSizes { rows, capacity, inputs, source } = sizes;
        let ([own, cross], first) = (sizes.parts(c), layer * sizes.elements(c));
        let part = |from, shape: [usize; 3]| memory.slice(first + from, shape);
        Ok(LayerCache {
            self_k: part(0, [rows, capacity, c])?,
            self_v: part(own, [rows, capacity, c])?,
            cross_k: part(2 * own, [inputs, source, c])?,
            cross_v: part(2 * own + cross, [inputs, source, c])?,
        })
    }

    /// Keeps the keys and values of an input's encoder states.
    pub fn fill_cross(&self, tape: &Tape, [k, v]: &[Tensor; 2]) -> Result<()> {
        rows::store(tape, &self.cross_k, k, None)?;
        rows::store(tape, &self.cross_v, v, None)
    }
}
