//! The `plan` executor: runs nothing, records every allocation, release and launch.

use super::layout::Interval;
use super::{Block, Call, Cost, Executor, Kernel, Layout, Lifetime, Precision, Used};
use crate::error::{Error, Result};
use crate::trace::{self, Phase};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// One recorded launch.
#[derive(Debug, Clone)]
pub struct Launch {
    pub kernel: &'static str,
    pub phase: Phase,
    pub cost: Cost,
}

/// What a step would do: its arena and its launches in order.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    pub layout: Rc<Layout>,
    pub launches: Vec<Launch>,
    /// Arena allocations of the step.
    pub allocations: usize,
}

impl Recording {
    /// The sum over all launches.
    pub fn cost(&self) -> Cost {
        let mut total = Cost::default();
        for launch in &self.launches {
            total += launch.cost;
        }
        total
    }
}

/// Records one step at a time; blocks have no memory behind them.
#[derive(Default)]
pub struct Plan {
    next_id: Cell<u64>,
    persistent: Cell<usize>,
    /// The largest arena of the steps recorded so far.
    arena: Cell<usize>,
    step: RefCell<Option<Step>>,
    precision: Precision,
}

#[derive(Default)]
struct Step {
    clock: usize,
    intervals: Vec<Interval>,
    launches: Vec<Launch>,
}

impl Plan {
    pub fn new(precision: Precision) -> Rc<Self> {
        Rc::new(Plan { precision, ..Plan::default() })
    }

    /// Starts recording a step.
    pub fn record(&self) {
        self.step.replace(Some(Step::default()));
    }

    /// Ends the step and lays out its arena. Blocks still alive keep their place to the end.
    pub fn finish(&self) -> Result<Recording> {
        let step =
            self.step.take().ok_or_else(|| Error::internal("the plan was finished before it was begun"))?;
        let allocations = step.intervals.len();
        let layout = Rc::new(Layout::from_lifetimes(&step.intervals));
        self.arena.set(self.arena.get().max(layout.peak()));
        Ok(Recording { layout, launches: step.launches, allocations })
    }
}

impl Executor for Plan {
    fn name(&self) -> String {
        "plan".into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn has(&self, _: &Kernel) -> bool {
        true
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut step = self.step.borrow_mut();
        match (&mut *step, lifetime) {
            (Some(step), Lifetime::Step) => {
                step.clock += 1;
                step.intervals.push(Interval { bytes, from: step.clock, to: usize::MAX });
                Ok(Block { address: step.intervals.len() - 1, bytes, arena: true, id })
            }
            _ => {
                self.persistent.set(self.persistent.get() + bytes);
                Ok(Block { address: 0, bytes, arena: false, id })
            }
        }
    }

    fn release(&self, block: Block) {
        if !block.arena {
            self.persistent.set(self.persistent.get() - block.bytes);
        } else if let Some(step) = self.step.borrow_mut().as_mut() {
            step.clock += 1;
            step.intervals[block.address].to = step.clock;
        }
    }

    fn upload(&self, _: &Block, _: usize, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn download(&self, _: &Block, _: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        if let Some(step) = self.step.borrow_mut().as_mut() {
            step.launches.push(Launch { kernel: kernel.name, phase: trace::current(), cost: call.cost });
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn begin_step(&self, _: &Rc<Layout>) -> Result<()> {
        Err(Error::internal("the plan executor records steps, it does not run them"))
    }

    fn end_step(&self) -> Result<()> {
        Ok(())
    }

    fn abandon_step(&self) {}

    fn used(&self) -> Used {
        Used { persistent: self.persistent.get(), arena: self.arena.get() }
    }
}
