//! Matrix products, the one kernel that a library serves on a GPU: c = a b (+ bias) (+ c).

use super::{Launch, Tensor};
use crate::device::cpu::gemm::{Matrix, Size, Store, gemm};
use crate::device::{CpuCall, Gpu, Kernel};
use crate::error::{Error, Result};
use crate::shape::DType;
use rayon::prelude::*;

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
    sizes: &["m", "n", "k", "form", "accumulate"],
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

/// c = a b, or c += a b when `accumulate`.
pub fn matmul(c: &Tensor, product: Product, accumulate: bool) -> Result<()> {
    launch(c, product, None, accumulate)
}

/// c = a b + bias, the bias `[n]` added to every row.
pub fn matmul_bias(c: &Tensor, product: Product, bias: Option<&Tensor>) -> Result<()> {
    launch(c, product, bias, false)
}

fn launch(c: &Tensor, product: Product, bias: Option<&Tensor>, accumulate: bool) -> Result<()> {
    let Product { a, b, form, m, n, k } = product;
    let bias_fits = bias.is_none_or(|bias| bias.len() == n);
    if c.len() != m * n || a.len() != m * k || b.len() != k * n || !bias_fits {
        return Err(Error::shape(
            "matmul",
            format!("[{m}, {n}] from {form:?} with k = {k}"),
            format!("{} from {} and {}", c.shape(), a.shape(), b.shape()),
        ));
    }
    Launch::of(&MATMUL)
        .output(c)
        .input(a)
        .input(b)
        .input_or_absent(bias, DType::F32)
        .size(m)
        .size(n)
        .size(k)
        .size(form as usize)
        .size(accumulate as usize)
        .flops(2 * (m * n) as u64 * k as u64)
        .run(c.device())
}

fn matmul_cpu(call: &mut CpuCall) {
    let [m, n, k, form, accumulate] = call.sizes();
    let (c, bias) = (call.out::<f32>(0), call.input::<f32>(2));
    let (a, b) = (call.input::<f32>(0), call.input::<f32>(1));
    let a = match form {
        2 => Matrix::transposed(a, m),
        _ => Matrix::rows(a, k),
    };
    let b = match form {
        1 => Matrix::transposed(b, k),
        _ => Matrix::rows(b, n),
    };
    let mut store = match accumulate {
        0 => Store::Assign,
        _ => Store::Add,
    };
    if !bias.is_empty() {
        // Starting from the bias saves a pass over the result.
        c.par_chunks_mut(n).for_each(|row| row.copy_from_slice(bias));
        store = Store::Add;
    }
    gemm(c, n, a, b, Size { m, n, k }, 1.0, store);
}
