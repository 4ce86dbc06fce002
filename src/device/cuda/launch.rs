//! One launch: its limits, and what is put on the stream.

use super::driver::Context;
use super::modules::Function;
use crate::device::Pass;
use crate::device::tensor_map::Packed;
use crate::error::{Error, Result};
use cudarc::driver::result;
use cudarc::driver::sys::CUresult;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::fmt;

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

/// What the driver takes for the arguments: where each is, the kernel's struct and its maps of tensors. A kernel without
/// maps has one argument, and the driver asks for no second.
pub(super) fn parameters(arguments: &mut [u64], maps: &mut Packed) -> [*mut c_void; 2] {
    [arguments.as_mut_ptr().cast(), (&raw mut *maps).cast()]
}

/// Puts one launch on the stream.
pub(super) fn launch(
    context: &Context,
    function: &Function,
    pass: &Pass,
    arguments: &mut [u64],
    maps: &mut Packed,
) -> Result<(), CUresult> {
    let [x, y, z] = pass.grid;
    let (grid, block) = ((x, y, z), (pass.block, 1, 1));
    // SAFETY: the driver copies both structs, which have these fields and bytes: the simulator compares every
    // one with its descriptor. The tensors outlive their work on the stream: memory is freed when the stream is
    // through with it.
    let launched = unsafe {
        let mut parameters = parameters(arguments, maps);
        result::launch_kernel(function.handle, grid, block, pass.shared, context.stream, &mut parameters)
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
            Launched::Kernel(Pass { entry, grid, block, shared, .. }) => {
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
