//! CPU kernels on operands stored in fewer bits: widened to f32, computed, and rounded once at the end.

use super::memory;
use crate::device::precision::Precision;
use crate::device::{Arg, Call, CpuCall, Kernel};
use crate::shape::DType;
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// Runs `kernel` on the call's host memory, in the precision of the executor.
///
/// # Safety
/// As for [`CpuCall::new`].
pub(in crate::device) unsafe fn run(kernel: &Kernel, call: &Call, precision: Precision) {
    let narrow = call.outputs.iter().chain(&call.inputs).any(|arg| arg.dtype == DType::BF16);
    let rounded = precision == Precision::Tf32 && matches!(kernel.gpu, crate::device::Gpu::Library);
    if !narrow && !rounded {
        // SAFETY: the caller's promise.
        return (kernel.cpu)(&mut unsafe { CpuCall::new(call) });
    }
    let mut wide = call.clone();
    let mut held: Vec<Vec<f32>> = Vec::new();
    for (arg, is_operand) in
        wide.outputs.iter_mut().map(|a| (a, false)).chain(wide.inputs.iter_mut().zip([true; 64]))
    {
        let mut values = match arg.dtype {
            DType::BF16 => widened(arg),
            DType::F32 if rounded && is_operand => floats(arg),
            _ => continue,
        };
        if rounded && is_operand {
            values.iter_mut().for_each(|value| *value = to_tf32(*value));
        }
        // An absent argument stays absent: its length is zero.
        arg.block.address = values.as_ptr() as usize;
        arg.block.bytes = values.len() * 4;
        (arg.offset, arg.dtype) = (0, DType::F32);
        held.push(values);
    }
    // SAFETY: the caller's promise for what was left as it is; the others are vectors held until the end.
    (kernel.cpu)(&mut unsafe { CpuCall::new(&wide) });
    for (narrow, wide) in call.outputs.iter().zip(&wide.outputs) {
        if narrow.dtype == DType::BF16 {
            let mut bits = vec![bf16::ZERO; narrow.len];
            bits.convert_from_f32_slice(&floats(wide));
            memory::write(narrow.block.address + narrow.offset, bytemuck::cast_slice(&bits));
        }
    }
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
