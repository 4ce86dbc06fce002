//! One query a row over a cache of keys and values, as in decoding: o = softmax(scale q kᵀ) v per head.
//!
//! Shapes: q, o `[N, C]`, k v `[R, rows, C]` of which the first S of each row count, or those up to position
//! `[1]` i32, key_state `[R, rows]` i32 (0 masked), index `[N, columns]` i32. Key j of query n lies in row
//! `index[n, j]` of the cache: a beam that changes its past changes numbers, and copies nothing. With one column
//! all keys of query n lie in row `index[n, 0]`: beams of one input share its keys, and on a GPU a block
//! reads them once for up to four neighbours. There the keys are split over blocks, too, and partial
//! `[splits, N, H, D + 2]` holds what a split finds. No gradient. HF `LEDDecoderAttention` with `past_key_values`.

use super::{scale, tile};
use crate::device::cpu::Operand;
use crate::device::cpu::attention::decode::{Decode, Sizes, decode};
use crate::device::{Call, CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::ops::{Gradient, OpSpec, Position};
use crate::shape::DType;
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use half::bf16;
use tile::{Entries, entries};

const REASON: &str = "decoding is not trained through";

pub static OP: OpSpec =
    OpSpec { name: "decode_attention", gradient: Gradient::None(REASON), kernels: &[&FORWARD] };

static FORWARD: Kernel = Kernel {
    name: "decode_attention_fwd",
    outputs: &["o", "partial"],
    inputs: &["q", "k", "v", "key_state", "index", "position"],
    sizes: &["N", "H", "D", "S", "rows", "columns", "beams", "splits"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| match call.stored("k") {
        DType::BF16 => decode_cpu::<bf16>(call),
        _ => decode_cpu::<f32>(call),
    },
    gpu: Gpu::Passes(passes),
};

fn decode_cpu<E: Operand>(call: &mut CpuCall) {
    let [n, h, d, most, rows, columns] = call.sizes(["N", "H", "D", "S", "rows", "columns"]);
    let position = call.input::<i32>("position").first();
    let s = position.map_or(most, |&position| most.min(position as usize + 1));
    let operands = Decode::<E> {
        q: call.input("q"),
        k: call.input("k"),
        v: call.input("v"),
        key_state: call.input("key_state"),
        index: call.input("index"),
        sizes: Sizes { n, h, d, s, rows, columns },
        scale: call.scalar("scale"),
    };
    decode(call.out("o"), &operands);
}

fn passes(call: &Call) -> Vec<Pass> {
    const ONE: Entries = entries!("decode_attention_fwd", 16 32 64 128);
    const SEVERAL: Entries = entries!("decode_attention_fwd_beams", 16 32 64 128);
    let [n, h, d, beams, splits] = call.sizes(["N", "H", "D", "beams", "splits"]);
    let entries = if beams > 1 { SEVERAL } else { ONE };
    let first = tile::query_pass(entries, call, d, groups(n, beams) * h).map(|pass| pass.y(splits));
    let rows = if splits > 1 { n * h } else { 0 };
    first.into_iter().chain(tile::pass("decode_attention_fwd_join", rows * 32)).collect()
}

/// Blocks that read keys for n queries: one for each, or for four of them where neighbours share keys.
fn groups(n: usize, beams: usize) -> usize {
    if beams > 1 { n.div_ceil(4) } else { n }
}

/// Which keys of a cache row count.
#[derive(Clone, Copy)]
pub enum Keys<'a> {
    /// So many, from the first on.
    First(usize),
    /// That at this position, and all before it.
    UpTo(Position<'a>),
}

/// Where the keys and values of each query are.
#[derive(Clone, Copy)]
pub struct Cached<'a> {
    pub heads: usize,
    /// `[R, rows, C]`.
    pub k: &'a Tensor,
    pub v: &'a Tensor,
    /// `[N, columns]` i32; one column, or one for each key.
    pub index: &'a Tensor,
    /// How many neighbours have all their keys in one row, as far as is known: such are read together. 1 with a column
    /// for each key.
    pub beams: usize,
    /// Those that count, of the `rows`.
    pub keys: Keys<'a>,
    /// `[R, rows]` i32, 0 for masked.
    pub key_state: Option<&'a Tensor>,
}

/// o of q `[N, .., C]`, one query in each of N rows, in the shape of q. The caller has checked that the index
/// names rows of the cache.
pub fn decode_attention(tape: &Tape, q: &Tensor, cached: Cached) -> Result<Tensor> {
    const OP: &str = "decode_attention";
    tape.no_gradient(OP, REASON, &[q])?;
    let Cached { heads, k, v, index, beams, keys, key_state } = cached;
    let [samples, rows, c] = k.shape().dims3(OP)?;
    let [n, columns] = index.shape().dims2(OP)?;
    v.same_shape(OP, k)?;
    if heads == 0 || !c.is_multiple_of(heads) || q.shape().last() != c || q.shape().rows() != n {
        return Err(Error::shape(OP, format!("q [{n}, {c}] for {heads} heads"), q.shape()));
    }
    // By the position in memory, a step that is recorded at one position goes on at the next.
    let (key_len, most, position) = match keys {
        Keys::First(count) => (count, count, None),
        Keys::UpTo(position) => (position.value + 1, rows, Some(position.on_device)),
    };
    let masks = key_state.is_none_or(|state| state.len() == samples * rows);
    if key_len > rows || (columns != 1 && (columns < key_len || beams > 1)) || !masks {
        let want = format!("at least {key_len} keys, a column of the index for each, and a mask [R, rows]");
        return Err(Error::shape(OP, want, k.shape()));
    }
    let d = c / heads;
    // By what the cache has room for: steps over one cache allocate the same.
    let splits = tile::query_splits(groups(n, beams) * heads, rows);
    let o = q.like(q.shape())?;
    let partial = (splits > 1).then(|| q.like_f32([splits, n, heads, d + 2])).transpose()?;
    let pairs = (n * heads * key_len) as u64;
    Launch::of(&FORWARD)
        .output("o", &o)
        .output("partial", partial.as_ref())
        .input("q", q)
        .input("k", k)
        .input("v", v)
        .input("key_state", key_state)
        .input("index", index)
        .input("position", position)
        .size("N", n)
        .size("H", heads)
        .size("D", d)
        .size("S", most)
        .size("rows", rows)
        .size("columns", columns)
        .size("beams", beams)
        .size("splits", splits)
        .scalar("scale", scale(d))
        .flops(4 * pairs * d as u64)
        .exponentials(pairs)
        .run(q.device())?;
    Ok(o)
}
