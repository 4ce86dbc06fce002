//! The blocks of an executor that keeps the arena of a step as one piece of memory.

use super::layout::aligned;
use super::{Block, Layout, Lifetime, Used};
use crate::error::{Error, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// A piece of memory that goes back when dropped.
pub(super) trait Memory {
    fn address(&self) -> usize;
    fn bytes(&self) -> usize;
}

/// Persistent blocks, each with its memory, and the arena.
pub(super) struct Blocks<M> {
    next_id: Cell<u64>,
    persistent: RefCell<HashMap<u64, M>>,
    persistent_bytes: Cell<usize>,
    arena: RefCell<Arena<M>>,
}

/// Grows between steps and never shrinks.
struct Arena<M> {
    memory: Option<M>,
    step: Option<Rc<Layout>>,
    next: usize,
    live: usize,
    /// The furthest byte that any block of any step has reached.
    high_water: usize,
}

impl<M> Default for Blocks<M> {
    fn default() -> Self {
        let arena = Arena { memory: None, step: None, next: 0, live: 0, high_water: 0 };
        Blocks {
            next_id: Cell::default(),
            persistent: RefCell::default(),
            persistent_bytes: Cell::default(),
            arena: RefCell::new(arena),
        }
    }
}

impl<M: Memory> Blocks<M> {
    /// The next planned place of the open step, or else memory of its own from `make`.
    pub fn allocate(
        &self,
        bytes: usize,
        lifetime: Lifetime,
        make: impl FnOnce() -> Result<M>,
    ) -> Result<Block> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        if lifetime == Lifetime::Step
            && let Some(address) = self.arena.borrow_mut().place(bytes)?
        {
            return Ok(Block { address, bytes, arena: true, id });
        }
        let memory = make()?;
        let address = memory.address();
        self.persistent.borrow_mut().insert(id, memory);
        self.persistent_bytes.set(self.persistent_bytes.get() + bytes);
        Ok(Block { address, bytes, arena: false, id })
    }

    /// Gives back the memory of a block that has its own.
    pub fn release(&self, block: Block) -> Option<M> {
        if block.arena {
            self.arena.borrow_mut().live -= 1;
            return None;
        }
        self.persistent_bytes.set(self.persistent_bytes.get() - block.bytes);
        self.persistent.borrow_mut().remove(&block.id)
    }

    /// Opens a step; `make` is called when its layout needs more than any before it.
    pub fn begin(&self, layout: &Rc<Layout>, make: impl FnOnce(usize) -> Result<M>) -> Result<()> {
        let arena = &mut *self.arena.borrow_mut();
        if arena.step.is_some() || arena.live > 0 {
            return Err(Error::internal(format!(
                "a step began while {} blocks of another were alive",
                arena.live
            )));
        }
        if arena.memory.as_ref().is_none_or(|memory| memory.bytes() < layout.peak()) {
            // Given back first: both may not fit.
            arena.memory = None;
            arena.memory = Some(make(layout.peak())?);
        }
        arena.next = 0;
        arena.step = Some(layout.clone());
        Ok(())
    }

    pub fn end(&self) {
        self.arena.borrow_mut().step = None;
    }

    pub fn used(&self) -> Used {
        Used { persistent: self.persistent_bytes.get(), arena: self.arena.borrow().high_water }
    }
}

impl<M: Memory> Arena<M> {
    /// Where the step's next block lies, or nothing outside of a step.
    fn place(&mut self, bytes: usize) -> Result<Option<usize>> {
        let (Some(layout), Some(memory)) = (&self.step, &self.memory) else {
            return Ok(None);
        };
        let offset = layout.place(self.next, bytes)?;
        self.next += 1;
        self.live += 1;
        self.high_water = self.high_water.max(offset + aligned(bytes));
        Ok(Some(memory.address() + offset))
    }
}
