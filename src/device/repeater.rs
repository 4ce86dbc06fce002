//! An executor before another one: it keeps what steps launch, and launches one phase of a step again and
//! again.
//!
//! A launch that is repeated reads what it read the first time: steps then run in an arena where no two
//! blocks share bytes, and their launches are repeated before the next step may write to it. Where steps
//! become graphs, so do the repetitions.

use super::{
    Block, Call, Cost, Device, Engine, Exchange, Executor, Kernel, Layout, Lifetime, Precision, Used,
};
use crate::collective::{Backend, Group};
use crate::error::{Error, Result};
use crate::trace::{self, Phase};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// One launch as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Launched {
    pub kernel: &'static str,
    pub phase: Phase,
    pub cost: Cost,
    /// Bytes of tensors alive meanwhile, weights and state included.
    pub live: usize,
}

/// What one step launched, in order, and the layout that names the step's plan.
#[derive(Debug, Clone)]
pub struct Step {
    pub layout: Rc<Layout>,
    pub launches: Vec<Launched>,
}

/// Launches to repeat: those of a phase in one step of a run, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub step: usize,
    pub phase: Phase,
}

/// What is done with the launches of a target: the function does all of them so often, and does not wait for
/// the device.
pub type Act = Box<dyn FnOnce(&dyn Fn(usize) -> Result<()>) -> Result<()>>;

/// Passes everything on to another executor.
pub struct Repeater {
    inner: Device,
    /// By the layout whose place they take, which is kept so that an address names one layout.
    apart: RefCell<HashMap<*const Layout, Apart>>,
    keeps_apart: Cell<bool>,
    hollow: Cell<bool>,
    /// Arena bytes alive now.
    live: Cell<usize>,
    /// Steps begun since the last [`Repeater::arm`].
    begun: Cell<usize>,
    recording: RefCell<Option<Vec<Step>>>,
    armed: RefCell<Option<(Target, Act)>>,
    /// Launches of the target as the open step asks for them, then until they are repeated.
    found: RefCell<Option<Vec<(&'static Kernel, Call)>>>,
    open: Cell<bool>,
}

/// The layouts of a step whose blocks share no bytes. One layout names one list of launches.
struct Apart {
    _planned: Rc<Layout>,
    whole: Rc<Layout>,
    hollow: Rc<Layout>,
}

impl Repeater {
    pub fn new(inner: Device) -> Rc<Self> {
        Rc::new(Repeater {
            inner,
            apart: RefCell::default(),
            keeps_apart: Cell::new(false),
            hollow: Cell::new(false),
            live: Cell::new(0),
            begun: Cell::new(0),
            recording: RefCell::default(),
            armed: RefCell::default(),
            found: RefCell::default(),
            open: Cell::new(false),
        })
    }

    /// Starts keeping what steps launch, from nothing.
    pub fn record(&self) {
        self.recording.replace(Some(Vec::new()));
    }

    /// Ends keeping and returns what was kept.
    pub fn recorded(&self) -> Vec<Step> {
        self.recording.take().unwrap_or_default()
    }

    /// Whether steps from now on run in arenas whose blocks share no bytes.
    pub fn keep_apart(&self, apart: bool) {
        self.keeps_apart.set(apart);
    }

    /// Whether launches from now on are asked for and not done: what is left of a step is the host's work.
    ///
    /// Needs [`Repeater::keep_apart`] and a step done before, or a step would read what was never written.
    pub fn launch_nothing(&self, nothing: bool) {
        self.hollow.set(nothing);
    }

    /// Has `act` called with the launches of `target` once that step has ended; steps are counted from now
    /// on.
    ///
    /// Needs [`Repeater::keep_apart`], or the launches would read what others left in their inputs' place.
    pub fn arm(&self, target: Target, act: Act) {
        self.begun.set(0);
        self.found.take();
        self.armed.replace(Some((target, act)));
    }

    /// Does what the last step left to do; fails when the target never came.
    pub fn finish(&self) -> Result<()> {
        self.act()?;
        match self.armed.take() {
            None => Ok(()),
            Some((Target { step, phase }, _)) => Err(Error::internal(format!(
                "a run launched nothing in {} {} of its step {step}",
                phase.pass.name(),
                phase.label
            ))),
        }
    }

    /// Repeats what was found, if anything waits for that.
    fn act(&self) -> Result<()> {
        let Some(launches) = self.found.take().filter(|launches| !launches.is_empty()) else {
            return Ok(());
        };
        let Some((Target { phase, .. }, act)) = self.armed.take() else {
            return Ok(());
        };
        // Names the graph of so many repetitions.
        let graph = RefCell::new((0, Rc::new(Layout::default())));
        act(&|times| {
            let _phase = trace::enter(phase);
            if graph.borrow().0 != times {
                graph.replace((times, Rc::new(Layout::default())));
            }
            self.inner.begin_step(&graph.borrow().1)?;
            let mut all = (0..times).flat_map(|_| &launches);
            match all.try_for_each(|(kernel, call)| self.inner.0.launch(kernel, call)) {
                Ok(()) => self.inner.end_step(),
                Err(error) => {
                    self.inner.abandon_step();
                    Err(error)
                }
            }
        })
    }

    fn layout(&self, planned: &Rc<Layout>) -> Rc<Layout> {
        if !self.keeps_apart.get() {
            return planned.clone();
        }
        let mut apart = self.apart.borrow_mut();
        let own = apart.entry(Rc::as_ptr(planned)).or_insert_with(|| Apart {
            _planned: planned.clone(),
            whole: Rc::new(planned.apart()),
            hollow: Rc::new(planned.apart()),
        });
        if self.hollow.get() { own.hollow.clone() } else { own.whole.clone() }
    }
}

impl Executor for Repeater {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn precision(&self) -> Precision {
        self.inner.precision()
    }

    fn engine(&self) -> Option<Engine> {
        self.inner.engine()
    }

    fn set_engine(&self, engine: Engine) -> Result<()> {
        self.inner.set_engine(engine)
    }

    fn products(&self) -> Option<&'static str> {
        self.inner.products()
    }

    fn has(&self, kernel: &Kernel) -> bool {
        self.inner.has(kernel)
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let block = self.inner.0.allocate(bytes, lifetime)?;
        if block.arena {
            self.live.set(self.live.get() + bytes);
        }
        Ok(block)
    }

    fn release(&self, block: Block) {
        if block.arena {
            self.live.set(self.live.get().saturating_sub(block.bytes));
        }
        self.inner.0.release(block);
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        self.inner.0.upload(block, offset, bytes)
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.inner.0.download(block, offset, bytes)
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        let phase = trace::current();
        if let Some(step) = self.recording.borrow_mut().as_mut().and_then(|steps| steps.last_mut()) {
            let live = self.inner.used().persistent + self.live.get();
            step.launches.push(Launched { kernel: kernel.name, phase, cost: call.cost, live });
        }
        if self.open.get()
            && let Some(found) = self.found.borrow_mut().as_mut()
            && self.armed.borrow().as_ref().is_some_and(|(target, _)| target.phase == phase)
        {
            found.push((kernel, call.clone()));
        }
        if self.hollow.get() {
            return Ok(());
        }
        self.inner.0.launch(kernel, call)
    }

    fn synchronize(&self) -> Result<()> {
        self.inner.0.synchronize()
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.act()?;
        self.inner.0.begin_step(&self.layout(layout))?;
        if let Some(steps) = self.recording.borrow_mut().as_mut() {
            steps.push(Step { layout: layout.clone(), launches: Vec::new() });
        }
        let number = self.begun.replace(self.begun.get() + 1);
        let is_target = self.armed.borrow().as_ref().is_some_and(|(target, _)| target.step == number);
        self.found.replace(is_target.then(Vec::new));
        self.open.set(true);
        Ok(())
    }

    fn end_step(&self) -> Result<()> {
        self.open.set(false);
        self.inner.0.end_step()
    }

    fn abandon_step(&self) {
        self.open.set(false);
        self.found.take();
        self.inner.0.abandon_step();
    }

    fn used(&self) -> Used {
        self.inner.used()
    }

    fn uuid(&self) -> Option<String> {
        self.inner.uuid()
    }

    fn free(&self) -> Option<usize> {
        self.inner.free()
    }

    fn refused_graphs(&self) -> Vec<String> {
        self.inner.refused_graphs()
    }

    fn backend(&self) -> Backend {
        self.inner.0.backend()
    }

    fn meet(&self, group: &Rc<Group>) -> Result<()> {
        self.inner.0.meet(group)
    }

    fn begin_exchange(&self, exchange: &Exchange, block: &Block, offset: usize) -> Result<()> {
        self.inner.0.begin_exchange(exchange, block, offset)
    }

    fn finish_exchanges(&self, group: &Group, what: &'static str) -> Result<()> {
        self.inner.0.finish_exchanges(group, what)
    }
}
