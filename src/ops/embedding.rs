//! Token plus position embedding: `y[b, t] = scale * table[ids[b, t]] + positions[past + t]`.
//!
//! Shapes: ids `[B, T]` i32, table `[V, C]`, positions `[P, C]`, past `[1]` i32 (0 where absent), y
//! `[B, T, C]`. Saved: ids. Backward, on a GPU: the positions sorted by token, order `[N]` i32, and the
//! sums of runs of equal tokens that cross chunks of the order, edge `[2, chunks, C]`. The pad row's
//! lookups give it no gradient (torch.nn.Embedding `padding_idx`). Tokens from `placed` on get no
//! position: HF BigBird pads to whole blocks after adding positions.

use super::{Gradient, OpSpec, Position};
use crate::device::cpu::vector;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::shape::{DType, Stored};
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use half::bf16;
use rayon::prelude::*;

pub static OP: OpSpec = OpSpec {
    name: "embedding",
    gradient: Gradient::Recorded,
    kernels: &[&FORWARD, &BACKWARD_TABLE, &BACKWARD_POSITIONS],
};

static FORWARD: Kernel = Kernel {
    name: "embedding_fwd",
    outputs: &["y"],
    inputs: &["ids", "table", "positions", "past"],
    sizes: &["B", "T", "C", "placed"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| match call.stored("table") {
        DType::BF16 => forward_cpu::<bf16>(call),
        _ => forward_cpu::<f32>(call),
    },
    gpu: Gpu::Passes(|call| {
        let [b, t] = call.sizes(["B", "T"]);
        vec![Pass::new("embedding_fwd", (b * t).div_ceil(4), 128)]
    }),
};

/// The position of the first token.
fn first(past: &[i32]) -> usize {
    past.first().map_or(0, |&past| past as usize)
}

/// The tables as they are stored: a few rows of them are read.
fn forward_cpu<E: Stored>(call: &mut CpuCall) {
    let [t, c, placed] = call.sizes(["T", "C", "placed"]);
    let (past, scale) = (first(call.input("past")), call.scalar("scale"));
    let (y, ids) = (call.out::<f32>("y"), call.input::<i32>("ids"));
    let (table, positions) = (call.input::<E>("table"), call.input::<E>("positions"));
    y.par_chunks_mut(c).enumerate().for_each(|(i, y)| {
        let token = &table[ids[i] as usize * c..][..c];
        match i % t < placed {
            true => {
                let place = &positions[(past + i % t) * c..][..c];
                y.iter_mut().zip(token).zip(place).for_each(|((y, x), p)| *y = scale * x.wide() + p.wide());
            }
            false => y.iter_mut().zip(token).for_each(|(y, x)| *y = scale * x.wide()),
        }
    });
}

static BACKWARD_TABLE: Kernel = Kernel {
    name: "embedding_bwd_table",
    outputs: &["dtable", "order", "edge"],
    inputs: &["dy", "ids"],
    sizes: &["N", "C", "V", "pad", "accumulate"],
    scalars: &["scale"],
    cpu: |call: &mut CpuCall| {
        let [c, pad, accumulate] = call.sizes(["C", "pad", "accumulate"]);
        let scale = call.scalar("scale");
        let (dtable, dy, ids) =
            (call.out::<f32>("dtable"), call.input::<f32>("dy"), call.input::<i32>("ids"));
        if accumulate == 0 {
            dtable.par_chunks_mut(1 << 15).for_each(|rows| rows.fill(0.0));
        }
        // One thread in token order: few rows, and a fixed order of additions.
        for (dy, &id) in dy.chunks(c).zip(ids) {
            if id as usize != pad {
                vector::axpy(&mut dtable[id as usize * c..][..c], scale, dy);
            }
        }
    },
    gpu: Gpu::Passes(|call| {
        let [n, c, v, accumulate] = call.sizes(["N", "C", "V", "accumulate"]);
        let zero = Pass::new("embedding_bwd_table_zero", (v * c).div_ceil(1024), 256);
        let sort = Pass::new("embedding_bwd_table_sort", v.div_ceil(256), 512).shared((16 * 256 + 16) * 4);
        let on_chunks = |entry| Pass::new(entry, n.div_ceil(CHUNK), 128).y(c.div_ceil(512));
        let sum = on_chunks("embedding_bwd_table").shared((2 * CHUNK + 2) * 4);
        let join = on_chunks("embedding_bwd_table_join");
        match accumulate {
            0 => vec![zero, sort, sum, join],
            _ => vec![sort, sum, join],
        }
    }),
};

static BACKWARD_POSITIONS: Kernel = Kernel {
    name: "embedding_bwd_positions",
    outputs: &["dpositions"],
    inputs: &["dy", "past"],
    sizes: &["B", "T", "C", "placed", "P", "accumulate"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let [b, t, c, placed, accumulate] = call.sizes(["B", "T", "C", "placed", "accumulate"]);
        let (dpositions, dy, past) =
            (call.out::<f32>("dpositions"), call.input::<f32>("dy"), first(call.input("past")));
        if accumulate == 0 {
            dpositions.fill(0.0);
        }
        dpositions[past * c..(past + placed.min(t)) * c].par_chunks_mut(c).enumerate().for_each(
            |(i, row)| {
                (0..b).for_each(|b| vector::add_assign(row, &dy[(b * t + i) * c..][..c]));
            },
        );
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("embedding_bwd_positions", call.size("P").div_ceil(4), 128)]),
};

/// Sorted positions that one block sums.
const CHUNK: usize = 16;

/// What an embedding looks up.
pub struct Lookup<'a> {
    /// `[V, C]`.
    pub table: &'a Tensor,
    /// `[P, C]`.
    pub positions: &'a Tensor,
    /// Multiplies the table row, not the position.
    pub scale: f32,
    /// The token whose row gets no gradient from lookups.
    pub pad: usize,
    /// Position of the first token, 0 where absent.
    pub past: Option<Position<'a>>,
    /// Tokens of each row that get a position.
    pub placed: usize,
}

/// y `[B, T, C]` from ids `[B, T]`; the caller has checked that ids are below V.
pub fn embedding(tape: &Tape, ids: &Tensor, lookup: Lookup) -> Result<Tensor> {
    let [b, t] = ids.shape().dims2("embedding")?;
    let [v, c] = lookup.table.shape().dims2("embedding")?;
    let [p, positions_c] = lookup.positions.shape().dims2("embedding")?;
    if positions_c != c {
        let want = format!("positions [P, {c}]");
        return Err(Error::shape("embedding", want, lookup.positions.shape()));
    }
    let Lookup { scale, pad, placed, .. } = lookup;
    let past = lookup.past.map_or(0, |position| position.value);
    if past + placed.min(t) > p {
        return Err(Error::usage(format!(
            "position {} is beyond the model's table of {p}: shorten the input",
            past + placed.min(t) - 1
        )));
    }
    let y = lookup.table.like([b, t, c])?;
    Launch::of(&FORWARD)
        .output("y", &y)
        .input("ids", ids)
        .input("table", lookup.table)
        .input("positions", lookup.positions)
        .input("past", lookup.past.map(|past| past.on_device))
        .size("B", b)
        .size("T", t)
        .size("C", c)
        .size("placed", placed)
        .scalar("scale", scale)
        .flops(2 * y.len() as u64)
        .run(ids.device())?;
    let (ids, table, positions) = (ids.clone(), lookup.table.clone(), lookup.positions.clone());
    let past = lookup.past.map(|past| past.on_device.clone());
    Ok(tape.record(&[lookup.table, lookup.positions], y, move |dy, gradients| {
        if let Some(dtable) = gradients.slot(&table)? {
            let chunks = (b * t).div_ceil(CHUNK);
            Launch::of(&BACKWARD_TABLE)
                .gradient("dtable", "accumulate", Some(&dtable))
                .output("order", &Tensor::empty(dy.device(), [b * t], DType::I32)?)
                .output("edge", &dy.like_f32([2, chunks, c])?)
                .input("dy", &dy)
                .input("ids", &ids)
                .size("N", b * t)
                .size("C", c)
                .size("V", v)
                .size("pad", pad)
                .scalar("scale", scale)
                .flops(2 * dy.len() as u64)
                .run(dy.device())?;
        }
        if let Some(dpositions) = gradients.slot(&positions)? {
            Launch::of(&BACKWARD_POSITIONS)
                .gradient("dpositions", "accumulate", Some(&dpositions))
                .input("dy", &dy)
                .input("past", past.as_ref())
                .size("B", b)
                .size("T", t)
                .size("C", c)
                .size("placed", placed)
                .size("P", p)
                .flops(dy.len() as u64)
                .run(dy.device())?;
        }
        Ok(())
    }))
}
