//! Memory of the GPU, and a few free pieces kept for the next that asks.

use super::super::blocks;
use super::driver::Context;
use super::errors;
use crate::error::Result;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUresult};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What the driver rounds up to, more or less.
const UNIT: usize = 512;

/// Larger pieces are not kept, and no more than this in all.
const LARGEST_KEPT: usize = 1 << 20;
const MOST_KEPT: usize = 64 << 20;

/// Uninitialised bytes, freed when dropped.
pub(super) struct Memory {
    context: Rc<Context>,
    address: CUdeviceptr,
    bytes: usize,
}

impl Memory {
    pub fn new(context: &Rc<Context>, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1).next_multiple_of(UNIT);
        // SAFETY: the context is current; whoever reads the memory writes it first.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Memory { context: context.clone(), address, bytes }),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = result::mem_get_info().unwrap_or_default();
                Err(errors::out_of_memory(bytes, free, total))
            }
            Err(error) => Err(errors::refused(error.0, format_args!("allocate {bytes} bytes"))),
        }
    }

    pub fn pointer(&self) -> CUdeviceptr {
        self.address
    }

    /// Writes zeros over all of it, in the order of the stream.
    fn clear(&self) -> Result<()> {
        // SAFETY: the memory is `bytes` long and lives; the stream is the only one that uses it.
        let cleared = unsafe { result::memset_d8_async(self.address, 0, self.bytes, self.context.stream) };
        cleared.map_err(|e| errors::refused(e.0, format_args!("clear {} bytes", self.bytes)))
    }
}

impl blocks::Memory for Memory {
    fn address(&self) -> usize {
        self.address as usize
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Kernels on their way may use it. After a fault nothing can be freed, nor need it be.
        let _ = self.context.synchronize();
        // SAFETY: it came from `malloc_sync`, is freed once, and no work on the stream is left.
        let _ = unsafe { result::memory_free(self.address) };
    }
}

/// Small blocks come and go with every batch; the driver stops the GPU for each.
#[derive(Default)]
pub(super) struct Pool {
    /// By size. Their next use comes after the last in the order of the stream.
    free: RefCell<HashMap<usize, Vec<Memory>>>,
    kept: Cell<usize>,
}

impl Pool {
    /// At least `bytes`, from what is kept or from the driver.
    pub fn take(&self, context: &Rc<Context>, bytes: usize, zeroed: bool) -> Result<Memory> {
        let size = bytes.max(1).next_multiple_of(UNIT);
        let kept = self.free.borrow_mut().get_mut(&size).and_then(Vec::pop);
        let memory = match kept {
            Some(memory) => {
                self.kept.set(self.kept.get() - size);
                memory
            }
            None => self.allocate(context, size)?,
        };
        if zeroed {
            memory.clear()?;
        }
        Ok(memory)
    }

    /// From the driver, for which all that is kept is given up if it must.
    pub fn allocate(&self, context: &Rc<Context>, bytes: usize) -> Result<Memory> {
        Memory::new(context, bytes).or_else(|full| {
            if self.kept.replace(0) == 0 {
                return Err(full);
            }
            self.free.borrow_mut().clear();
            Memory::new(context, bytes)
        })
    }

    /// Takes back what is no longer used.
    pub fn give(&self, memory: Memory) {
        let size = memory.bytes;
        if size <= LARGEST_KEPT && self.kept.get() + size <= MOST_KEPT {
            self.kept.set(self.kept.get() + size);
            self.free.borrow_mut().entry(size).or_default().push(memory);
        }
    }
}
