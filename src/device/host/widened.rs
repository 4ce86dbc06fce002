//! f32 copies of what a call stores in bf16: widened when a CPU function asks for them, and rounded once at its end.

use super::bytes::{read, write};
use crate::device::call::Arg;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use std::cell::RefCell;

/// The copies that a call's kernel has asked for.
#[derive(Default)]
pub struct Widened {
    inputs: RefCell<Vec<(Arg, Vec<f32>)>>,
    outputs: RefCell<Vec<(Arg, Vec<f32>)>>,
}

impl Widened {
    /// Address of the copy of an input; it stays until this value is dropped.
    pub fn input(&self, arg: &Arg) -> usize {
        let place = |arg: &Arg| (arg.address(), arg.len);
        let mut inputs = self.inputs.borrow_mut();
        if let Some((_, values)) = inputs.iter().find(|(other, _)| place(other) == place(arg)) {
            return values.as_ptr() as usize;
        }
        let values = widened(arg);
        let address = values.as_ptr() as usize;
        inputs.push((*arg, values));
        address
    }

    /// Address of a copy of an output, which [`Widened::round`] writes back.
    pub fn output(&self, arg: &Arg) -> usize {
        let mut values = widened(arg);
        let address = values.as_mut_ptr() as usize;
        self.outputs.borrow_mut().push((*arg, values));
        address
    }

    /// Rounds every output to where it belongs.
    pub fn round(self) {
        for (arg, wide) in self.outputs.into_inner() {
            let mut bits = vec![bf16::ZERO; arg.len];
            bits.convert_from_f32_slice(&wide);
            write(arg.address(), bytemuck::cast_slice(&bits));
        }
    }
}

fn widened(arg: &Arg) -> Vec<f32> {
    let mut bits = vec![bf16::ZERO; arg.len];
    read(arg.address(), bytemuck::cast_slice_mut(&mut bits));
    bits.to_f32_vec()
}
