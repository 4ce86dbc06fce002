//! Kernel descriptors: an entry point, the names of its arguments, and how each executor runs it.

use super::call::Call;
use super::host::CpuCall;
use super::signature::Signature;
use super::tensor_map::Maps;

/// One entry point, the same name in `kernels/*.cu` and in traces.
pub struct Kernel {
    pub name: &'static str,
    /// Argument names in launch order, as in the kernel file's struct.
    pub outputs: &'static [&'static str],
    pub inputs: &'static [&'static str],
    pub sizes: &'static [&'static str],
    pub scalars: &'static [&'static str],
    /// The function that executors on host memory run.
    pub cpu: fn(&mut CpuCall),
    /// What the executors that run `kernels/*.cu` do.
    pub gpu: Gpu,
}

impl Kernel {
    pub fn signature(&self) -> Signature {
        Signature { kernel: self.name, names: [self.outputs, self.inputs, self.sizes, self.scalars] }
    }

    /// What there is to launch for a call, in order; nothing for a product of the library.
    pub(super) fn passes(&self, call: &Call) -> Vec<Pass> {
        match self.gpu {
            Gpu::Passes(passes) => passes(call).into_iter().filter(|pass| !pass.is_empty()).collect(),
            Gpu::Library | Gpu::None => Vec::new(),
        }
    }
}

/// How a launch runs where kernel files do.
pub enum Gpu {
    /// Entries of the kernel file, one after the other, each with all arguments of the call.
    Passes(fn(&Call) -> Vec<Pass>),
    /// A matrix product, which the vendor's library does.
    Library,
    /// Nothing yet: only the CPU has it.
    None,
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
    /// By which the entry copies.
    pub maps: Maps,
}

impl Pass {
    /// A grid of `grid` blocks in a row, without shared memory; with none, the pass is left out.
    pub fn new(entry: &'static str, grid: usize, block: u32) -> Self {
        // A grid beyond 2^31 - 1 is refused by the executor, as one of that many blocks.
        let grid = [u32::try_from(grid).unwrap_or(u32::MAX), 1, 1];
        Pass { entry, grid, block, shared: 0, maps: Maps::Unused }
    }

    /// Whether there is nothing to launch.
    fn is_empty(&self) -> bool {
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

    pub fn maps(mut self, maps: Maps) -> Self {
        self.maps = maps;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_without_a_block_are_left_out() {
        fn passes(_: &Call) -> Vec<Pass> {
            vec![Pass::new("a", 0, 32), Pass::new("b", 2, 32), Pass::new("c", 2, 32).y(0)]
        }
        let (names, cpu): (&[_], fn(&mut CpuCall)) = (&[], |_| ());
        let gpu = Gpu::Passes(passes);
        let kernel =
            Kernel { name: "k", outputs: names, inputs: names, sizes: names, scalars: names, cpu, gpu };
        let entries: Vec<&str> = kernel.passes(&Call::default()).iter().map(|pass| pass.entry).collect();
        assert_eq!(entries, ["b"]);
    }
}
