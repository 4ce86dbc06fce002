//! From a call's arguments to what the driver launches.

use super::driver::Context;
use super::modules::Function;
use crate::device::{Arg, Call, Pass};
use crate::error::{Error, Result};
use cudarc::driver::result;
use cudarc::driver::sys::CUresult;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;

/// Every argument in a word of its own, in the order of the signature: tensors as addresses, absent ones as null,
/// sizes and scalars in the low half, which is where a kernel of a little-endian host reads them.
pub(super) fn arguments(call: &Call) -> Vec<u64> {
    let tensors = call.outputs.iter().chain(&call.inputs).map(address);
    let sizes = call.sizes.iter().map(|&size| u64::from(size as u32));
    let scalars = call.scalars.iter().map(|&scalar| u64::from(scalar.to_bits()));
    tensors.chain(sizes).chain(scalars).collect()
}

pub(super) fn address(arg: &Arg) -> u64 {
    match arg.len {
        0 => 0,
        _ => (arg.block.address + arg.offset) as u64,
    }
}

/// Fails for a launch that no GPU, or not this one with so much shared memory, can do.
pub(super) fn check(pass: &Pass, shared: u32) -> Result<()> {
    let [x, y, z] = pass.grid;
    let blocks = (1..=i32::MAX as u32).contains(&x) && [y, z].iter().all(|n| (1..=65535).contains(n));
    if !blocks || !(1..=1024).contains(&pass.block) {
        return Err(Error::DoesNotFit(format!(
            "{}: no GPU launches a grid of {:?} blocks of {}; try a smaller batch or a shorter input",
            pass.entry, pass.grid, pass.block
        )));
    }
    match pass.shared <= shared {
        true => Ok(()),
        false => Err(Error::Device(format!(
            "{} needs {} bytes of shared memory, and a block on this GPU has {shared}; use --device cpu, or a GPU \
             of compute capability 8.0 or 9.0",
            pass.entry, pass.shared
        ))),
    }
}

/// What the driver takes instead of the arguments: where each of them is.
pub(super) fn pointers(arguments: &mut [u64]) -> Vec<*mut c_void> {
    arguments.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect()
}

/// Puts one launch on the stream.
pub(super) fn launch(
    context: &Context,
    function: &Function,
    pass: &Pass,
    arguments: &mut [u64],
) -> Result<(), CUresult> {
    let [x, y, z] = pass.grid;
    let (grid, block) = ((x, y, z), (pass.block, 1, 1));
    // SAFETY: the driver copies the arguments, of which there are as many, in this order and of these sizes, as the
    // kernel has: the simulator compares every signature with its descriptor. The tensors outlive their work on the
    // stream: memory is freed when the stream is through with it.
    let launched = unsafe {
        let mut pointers = pointers(arguments);
        result::launch_kernel(function.handle, grid, block, pass.shared, context.stream, &mut pointers)
    };
    launched.map_err(|e| e.0)
}

/// What was put on the stream, as an error names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launched {
    Kernel(Pass),
    /// A product `[m, n]` over k.
    Product([usize; 3]),
    /// That many of them at once.
    Graph(usize),
}

impl fmt::Display for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Launched::Kernel(Pass { entry, grid, block, shared }) => {
                write!(f, "{entry} (grid {grid:?}, block {block}, shared {shared})")
            }
            Launched::Product([m, n, k]) => write!(f, "matmul ([{m}, {n}] over {k})"),
            Launched::Graph(count) => write!(f, "a graph of {count} kernels"),
        }
    }
}

/// The latest launches since the GPU was last known to be well.
#[derive(Default)]
pub(super) struct Recent {
    last: VecDeque<Launched>,
    count: usize,
}

impl Recent {
    const NAMED: usize = 4;

    pub fn add(&mut self, launched: Launched) {
        if self.last.len() == Self::NAMED {
            self.last.pop_front();
        }
        self.last.push_back(launched);
        self.count += 1;
    }

    pub fn clear(&mut self) {
        self.last.clear();
        self.count = 0;
    }

    /// The newest at the end, and how many there were.
    pub fn last(&mut self) -> (&[Launched], usize) {
        (self.last.make_contiguous(), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Block;
    use crate::shape::DType;

    #[test]
    fn arguments_keep_their_order_and_bits() {
        let block = Block { address: 0x7f00_0000_0000, bytes: 64, arena: false, id: 0 };
        let tensor = |offset, len| Arg { block, offset, len, dtype: DType::F32 };
        let call = Call {
            outputs: vec![tensor(0, 4), Arg::absent(DType::F32)],
            inputs: vec![tensor(16, 2)],
            sizes: vec![5, -1],
            scalars: vec![1.5],
            ..Call::default()
        };
        let bits = u64::from(1.5f32.to_bits());
        assert_eq!(arguments(&call), [0x7f00_0000_0000, 0, 0x7f00_0000_0010, 5, 0xffff_ffff, bits]);
    }

    #[test]
    fn launches_beyond_the_limits_are_refused_with_a_reason() {
        let refusal = |pass: Pass| check(&pass, 100 << 10).map_err(|e| (e.exit_code(), e.to_string()));
        assert_eq!(refusal(Pass::new("x", 1 << 20, 1024).y(65535).shared(100 << 10)), Ok(()));
        for pass in [Pass::new("x", 0, 32), Pass::new("x", 1 << 31, 32), Pass::new("x", 1, 32).z(65536)] {
            let (code, text) = refusal(pass).unwrap_err();
            assert!(code == 75 && text.starts_with("x: no GPU launches"), "{text}");
        }
        let (code, text) = refusal(Pass::new("x", 1, 32).shared(101 << 10)).unwrap_err();
        assert!(code == 69 && text.contains("103424 bytes of shared memory"), "{text}");
    }

    #[test]
    fn the_latest_launches_are_remembered() {
        let mut recent = Recent::default();
        for n in 1..=6 {
            recent.add(Launched::Kernel(Pass::new("x", n, 32)));
        }
        recent.add(Launched::Product([2, 3, 4]));
        let (last, count) = recent.last();
        assert_eq!((last.len(), count), (4, 7));
        assert_eq!(last[0].to_string(), "x (grid [4, 1, 1], block 32, shared 0)");
        assert_eq!(last[3].to_string(), "matmul ([2, 3] over 4)");
        recent.clear();
        assert_eq!(recent.last().1, 0);
    }
}
