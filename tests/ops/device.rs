//! Executors with every new step block filled with NaN, and one that only shows what it is asked for.

pub use crate::support::executor::simulated;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use wattention::device::cpu::Cpu;
use wattention::device::plan::Plan;
use wattention::device::sim::{Order, Sim};
use wattention::device::{Block, Call, Device, Engine, Executor, Kernel, Layout, Lifetime, Precision, Used};
use wattention::error::Result;

/// An executor of which every element that a kernel forgets to write is NaN, or -1 as an integer.
struct Poisoned {
    executor: Rc<dyn Executor>,
    /// Sees every launch.
    seen: Seen,
}

type Seen = Box<dyn Fn(&'static Kernel, &Call)>;

/// Names of the kernels that were launched.
pub type Launched = Rc<RefCell<BTreeSet<&'static str>>>;

/// An executor that computes nothing, and the kernels that it is asked for.
pub fn listing() -> (Device, Launched) {
    let launched = Launched::default();
    let names = launched.clone();
    let device = watched(Precision::Fp32, move |kernel, _| {
        names.borrow_mut().insert(kernel.name);
    });
    (device, launched)
}

/// An executor that computes nothing and shows every launch to `seen`.
pub fn watched(precision: Precision, seen: impl Fn(&'static Kernel, &Call) + 'static) -> Device {
    Device::new(Rc::new(Poisoned { executor: Plan::new(precision), seen: Box::new(seen) }))
}

/// The CPU executor, or the simulator with `WATTENTION_TEST_DEVICE=sim`.
pub fn poisoned() -> Device {
    poisoned_in(Precision::Fp32)
}

pub fn poisoned_in(precision: Precision) -> Device {
    let engine = ENGINE.get();
    let executor: Rc<dyn Executor> = match simulated() || engine == Engine::Hopper {
        true => {
            let sim = Sim::new(precision).unwrap();
            sim.set_order(ORDER.get());
            sim.set_engine(engine).unwrap();
            Rc::new(sim)
        }
        false => Rc::new(Cpu::new(precision)),
    };
    Device::new(Rc::new(Poisoned { executor, seen: Box::new(|_, _| ()) }))
}

thread_local!(static ORDER: Cell<Order> = const { Cell::new(Order::Forward) });
thread_local!(static ENGINE: Cell<Engine> = const { Cell::new(Engine::Mma) });

/// Runs `work`, whose simulated devices run their threads in another order.
pub fn in_order<T>(order: Order, work: impl FnOnce() -> T) -> T {
    let before = ORDER.replace(order);
    let outcome = work();
    ORDER.set(before);
    outcome
}

/// Runs `work` on the simulator, with the attention kernels of compute capability 9.0, its threads in this order.
#[cfg(wattention_sim)]
pub fn on_hopper<T>(order: Order, work: impl FnOnce() -> T) -> T {
    let before = ENGINE.replace(Engine::Hopper);
    let outcome = in_order(order, work);
    ENGINE.set(before);
    outcome
}

impl Executor for Poisoned {
    fn name(&self) -> String {
        self.executor.name()
    }

    fn precision(&self) -> Precision {
        self.executor.precision()
    }

    fn engine(&self) -> Option<Engine> {
        self.executor.engine()
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let block = self.executor.allocate(bytes, lifetime)?;
        if lifetime == Lifetime::Step {
            self.executor.upload(&block, 0, &vec![0xff; bytes])?;
        }
        Ok(block)
    }

    fn release(&self, block: Block) {
        self.executor.release(block);
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        self.executor.upload(block, offset, bytes)
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.executor.download(block, offset, bytes)
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        (self.seen)(kernel, call);
        self.executor.launch(kernel, call)
    }

    fn synchronize(&self) -> Result<()> {
        self.executor.synchronize()
    }

    fn used(&self) -> Used {
        self.executor.used()
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.executor.begin_step(layout)
    }

    fn end_step(&self) -> Result<()> {
        self.executor.end_step()
    }

    fn abandon_step(&self) {
        self.executor.abandon_step();
    }
}
