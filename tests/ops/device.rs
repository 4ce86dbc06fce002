//! Executors with every new step block filled with NaN, noting which kernels they ran.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Mutex;
use wattention::device::cpu::Cpu;
use wattention::device::sim::{Order, Sim};
use wattention::device::{Block, Call, Device, Executor, Kernel, Layout, Lifetime, Precision, Used};
use wattention::error::Result;

/// Names of the kernels that any test of this process has launched.
static LAUNCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

pub fn launched() -> BTreeSet<&'static str> {
    LAUNCHED.lock().unwrap().clone()
}

/// An executor of which every element that a kernel forgets to write is NaN, or -1 as an integer.
struct Poisoned(Rc<dyn Executor>);

/// The CPU executor, or the simulator with `WATTENTION_TEST_DEVICE=sim`.
pub fn poisoned() -> Device {
    poisoned_in(Precision::Fp32)
}

pub fn poisoned_in(precision: Precision) -> Device {
    let executor: Rc<dyn Executor> = match simulated() {
        true => {
            let sim = Sim::new(precision).unwrap();
            sim.set_order(ORDER.get());
            Rc::new(sim)
        }
        false => Rc::new(Cpu::new(precision)),
    };
    Device::new(Rc::new(Poisoned(executor)))
}

pub fn simulated() -> bool {
    std::env::var("WATTENTION_TEST_DEVICE").is_ok_and(|device| device == "sim")
}

thread_local!(static ORDER: Cell<Order> = const { Cell::new(Order::Forward) });

/// Runs `work`, whose simulated devices run their threads in another order.
pub fn in_order<T>(order: Order, work: impl FnOnce() -> T) -> T {
    let before = ORDER.replace(order);
    let outcome = work();
    ORDER.set(before);
    outcome
}

impl Executor for Poisoned {
    fn name(&self) -> String {
        self.0.name()
    }

    fn precision(&self) -> Precision {
        self.0.precision()
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

    fn abandon_step(&self) {
        self.0.abandon_step();
    }
}
