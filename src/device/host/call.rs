//! A launch as a CPU function sees it.

use super::widened::Widened;
use crate::device::call::{Arg, Call};
use crate::device::signature::{Kind, Signature};
use crate::shape::{DType, Element};

/// The arguments of one launch by name: each output slice can be taken once, inputs freely. What is stored in bf16 may
/// be asked for as it is, or as f32: a copy. Names that the kernel's descriptor lacks are defects and panic.
pub struct CpuCall<'a> {
    signature: &'a Signature,
    outputs: Vec<Option<Arg>>,
    inputs: &'a [Arg],
    sizes: &'a [i32],
    scalars: &'a [f32],
    widened: &'a Widened,
}

impl<'a> CpuCall<'a> {
    /// # Safety
    /// Every argument's address must be valid for its length while the value lives, aligned for its
    /// type, and no output may overlap another argument (which [`Call::check`] established).
    pub(super) unsafe fn new(call: &'a Call, widened: &'a Widened) -> Self {
        CpuCall {
            signature: call.signature(),
            outputs: call.outputs.iter().copied().map(Some).collect(),
            inputs: &call.inputs,
            sizes: &call.sizes,
            scalars: &call.scalars,
            widened,
        }
    }

    /// Takes an output, empty when it is absent; a second take, or a wrong type, is a defect and panics.
    pub fn out<T: Element>(&mut self, name: &str) -> &'a mut [T] {
        let place = self.signature.known(Kind::Output, name);
        let arg = self.outputs[place].take().expect("an output is taken once");
        if arg.len == 0 {
            return &mut [];
        }
        let address = match (arg.dtype, T::DTYPE) {
            (DType::BF16, DType::F32) => self.widened.output(&arg),
            (is, asked) => {
                assert_eq!(is, asked, "{}: output `{name}` has another type", self.signature.kernel);
                arg.address()
            }
        };
        // SAFETY: `new` promised a valid, aligned, unaliased range, and a copy is nobody else's; `take`
        // makes it unique.
        unsafe { std::slice::from_raw_parts_mut(address as *mut T, arg.len) }
    }

    /// An input, empty when it is absent.
    pub fn input<T: Element>(&self, name: &str) -> &'a [T] {
        let arg = &self.inputs[self.signature.known(Kind::Input, name)];
        if arg.len == 0 {
            return &[];
        }
        let address = match (arg.dtype, T::DTYPE) {
            (DType::BF16, DType::F32) => self.widened.input(arg),
            (is, asked) => {
                assert_eq!(is, asked, "{}: input `{name}` has another type", self.signature.kernel);
                arg.address()
            }
        };
        // SAFETY: `new` promised a valid, aligned range that no output overlaps; a copy lives as long.
        unsafe { std::slice::from_raw_parts(address as *const T, arg.len) }
    }

    /// How an output is stored; f32 once it is taken.
    pub fn stored_out(&self, name: &str) -> DType {
        let place = self.signature.known(Kind::Output, name);
        self.outputs[place].as_ref().map_or(DType::F32, |arg| arg.dtype)
    }

    /// How an input is stored.
    pub fn stored(&self, name: &str) -> DType {
        self.inputs[self.signature.known(Kind::Input, name)].dtype
    }

    pub fn size(&self, name: &str) -> usize {
        self.sizes[self.signature.known(Kind::Size, name)] as usize
    }

    pub fn sizes<const N: usize>(&self, names: [&str; N]) -> [usize; N] {
        names.map(|name| self.size(name))
    }

    pub fn scalar(&self, name: &str) -> f32 {
        self.scalars[self.signature.known(Kind::Scalar, name)]
    }
}
