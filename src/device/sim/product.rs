//! Matrix products: the CPU's, of operands rounded as a GPU's library takes them.

use crate::device::{Call, Kernel, Precision, host};
use crate::shape::DType;

/// Runs the product `kernel`, in tf32 on operands rounded to it.
///
/// # Safety
/// As for [`host::run`].
pub unsafe fn run(kernel: &Kernel, call: &Call, precision: Precision) {
    if precision != Precision::Tf32 {
        // SAFETY: the caller's promise.
        return unsafe { host::run(kernel.cpu, call) };
    }
    let mut rounded = call.clone();
    let mut held: Vec<Vec<f32>> = Vec::new();
    for arg in rounded.inputs.iter_mut().filter(|arg| arg.dtype == DType::F32) {
        let mut values = vec![0.0f32; arg.len];
        host::read(arg.address(), bytemuck::cast_slice_mut(&mut values));
        values.iter_mut().for_each(|value| *value = to_tf32(*value));
        // An absent argument stays absent: its length is zero.
        arg.block.address = values.as_ptr() as usize;
        arg.block.bytes = values.len() * 4;
        arg.offset = 0;
        held.push(values);
    }
    // SAFETY: the caller's promise for the outputs; the inputs are vectors held until the end.
    unsafe { host::run(kernel.cpu, &rounded) };
}

/// Rounded to the nearest value with 10 bits of fraction, ties away from zero.
fn to_tf32(x: f32) -> f32 {
    match x.is_finite() {
        true => f32::from_bits(x.to_bits().wrapping_add(0x1000) & 0xffff_e000),
        false => x,
    }
}
