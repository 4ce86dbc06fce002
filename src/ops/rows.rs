//! Moving rows: gather `y[i] = x[index[i]]`, and scatter the other way round.
//!
//! Shapes: x `[N, C]`, index `[M]` i32 with -1 for none, y `[M, C]`. Saved: index. Rows of y with one index
//! are added in order; of those that are stored the last one stays.

use super::{Gradient, OpSpec, wide_blocks};
use crate::device::cpu::vector;
use crate::device::{CpuCall, Gpu, Kernel, Pass};
use crate::error::{Error, Result};
use crate::shape::{DType, Stored};
use crate::tape::Tape;
use crate::tensor::{Launch, Tensor};
use half::bf16;
use rayon::prelude::*;

pub static OP: OpSpec =
    OpSpec { name: "rows", gradient: Gradient::Recorded, kernels: &[&GATHER, &SCATTER, &STORE] };

const STORE_REASON: &str = "it overwrites a cache";

static GATHER: Kernel = Kernel {
    name: "rows_gather",
    outputs: &["y"],
    inputs: &["x", "index"],
    sizes: &["M", "N", "C"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let c = call.size("C");
        let (y, x, index) = (call.out::<f32>("y"), call.input::<f32>("x"), call.input::<i32>("index"));
        y.par_chunks_mut(c).zip(index).for_each(|(y, &i)| match i {
            ..0 => y.fill(0.0),
            _ => y.copy_from_slice(&x[i as usize * c..][..c]),
        });
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("rows_gather", call.size("M").div_ceil(4), 128)]),
};

static SCATTER: Kernel = Kernel {
    name: "rows_scatter",
    outputs: &["x"],
    inputs: &["y", "index"],
    sizes: &["M", "N", "C", "accumulate"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let [c, accumulate] = call.sizes(["C", "accumulate"]);
        let (x, y, index) = (call.out::<f32>("x"), call.input::<f32>("y"), call.input::<i32>("index"));
        if accumulate == 0 {
            x.par_chunks_mut(1 << 15).for_each(|x| x.fill(0.0));
        }
        for (y, &i) in y.chunks(c).zip(index) {
            if i >= 0 {
                vector::add_assign(&mut x[i as usize * c..][..c], y);
            }
        }
    },
    gpu: Gpu::Passes(|call| {
        let [m, n, c, accumulate] = call.sizes(["M", "N", "C", "accumulate"]);
        let rows = Pass::new("rows_scatter", m.div_ceil(4), 128);
        match accumulate {
            0 => vec![Pass::new("rows_scatter_zero", wide_blocks(call, n * c), 256), rows],
            _ => vec![rows],
        }
    }),
};

static STORE: Kernel = Kernel {
    name: "rows_store",
    outputs: &["x"],
    inputs: &["y", "index"],
    sizes: &["M", "C"],
    scalars: &[],
    cpu: |call: &mut CpuCall| match call.stored("y") {
        DType::BF16 => store_cpu::<bf16>(call),
        _ => store_cpu::<f32>(call),
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("rows_store", call.size("M").div_ceil(4), 128)]),
};

/// As it is stored: of a long cache a few rows are written.
fn store_cpu<E: Stored>(call: &mut CpuCall) {
    let c = call.size("C");
    let (x, y, index) = (call.out::<E>("x"), call.input::<E>("y"), call.input::<i32>("index"));
    match index.is_empty() {
        true => x.par_chunks_mut(c).zip(y.par_chunks(c)).for_each(|(x, y)| x.copy_from_slice(y)),
        false => {
            index.iter().zip(y.chunks(c)).for_each(|(&i, y)| x[i as usize * c..][..c].copy_from_slice(y))
        }
    }
}

/// `y[i] = x[index[i]]`, zeros where index is -1; `index` holds row numbers of x seen as `[N, C]`.
pub fn gather(tape: &Tape, x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let y = take(x, index)?;
    let (input, index) = (x.clone(), index.clone());
    Ok(tape.record(&[x], y, move |dy, gradients| match gradients.slot(&input)? {
        Some(dx) => put(&dx.tensor, &dy, &index, dx.accumulate),
        None => Ok(()),
    }))
}

/// x with y added to its rows at `index`; works in place, so x must not be used elsewhere and those
/// rows must not matter to the op that made it.
pub fn scatter_add(tape: &Tape, x: Tensor, y: &Tensor, index: &Tensor) -> Result<Tensor> {
    put(&x, y, index, true)?;
    let out = x.clone().with_node(None);
    let (base, rows, index) = (x.clone(), y.clone(), index.clone());
    Ok(tape.record(&[&x, y], out, move |dx, gradients| {
        let dy = take(&dx, &index)?;
        gradients.add(&rows, dy)?;
        gradients.add(&base, dx)
    }))
}

/// Overwrites rows of the cache x: `x[index[i]] = y[i]`, or all of x without an index.
pub fn store(tape: &Tape, x: &Tensor, y: &Tensor, index: Option<&Tensor>) -> Result<()> {
    tape.no_gradient("rows_store", STORE_REASON, &[y])?;
    match index {
        Some(index) => fits("rows_store", x, y, index)?,
        None if x.len() == y.len() => {}
        None => return Err(Error::shape("rows_store", x.shape(), y.shape())),
    }
    Launch::of(&STORE)
        .output("x", x)
        .input("y", y)
        .input("index", index)
        .size("M", y.shape().rows())
        .size("C", y.shape().last())
        .run(x.device())
}

fn take(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let (m, n, c) = (index.len(), x.shape().rows(), x.shape().last());
    let y = x.like([m, c])?;
    Launch::of(&GATHER)
        .output("y", &y)
        .input("x", x)
        .input("index", index)
        .size("M", m)
        .size("N", n)
        .size("C", c)
        .run(x.device())?;
    Ok(y)
}

/// Whether y has a row of x's width for every index.
fn fits(op: &'static str, x: &Tensor, y: &Tensor, index: &Tensor) -> Result<()> {
    let c = x.shape().last();
    if y.shape().last() == c && y.shape().rows() == index.len() {
        return Ok(());
    }
    Err(Error::shape(op, format!("[{}, {c}]", index.len()), y.shape()))
}

fn put(x: &Tensor, y: &Tensor, index: &Tensor, accumulate: bool) -> Result<()> {
    fits("rows_scatter", x, y, index)?;
    Launch::of(&SCATTER)
        .output("x", x)
        .input("y", y)
        .input("index", index)
        .size("M", index.len())
        .size("N", x.shape().rows())
        .size("C", x.shape().last())
        .size("accumulate", accumulate as usize)
        .flops(y.len() as u64)
        .run(x.device())
}
