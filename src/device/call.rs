//! Kernel descriptors and launch arguments: outputs, inputs, sizes, scalars, always in that order.

use super::Block;
use super::cpu::narrow::Widened;
use crate::error::{Error, Result};
use crate::shape::{DType, Element};
use crate::units::{Bytes, Flops};

/// One entry point, the same name in `kernels/*.cu` and in traces.
pub struct Kernel {
    pub name: &'static str,
    /// Argument names in launch order, as in the kernel file.
    pub outputs: &'static [&'static str],
    pub inputs: &'static [&'static str],
    pub sizes: &'static [&'static str],
    pub scalars: &'static [&'static str],
    /// The CPU executor's function.
    pub cpu: fn(&mut CpuCall),
    /// What the executors that run `kernels/*.cu` do.
    pub gpu: Gpu,
}

/// How a launch runs where kernel files do.
pub enum Gpu {
    /// Entries of the kernel file, one after the other, each with all arguments of the call.
    Passes(fn(&Call) -> Vec<Pass>),
    /// A matrix product, which the vendor's library does.
    Library,
}

/// One entry and its grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    pub entry: &'static str,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of shared memory.
    pub shared: u32,
}

impl Pass {
    /// A grid of `grid` blocks in a row, without shared memory; with none, the pass is left out.
    pub fn new(entry: &'static str, grid: usize, block: u32) -> Self {
        // A grid beyond 2^31 - 1 is refused by the executor, as one of that many blocks.
        Pass { entry, grid: [u32::try_from(grid).unwrap_or(u32::MAX), 1, 1], block, shared: 0 }
    }

    /// Whether there is nothing to launch.
    pub fn is_empty(&self) -> bool {
        self.grid.contains(&0)
    }

    pub fn y(mut self, blocks: usize) -> Self {
        self.grid[1] = u32::try_from(blocks).unwrap_or(u32::MAX);
        self
    }

    pub fn z(mut self, blocks: usize) -> Self {
        self.grid[2] = u32::try_from(blocks).unwrap_or(u32::MAX);
        self
    }

    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared = u32::try_from(bytes).unwrap_or(u32::MAX);
        self
    }
}

impl Kernel {
    /// Whether `call` fits the signature and writes nothing that it also reads.
    pub(super) fn check(&self, call: &Call) -> Result<()> {
        let counts =
            |c: [usize; 4]| format!("{} outputs, {} inputs, {} sizes, {} scalars", c[0], c[1], c[2], c[3]);
        let want = [self.outputs.len(), self.inputs.len(), self.sizes.len(), self.scalars.len()];
        let got = [call.outputs.len(), call.inputs.len(), call.sizes.len(), call.scalars.len()];
        if want != got {
            return Err(Error::shape(self.name, counts(want), counts(got)));
        }
        for (i, out) in call.outputs.iter().enumerate() {
            let others = call.outputs[..i].iter().chain(&call.inputs);
            if others.into_iter().any(|other| out.overlaps(other)) {
                return Err(Error::internal(format!(
                    "{}: output `{}` overlaps another argument",
                    self.name, self.outputs[i]
                )));
            }
        }
        Ok(())
    }
}

/// A tensor argument: part of a block, or nothing for an absent optional one.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    pub block: Block,
    /// Bytes into the block.
    pub offset: usize,
    /// Elements.
    pub len: usize,
    pub dtype: DType,
}

impl Arg {
    /// Stands for an absent optional tensor: a null pointer, an empty slice.
    pub fn absent(dtype: DType) -> Self {
        let block = Block { address: 0, bytes: 0, arena: false, id: u64::MAX };
        Arg { block, offset: 0, len: 0, dtype }
    }

    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    fn overlaps(&self, other: &Arg) -> bool {
        let (a, b) = (self.offset, other.offset);
        self.block.id == other.block.id && a < b + other.bytes() && b < a + self.bytes()
    }
}

/// What a launch costs, counted by the op from its shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written once each.
    pub bytes: Bytes,
    pub flops: Flops,
    pub exponentials: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.bytes += other.bytes;
        self.flops += other.flops;
        self.exponentials += other.exponentials;
    }
}

/// The arguments of one launch.
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub outputs: Vec<Arg>,
    pub inputs: Vec<Arg>,
    pub sizes: Vec<i32>,
    pub scalars: Vec<f32>,
    pub cost: Cost,
}

impl Call {
    pub fn size(&self, i: usize) -> usize {
        self.sizes[i] as usize
    }

    /// The first `N` sizes.
    pub fn sizes<const N: usize>(&self) -> [usize; N] {
        std::array::from_fn(|i| self.size(i))
    }

    /// Storage type of the kernel file's `real`: bf16 where any argument is, else f32.
    pub fn real(&self) -> DType {
        let mut arguments = self.outputs.iter().chain(&self.inputs);
        match arguments.any(|a| a.dtype == DType::BF16) {
            true => DType::BF16,
            false => DType::F32,
        }
    }
}

/// A launch as a CPU function sees it: each output slice can be taken once, inputs freely. What is stored in
/// bf16 may be asked for as it is, or as f32: a copy.
pub struct CpuCall<'a> {
    outputs: Vec<Option<Arg>>,
    inputs: &'a [Arg],
    sizes: &'a [i32],
    scalars: &'a [f32],
    widened: &'a Widened,
}

fn address(arg: &Arg) -> usize {
    match arg.len {
        0 => std::ptr::NonNull::<u64>::dangling().as_ptr() as usize,
        _ => arg.block.address + arg.offset,
    }
}

impl<'a> CpuCall<'a> {
    /// # Safety
    /// Every argument's address must be valid for its length while the value lives, aligned for its
    /// type, and no output may overlap another argument (which [`Kernel::check`] established).
    pub(super) unsafe fn new(call: &'a Call, widened: &'a Widened) -> Self {
        CpuCall {
            outputs: call.outputs.iter().copied().map(Some).collect(),
            inputs: &call.inputs,
            sizes: &call.sizes,
            scalars: &call.scalars,
            widened,
        }
    }

    /// Takes output `i`; a second take of the same output, or a wrong type, is a defect and panics.
    pub fn out<T: Element>(&mut self, i: usize) -> &'a mut [T] {
        let arg = self.outputs[i].take().expect("an output is taken once");
        let address = match (arg.dtype, T::DTYPE) {
            (DType::BF16, DType::F32) => self.widened.output(&arg),
            (is, asked) => {
                assert_eq!(is, asked, "output {i} has another element type");
                address(&arg)
            }
        };
        // SAFETY: `new` promised a valid, aligned, unaliased range, and a copy is nobody else's; `take`
        // makes it unique.
        unsafe { std::slice::from_raw_parts_mut(address as *mut T, arg.len) }
    }

    /// Input `i`, empty when the argument is absent.
    pub fn input<T: Element>(&self, i: usize) -> &'a [T] {
        let arg = &self.inputs[i];
        let address = match (arg.dtype, T::DTYPE) {
            (DType::BF16, DType::F32) => self.widened.input(arg),
            (is, asked) => {
                assert_eq!(is, asked, "input {i} has another element type");
                address(arg)
            }
        };
        // SAFETY: `new` promised a valid, aligned range that no output overlaps; a copy lives as long.
        unsafe { std::slice::from_raw_parts(address as *const T, arg.len) }
    }

    /// How input `i` is stored.
    pub fn stored(&self, i: usize) -> DType {
        self.inputs[i].dtype
    }

    pub fn size(&self, i: usize) -> usize {
        self.sizes[i] as usize
    }

    /// All sizes, destructured by the caller.
    pub fn sizes<const N: usize>(&self) -> [usize; N] {
        std::array::from_fn(|i| self.size(i))
    }

    pub fn scalar(&self, i: usize) -> f32 {
        self.scalars[i]
    }
}
