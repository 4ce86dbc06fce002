//! The `cpu` executor: native multi-threaded Rust, the vector width chosen at run time.

pub mod activation;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;
mod caches;
pub mod features;
pub mod gemm;
pub mod int8;
mod mapped;
pub mod math;
mod memory;
mod microkernel;
pub mod norm;
pub mod optimizer;
mod pack;
pub mod peak;
pub mod philox;
mod scratch;
pub mod simd;
pub mod skinny;
pub mod softmax;
pub mod vector;

pub use mapped::Mapped;
pub(crate) use microkernel::Operand;

use super::blocks::Blocks;
use super::{Block, Call, Executor, Kernel, Layout, Lifetime, Precision, Used, host};
use crate::error::Result;
use crate::trace;
use memory::Memory;
use std::rc::Rc;

/// Runs every launch at once, on all cores.
#[derive(Default)]
pub struct Cpu {
    precision: Precision,
    blocks: Blocks<Memory>,
}

impl Cpu {
    pub fn new(precision: Precision) -> Self {
        Cpu { precision, ..Cpu::default() }
    }
}

impl Executor for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn products(&self) -> Option<&'static str> {
        Some(gemm::way(self.precision.storage()))
    }

    fn has(&self, _: &Kernel) -> bool {
        true
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        self.blocks.allocate(bytes, lifetime, || Memory::new(bytes))
    }

    fn release(&self, block: Block) {
        self.blocks.release(block);
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        host::write(block.address + offset, bytes);
        Ok(())
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        host::read(block.address + offset, bytes);
        Ok(())
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        // SAFETY: blocks stay mapped until released, arena blocks until the arena grows between
        // steps; `Device::launch` checked that outputs overlap nothing; addresses are 64-aligned.
        trace::timed(kernel.name, || unsafe { host::run(kernel.cpu, call) });
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.blocks.begin(layout, Memory::new)
    }

    fn end_step(&self) -> Result<()> {
        self.blocks.end();
        Ok(())
    }

    fn abandon_step(&self) {
        self.blocks.end();
    }

    fn used(&self) -> Used {
        self.blocks.used()
    }

    fn free(&self) -> Option<usize> {
        host::free()
    }
}
