//! The `cpu` executor: native multi-threaded Rust, the vector width chosen at run time.

pub mod activation;
pub mod attention;
pub mod gemm;
pub mod math;
mod memory;
mod microkernel;
pub mod norm;
pub mod optimizer;
mod pack;
pub mod philox;
mod scratch;
pub mod simd;
mod skinny;
pub mod softmax;
pub mod vector;

use super::layout::aligned;
use super::{Block, Call, CpuCall, Executor, Kernel, Layout, Lifetime, Used};
use crate::error::{Error, Result};
use crate::trace;
use memory::Memory;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Runs every launch at once, on all cores.
#[derive(Default)]
pub struct Cpu {
    next_id: Cell<u64>,
    persistent: RefCell<HashMap<u64, Memory>>,
    persistent_bytes: Cell<usize>,
    arena: RefCell<Arena>,
}

#[derive(Default)]
struct Arena {
    memory: Option<Memory>,
    step: Option<Rc<Layout>>,
    next: usize,
    live: usize,
    /// The furthest byte any block of any step has reached.
    high_water: usize,
}

impl Cpu {
    pub fn new() -> Self {
        Cpu::default()
    }

    fn allocate_persistent(&self, bytes: usize, id: u64) -> Result<Block> {
        let memory = Memory::new(bytes)?;
        let address = memory.address();
        self.persistent.borrow_mut().insert(id, memory);
        self.persistent_bytes.set(self.persistent_bytes.get() + bytes);
        Ok(Block { address, bytes, arena: false, id })
    }
}

impl Executor for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut arena = self.arena.borrow_mut();
        let Some(layout) = arena.step.clone().filter(|_| lifetime == Lifetime::Step) else {
            return self.allocate_persistent(bytes, id);
        };
        let offset = layout.place(arena.next, bytes)?;
        let address = arena.memory.as_ref().map_or(0, Memory::address) + offset;
        arena.next += 1;
        arena.live += 1;
        arena.high_water = arena.high_water.max(offset + aligned(bytes));
        Ok(Block { address, bytes, arena: true, id })
    }

    fn release(&self, block: Block) {
        if block.arena {
            self.arena.borrow_mut().live -= 1;
        } else {
            self.persistent_bytes.set(self.persistent_bytes.get() - block.bytes);
            self.persistent.borrow_mut().remove(&block.id);
        }
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        if !bytes.is_empty() {
            memory::write(block.address + offset, bytes);
        }
        Ok(())
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        if !bytes.is_empty() {
            memory::read(block.address + offset, bytes);
        }
        Ok(())
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        // SAFETY: blocks stay mapped until released, arena blocks until the arena grows between
        // steps; `Device::launch` checked that outputs overlap nothing; addresses are 64-aligned.
        let mut cpu_call = unsafe { CpuCall::new(call) };
        trace::timed(kernel.name, || (kernel.cpu)(&mut cpu_call));
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        let mut arena = self.arena.borrow_mut();
        if arena.step.is_some() || arena.live > 0 {
            return Err(Error::internal(format!(
                "a step began while {} blocks of another were alive",
                arena.live
            )));
        }
        if arena.memory.as_ref().is_none_or(|m| m.bytes() < layout.peak()) {
            arena.memory = None;
            arena.memory = Some(Memory::new(layout.peak())?);
        }
        arena.next = 0;
        arena.step = Some(layout.clone());
        Ok(())
    }

    fn end_step(&self) -> Result<()> {
        self.arena.borrow_mut().step = None;
        Ok(())
    }

    fn used(&self) -> Used {
        Used { persistent: self.persistent_bytes.get(), arena: self.arena.borrow().high_water }
    }
}
