//! Matrix products, the one kernel that a library serves on a GPU: c = a b (+ bias) (+ c).

use super::{Launch, Tensor};
use crate::device::cpu::gemm::{
    Factor, Matrix, Output, Size, Store, Written, gemm, gemm_bf16, gemm_into, stores_once,
};
use crate::device::cpu::skinny::is_skinny;
use crate::device::{CpuCall, Gpu, Kernel};
use crate::error::{Error, Result};
use crate::shape::DType;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use std::borrow::Cow;

/// How the operands are stored; c is always `[m, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// a `[m, k]`, b `[k, n]`.
    Plain = 0,
    /// a `[m, k]`, b `[n, k]`: a bᵀ.
    RightTransposed = 1,
    /// a `[k, m]`, b `[k, n]`: aᵀ b.
    LeftTransposed = 2,
}

pub static MATMUL: Kernel = Kernel {
    name: "matmul",
    outputs: &["c"],
    inputs: &["a", "b", "bias"],
    sizes: &["m", "n", "k", "form", "accumulate", "planes", "b_step", "bias_step", "a_row", "c_row"],
    scalars: &[],
    cpu: matmul_cpu,
    gpu: Gpu::Library,
};

/// The operands of a product.
pub struct Product<'a> {
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub form: Form,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// One a against several b: c is `[planes, m, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planes {
    pub count: usize,
    /// Elements from one b to the next, and from one bias to the next.
    pub b_step: usize,
    pub bias_step: usize,
}

impl Planes {
    const ONE: Planes = Planes { count: 1, b_step: 0, bias_step: 0 };
}

/// Rows of a matrix whose starts are further apart than its columns are many: tensor `[rows, row]`, of which the
/// product sees the first columns only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padded {
    /// Elements from a row of a, as it is stored, to the next.
    A(usize),
    /// Elements from a row of c to the next.
    C(usize),
}

/// c = a b, or c += a b when `accumulate`.
pub fn matmul(c: &Tensor, product: Product, accumulate: bool) -> Result<()> {
    launch(c, product, None, accumulate, Planes::ONE, None)
}

/// c = a b + bias, the bias `[n]` added to every row.
pub fn matmul_bias(c: &Tensor, product: Product, bias: Option<&Tensor>) -> Result<()> {
    launch(c, product, bias, false, Planes::ONE, None)
}

/// `c[p] = a b[p] + bias[p]` for every plane; b and bias reach from the first to the end of the last.
pub fn matmul_planes(c: &Tensor, product: Product, bias: Option<&Tensor>, planes: Planes) -> Result<()> {
    launch(c, product, bias, false, planes, None)
}

/// As [`matmul`] with a bias, where the rows of a or of c are padded. What is between two rows is neither read nor
/// written.
pub fn matmul_padded(
    c: &Tensor,
    product: Product,
    bias: Option<&Tensor>,
    accumulate: bool,
    padded: Padded,
) -> Result<()> {
    launch(c, product, bias, accumulate, Planes::ONE, Some(padded))
}

fn launch(
    c: &Tensor,
    product: Product,
    bias: Option<&Tensor>,
    accumulate: bool,
    planes: Planes,
    padded: Option<Padded>,
) -> Result<()> {
    let Product { a, b, form, m, n, k } = product;
    let Planes { count, b_step, bias_step } = planes;
    let more = count.saturating_sub(1);
    let [a_rows, a_columns] = if form == Form::LeftTransposed { [k, m] } else { [m, k] };
    let (a_row, c_row) = match padded {
        None => (a_columns, n),
        Some(Padded::A(row)) => (row, n),
        Some(Padded::C(row)) => (a_columns, row),
    };
    let bias_fits = bias.is_none_or(|bias| bias.len() == more * bias_step + n);
    let fits = c.len() == count * m * c_row
        && a.len() == a_rows * a_row
        && b.len() == more * b_step + k * n
        && a_row >= a_columns
        && c_row >= n;
    if !fits || !bias_fits || count == 0 {
        return Err(Error::shape(
            "matmul",
            format!("[{m}, {n}] from {form:?} with k = {k}"),
            format!("{} from {} and {}", c.shape(), a.shape(), b.shape()),
        ));
    }
    Launch::of(&MATMUL)
        .output("c", c)
        .input("a", a)
        .input("b", b)
        .input("bias", bias)
        .size("m", m)
        .size("n", n)
        .size("k", k)
        .size("form", form as usize)
        .size("accumulate", accumulate as usize)
        .size("planes", count)
        .size("b_step", b_step)
        .size("bias_step", bias_step)
        .size("a_row", a_row)
        .size("c_row", c_row)
        .flops(2 * (count * m * n) as u64 * k as u64)
        .run(c.device())
}

fn matmul_cpu(call: &mut CpuCall) {
    let operands = ["a", "b"].map(|name| call.stored(name)) == [DType::BF16; 2];
    let [m, k, form, a_row] = call.sizes(["m", "k", "form", "a_row"]);
    let few_rows = form == Form::RightTransposed as usize && is_skinny(m, k) && (a_row == k || !operands);
    let result = call.stored_out("c");
    match (operands, result) {
        _ if few_rows => few_rows_cpu(call, operands),
        (true, DType::BF16) if stores_once::<bf16>(k) => blocked_cpu::<bf16, bf16>(call),
        (true, _) => blocked_cpu::<bf16, f32>(call),
        (false, DType::BF16) if stores_once::<f32>(k) => blocked_cpu::<f32, bf16>(call),
        (false, _) => blocked_cpu::<f32, f32>(call),
    }
}

/// The bias of a plane. Between those of two planes may lie whole matrices: only what is a bias is widened.
fn bias_of<'a>(call: &CpuCall<'a>, plane: usize) -> Cow<'a, [f32]> {
    let [n, step] = call.sizes(["n", "bias_step"]);
    let (from, to) = (plane * step, plane * step + n);
    match call.stored("bias") {
        DType::BF16 => Cow::Owned(call.input::<bf16>("bias")[from..to].to_f32_vec()),
        _ => Cow::Borrowed(call.input::<f32>("bias").get(from..to).unwrap_or(&[])),
    }
}

fn blocked_cpu<E: Factor, C: Written>(call: &mut CpuCall) {
    let [m, n, k, form] = call.sizes(["m", "n", "k", "form"]);
    let [accumulate, planes, b_step] = call.sizes(["accumulate", "planes", "b_step"]);
    let [a_row, c_row] = call.sizes(["a_row", "c_row"]);
    let c = call.out::<C>("c");
    let (a, b) = (call.input::<E>("a"), call.input::<E>("b"));
    let a = match form {
        2 => Matrix::transposed(a, a_row),
        _ => Matrix::rows(a, a_row),
    };
    for plane in 0..planes {
        let b = &b[plane * b_step..][..k * n];
        let b = match form {
            1 => Matrix::transposed(b, k),
            _ => Matrix::rows(b, n),
        };
        let c = &mut c[plane * m * c_row..][..m * c_row];
        let bias = bias_of(call, plane);
        let store = if bias.is_empty() && accumulate != 0 { Store::Add } else { Store::Assign };
        let out = Output { c, stride: c_row, alpha: 1.0, store, bias: &bias };
        gemm_into(out, a, b, Size { m, n, k });
    }
}

/// c = a bᵀ for so few rows of a that reading b decides: weights in bf16 are read as they are, in half the bytes.
fn few_rows_cpu(call: &mut CpuCall, narrow: bool) {
    let [m, n, k] = call.sizes(["m", "n", "k"]);
    let [accumulate, planes, b_step] = call.sizes(["accumulate", "planes", "b_step"]);
    let [a_row, c_row] = call.sizes(["a_row", "c_row"]);
    let (c, size) = (call.out::<f32>("c"), Size { m, n, k });
    for plane in 0..planes {
        let c = &mut c[plane * m * c_row..][..m * c_row];
        let (store, first) = (start(c, c_row, &bias_of(call, plane), accumulate), plane * b_step);
        if narrow {
            let (a, b) = (call.input::<bf16>("a"), &call.input::<bf16>("b")[first..][..k * n]);
            gemm_bf16(c, c_row, Matrix::rows(a, k), Matrix::transposed(b, k), size, store);
        } else {
            let (a, b) = (call.input::<f32>("a"), &call.input::<f32>("b")[first..][..k * n]);
            gemm(c, c_row, Matrix::rows(a, a_row), Matrix::transposed(b, k), size, 1.0, store);
        }
    }
}

/// How to store over c, which holds the bias if there is one: that saves a pass over the result.
fn start(c: &mut [f32], c_row: usize, bias: &[f32], accumulate: usize) -> Store {
    if !bias.is_empty() {
        c.par_chunks_mut(c_row).for_each(|row| row[..bias.len()].copy_from_slice(bias));
    }
    match bias.is_empty() && accumulate == 0 {
        true => Store::Assign,
        false => Store::Add,
    }
}
