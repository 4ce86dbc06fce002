//! CPU kernels on operands stored in fewer bits: what a kernel asks for in f32 is widened for it, computed,
//! and rounded once at the end. A kernel that reads much and uses little of it asks for the bits themselves.

use super::memory;
use crate::device::precision::Precision;
use crate::device::{Arg, Call, CpuCall, Gpu, Kernel};
use crate::shape::{DType, Element};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::cell::RefCell;

/// A storage type of activations and weights, read and written one element at a time.
pub trait Stored: Element + Send + Sync {
    fn wide(self) -> f32;
    fn narrow(x: f32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

/// The f32 copies that a call's kernel has asked for.
#[derive(Default)]
pub(in crate::device) struct Widened {
    inputs: RefCell<Vec<(Arg, Vec<f32>)>>,
    outputs: RefCell<Vec<(Arg, Vec<f32>)>>,
}

impl Widened {
    /// Address of the copy of a bf16 input; it stays until this value is dropped.
    pub fn input(&self, arg: &Arg) -> usize {
        let place = |arg: &Arg| (arg.block.address + arg.offset, arg.len);
        let mut inputs = self.inputs.borrow_mut();
        if let Some((_, values)) = inputs.iter().find(|(other, _)| place(other) == place(arg)) {
            return values.as_ptr() as usize;
        }
        let values = widened(arg);
        let address = values.as_ptr() as usize;
        inputs.push((*arg, values));
        address
    }

    /// Address of a copy of a bf16 output, which [`Widened::round`] writes back.
    pub fn output(&self, arg: &Arg) -> usize {
        let mut values = widened(arg);
        let address = values.as_mut_ptr() as usize;
        self.outputs.borrow_mut().push((*arg, values));
        address
    }

    fn round(self) {
        for (arg, wide) in self.outputs.into_inner() {
            let mut bits = vec![bf16::ZERO; arg.len];
            bits.convert_from_f32_slice(&wide);
            memory::write(arg.block.address + arg.offset, bytemuck::cast_slice(&bits));
        }
    }
}

/// Runs `kernel` on the call's host memory, in the precision of the executor.
///
/// # Safety
/// As for [`CpuCall::new`].
pub(in crate::device) unsafe fn run(kernel: &Kernel, call: &Call, precision: Precision) {
    let widened = Widened::default();
    if precision == Precision::Tf32 && matches!(kernel.gpu, Gpu::Library) {
        let mut rounded = call.clone();
        let mut held: Vec<Vec<f32>> = Vec::new();
        for arg in rounded.inputs.iter_mut().filter(|arg| arg.dtype == DType::F32) {
            let mut values = floats(arg);
            values.iter_mut().for_each(|value| *value = to_tf32(*value));
            // An absent argument stays absent: its length is zero.
            arg.block.address = values.as_ptr() as usize;
            arg.block.bytes = values.len() * 4;
            arg.offset = 0;
            held.push(values);
        }
        // SAFETY: the caller's promise for the outputs; the inputs are vectors held until the end.
        (kernel.cpu)(&mut unsafe { CpuCall::new(&rounded, &widened) });
    } else {
        // SAFETY: the caller's promise.
        (kernel.cpu)(&mut unsafe { CpuCall::new(call, &widened) });
    }
    widened.round();
}

fn floats(arg: &Arg) -> Vec<f32> {
    let mut values = vec![0.0f32; arg.len];
    memory::read(arg.block.address + arg.offset, bytemuck::cast_slice_mut(&mut values));
    values
}

fn widened(arg: &Arg) -> Vec<f32> {
    let mut bits = vec![bf16::ZERO; arg.len];
    memory::read(arg.block.address + arg.offset, bytemuck::cast_slice_mut(&mut bits));
    bits.to_f32_vec()
}

/// Rounded to the nearest value with 10 bits of fraction, ties away from zero.
fn to_tf32(x: f32) -> f32 {
    match x.is_finite() {
        true => f32::from_bits(x.to_bits().wrapping_add(0x1000) & 0xffff_e000),
        false => x,
    }
}
