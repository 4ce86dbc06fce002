//! Steps as graphs: the first run of a step goes launch by launch, the second is recorded and run as a
//! whole, and later ones replay the recording with whatever sizes and scalars changed. What is known to
//! change from step to step is in memory, and uploaded, so that few launches change, if any.
//!
//! A step's Rust code runs every time. While it is recorded or replayed nothing reaches the device
//! before its end, so it may not read back, and what it launches must have the same addresses. A step
//! that launches something else than the recording is run launch by launch, and recorded anew.

use super::{Block, Call, Exchange, Kernel, Layout};
use crate::error::{Error, Result};
use crate::trace;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What a step asks of its executor, in order.
#[derive(Clone)]
pub(super) enum Op {
    Launch {
        kernel: &'static Kernel,
        call: Call,
    },
    Upload {
        block: Block,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// An exchange with other ranks that begins, beside what is launched after it.
    Exchange {
        exchange: Exchange,
        block: Block,
        offset: usize,
    },
    Allocate(Block),
    Release(Block),
}

impl Op {
    /// Whether `other` may take this op's place in a graph: the same but for sizes, scalars and content.
    fn fits(&self, other: &Op) -> bool {
        let place = |block: &Block| (block.address, block.bytes);
        match (self, other) {
            (Op::Launch { kernel, call }, Op::Launch { kernel: k, call: c }) => {
                let same = |a: &[super::Arg], b: &[super::Arg]| {
                    a.len() == b.len()
                        && a.iter().zip(b).all(|(a, b)| {
                            (a.block.address, a.offset, a.len, a.dtype)
                                == (b.block.address, b.offset, b.len, b.dtype)
                        })
                };
                std::ptr::eq(*kernel, *k)
                    && call.engine == c.engine
                    && same(&call.outputs, &c.outputs)
                    && same(&call.inputs, &c.inputs)
            }
            (Op::Upload { block, offset, bytes }, Op::Upload { block: b, offset: o, bytes: new }) => {
                (place(block), *offset, bytes.len()) == (place(b), *o, new.len())
            }
            (
                Op::Exchange { exchange, block, offset },
                Op::Exchange { exchange: other, block: b, offset: o },
            ) => exchange == other && (place(block), *offset) == (place(b), *o),
            (Op::Allocate(a), Op::Allocate(b)) | (Op::Release(a), Op::Release(b)) => place(a) == place(b),
            _ => false,
        }
    }

    /// Whether a graph made with `self` must be told of `other`.
    fn differs(&self, other: &Op) -> bool {
        match (self, other) {
            (Op::Launch { call, .. }, Op::Launch { call: c, .. }) => {
                let bits = |call: &Call| call.scalars.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
                call.sizes != c.sizes || bits(call) != bits(c)
            }
            (Op::Upload { bytes, .. }, Op::Upload { bytes: new, .. }) => bytes != new,
            _ => false,
        }
    }
}

/// An executor that can run ops one by one, or as a graph.
pub(super) trait Runner {
    type Graph;
    /// Runs one op now.
    fn run(&self, op: &Op) -> Result<()>;
    fn instantiate(&self, ops: &[Op]) -> Result<Self::Graph>;
    /// Takes over what differs in op `index`.
    fn update(&self, graph: &mut Self::Graph, index: usize, op: &Op) -> Result<()>;
    fn replay(&self, graph: &Self::Graph, ops: &[Op]) -> Result<()>;
}

struct Captured<G> {
    /// Kept, so that its address names one step for as long as the graph lives.
    layout: Rc<Layout>,
    graph: Option<(Vec<Op>, G)>,
}

enum Mode {
    Idle,
    Direct,
    Recording(Vec<Op>),
    /// How many ops have met their recorded ones, and which of these must be updated.
    Replaying {
        next: usize,
        changed: Vec<usize>,
    },
}

/// How often steps ran in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GraphCounts {
    pub direct: u64,
    pub recorded: u64,
    pub replayed: u64,
    /// Launches whose sizes or scalars were other ones in a replay.
    pub changed: u64,
    /// Steps that left their recording.
    pub diverged: u64,
}

/// The graphs of an executor's steps, and what the open step is doing.
pub(super) struct Graphs<G> {
    steps: RefCell<HashMap<*const Layout, Captured<G>>>,
    open: Cell<*const Layout>,
    mode: RefCell<Mode>,
    counts: Cell<GraphCounts>,
}

impl<G> Graphs<G> {
    pub fn new() -> Self {
        Graphs {
            steps: RefCell::default(),
            open: Cell::new(std::ptr::null()),
            mode: RefCell::new(Mode::Idle),
            counts: Cell::default(),
        }
    }

    pub fn counts(&self) -> GraphCounts {
        self.counts.get()
    }

    fn count(&self, add: impl FnOnce(&mut GraphCounts)) {
        let mut counts = self.counts.get();
        add(&mut counts);
        self.counts.set(counts);
    }

    /// Opens the step that `layout` names. Timing needs every launch by itself.
    pub fn begin(&self, layout: &Rc<Layout>) {
        if trace::is_timing() {
            return self.begin_direct();
        }
        let mut steps = self.steps.borrow_mut();
        // A session that is gone took its layouts with it.
        steps.retain(|_, captured| Rc::strong_count(&captured.layout) > 1);
        let key = Rc::as_ptr(layout);
        let mode = match steps.get(&key) {
            None => {
                steps.insert(key, Captured { layout: layout.clone(), graph: None });
                Mode::Direct
            }
            Some(Captured { graph: None, .. }) => Mode::Recording(Vec::new()),
            Some(_) => Mode::Replaying { next: 0, changed: Vec::new() },
        };
        self.open.set(key);
        self.mode.replace(mode);
    }

    /// Opens a step that is not to be a graph.
    pub fn begin_direct(&self) {
        self.mode.replace(Mode::Direct);
    }

    /// Whether what is asked now is done now.
    pub fn is_direct(&self) -> bool {
        matches!(&*self.mode.borrow(), Mode::Idle | Mode::Direct)
    }

    /// Refuses what a graph cannot hold.
    pub fn refuse(&self, what: &str) -> Result<()> {
        match self.is_direct() {
            true => Ok(()),
            false => Err(Error::internal(format!("{what} inside a step that is a graph"))),
        }
    }

    /// Takes the next op of the open step: runs it now, or keeps it for the end.
    pub fn take(&self, runner: &impl Runner<Graph = G>, op: Op) -> Result<()> {
        let mut mode = self.mode.borrow_mut();
        let mut steps = self.steps.borrow_mut();
        match &mut *mode {
            Mode::Idle | Mode::Direct => return runner.run(&op),
            Mode::Recording(ops) => {
                ops.push(op);
                return Ok(());
            }
            Mode::Replaying { next, changed } => {
                let captured = steps.get_mut(&self.open.get());
                let recorded =
                    captured.and_then(|c| c.graph.as_mut()).and_then(|(ops, _)| ops.get_mut(*next));
                if let Some(recorded) = recorded.filter(|recorded| recorded.fits(&op)) {
                    if recorded.differs(&op) {
                        *recorded = op;
                        changed.push(*next);
                    }
                    *next += 1;
                    return Ok(());
                }
            }
        }
        let Mode::Replaying { next, .. } = std::mem::replace(&mut *mode, Mode::Direct) else {
            return Ok(());
        };
        drop(steps);
        self.leave(runner, next)?;
        runner.run(&op)
    }

    /// Gives up the open step's graph; runs its first `done` ops, which the step has asked for.
    fn leave(&self, runner: &impl Runner<Graph = G>, done: usize) -> Result<()> {
        self.count(|counts| counts.diverged += 1);
        let graph = self.steps.borrow_mut().get_mut(&self.open.get()).and_then(|c| c.graph.take());
        graph.iter().flat_map(|(ops, _)| &ops[..done]).try_for_each(|op| runner.run(op))
    }

    /// Closes the step and runs what was kept.
    pub fn end(&self, runner: &impl Runner<Graph = G>) -> Result<()> {
        match self.mode.replace(Mode::Idle) {
            Mode::Idle => Ok(()),
            Mode::Direct => {
                self.count(|counts| counts.direct += 1);
                Ok(())
            }
            Mode::Recording(ops) => {
                self.count(|counts| counts.recorded += 1);
                let graph = runner.instantiate(&ops)?;
                runner.replay(&graph, &ops)?;
                if let Some(captured) = self.steps.borrow_mut().get_mut(&self.open.get()) {
                    captured.graph = Some((ops, graph));
                }
                Ok(())
            }
            Mode::Replaying { next, changed } => {
                let mut steps = self.steps.borrow_mut();
                let graph = steps.get_mut(&self.open.get()).and_then(|c| c.graph.as_mut());
                let Some((ops, graph)) = graph.filter(|(ops, _)| ops.len() == next) else {
                    drop(steps);
                    return self.leave(runner, next);
                };
                let launches = changed.iter().filter(|&&i| matches!(ops[i], Op::Launch { .. })).count();
                for index in changed {
                    runner.update(graph, index, &ops[index])?;
                }
                self.count(|counts| {
                    counts.replayed += 1;
                    counts.changed += launches as u64;
                });
                runner.replay(graph, ops)
            }
        }
    }

    /// Closes a step that failed: nothing that was kept runs, and its graph is given up.
    pub fn abandon(&self) {
        self.mode.replace(Mode::Idle);
        self.steps.borrow_mut().remove(&self.open.get());
    }
}
