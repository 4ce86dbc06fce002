//! The CPU executor with every new step block filled with NaN, noting which kernels it ran.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;
use wattention::device::cpu::Cpu;
use wattention::device::{Block, Call, Device, Executor, Kernel, Layout, Lifetime, Used};
use wattention::error::Result;

/// Names of the kernels that any test of this process has launched.
static LAUNCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

pub fn launched() -> BTreeSet<&'static str> {
    LAUNCHED.lock().unwrap().clone()
}

/// An element that a kernel forgets to write stays NaN, or -1 as an integer.
struct Poisoned(Cpu);

pub fn poisoned() -> Device {
    Device::new(Rc::new(Poisoned(Cpu::new())))
}

impl Executor for Poisoned {
    fn name(&self) -> String {
        self.0.name()
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let block = self.0.allocate(bytes, lifetime)?;
        if lifetime == Lifetime::Step {
            self.0.upload(&block, 0, &vec![0xff; bytes])?;
        }
        Ok(block)
    }

    fn release(&self, block: Block) {
        self.0.release(block);
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        self.0.upload(block, offset, bytes)
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.0.download(block, offset, bytes)
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        LAUNCHED.lock().unwrap().insert(kernel.name);
        self.0.launch(kernel, call)
    }

    fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }

    fn used(&self) -> Used {
        self.0.used()
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.0.begin_step(layout)
    }

    fn end_step(&self) -> Result<()> {
        self.0.end_step()
    }
}
