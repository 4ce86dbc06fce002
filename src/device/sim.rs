//! The `sim` executor: `kernels/*.cu` compiled by a C++ compiler, every thread of the grid a fiber.
//!
//! Stricter than a GPU: buffers end at pages that may not be touched, shared memory and new blocks
//! hold NaN, asynchronous copies and products land only when waited for, and a launch that leaves threads waiting
//! for each other, or breaks a kernel's contract, is an error that names kernel, block and thread.

#![cfg_attr(
    not(wattention_sim),
    allow(dead_code, unused_imports, reason = "where the kernels are missing, nothing calls what runs them")
)]

mod block;
#[cfg(test)]
pub(super) mod direct;
#[cfg_attr(
    not(wattention_sim),
    allow(unused_imports, reason = "without kernels there is nothing to hook into")
)]
mod entries;
mod fault;
mod flight;
mod guarded;
pub(super) mod maps;
mod product;
mod schedule;
#[cfg_attr(not(wattention_sim), allow(dead_code, reason = "only kernels call back"))]
mod thread;

pub use schedule::Order;

use super::graph::{Graphs, Op, Runner};
use super::tensor_map::Packed;
use super::{
    Arg, Block, Call, Engine, Executor, Gpu, GraphCounts, Kernel, Layout, Lifetime, Maps, Pass, Precision,
    Used, host,
};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::trace;
use entries::Entry;
use guarded::Guarded;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

/// Runs the kernels of `kernels/*.cu` on the CPU, and matrix products as the CPU executor does.
pub struct Sim {
    precision: Precision,
    engine: Cell<Engine>,
    order: Cell<Order>,
    next_id: Cell<u64>,
    /// Every buffer by its address, and those that this value alone holds.
    buffers: RefCell<HashMap<usize, Weak<Guarded>>>,
    persistent: RefCell<HashMap<usize, Rc<Guarded>>>,
    used: Cell<Used>,
    step: RefCell<Option<Step>>,
    arenas: RefCell<Vec<Arena>>,
    graphs: Graphs<()>,
}

/// How far an open step is in its layout.
struct Step {
    layout: Rc<Layout>,
    next: usize,
}

/// The buffers of one step's allocations: the same addresses every time it runs.
struct Arena {
    layout: Rc<Layout>,
    slots: Vec<Rc<Guarded>>,
}

impl Sim {
    /// Fails where the program was built without a C++ compiler, or for another processor.
    pub fn new(precision: Precision) -> Result<Self> {
        entries::available()?;
        fault::install();
        Ok(Sim {
            precision,
            engine: Cell::new(Engine::asked()?.unwrap_or_default()),
            order: Cell::new(Order::Forward),
            next_id: Cell::new(0),
            buffers: RefCell::default(),
            persistent: RefCell::default(),
            used: Cell::default(),
            step: RefCell::default(),
            arenas: RefCell::default(),
            graphs: Graphs::new(),
        })
    }

    /// The order in which threads and blocks of the following launches run; no result may depend on it.
    pub fn set_order(&self, order: Order) {
        self.order.set(order);
    }

    /// How often steps ran launch by launch, and as graphs.
    pub fn graph_counts(&self) -> GraphCounts {
        self.graphs.counts()
    }

    /// The buffer of allocation `next` of the open step.
    fn slot(&self, layout: &Rc<Layout>, next: usize, bytes: usize) -> Result<Rc<Guarded>> {
        let mut arenas = self.arenas.borrow_mut();
        let found = arenas.iter().position(|arena| Rc::ptr_eq(&arena.layout, layout));
        let at = found.unwrap_or_else(|| {
            // A session that is gone took its layouts with it.
            arenas.retain(|arena| Rc::strong_count(&arena.layout) > 1);
            self.buffers.borrow_mut().retain(|_, buffer| buffer.strong_count() > 0);
            arenas.push(Arena { layout: layout.clone(), slots: Vec::new() });
            arenas.len() - 1
        });
        let slots = &mut arenas[at].slots;
        if next == slots.len() {
            slots.push(Rc::new(Guarded::new(bytes)?));
        }
        Ok(slots[next].clone())
    }

    fn buffer(&self, block: &Block) -> Option<Rc<Guarded>> {
        self.buffers.borrow().get(&block.address).and_then(Weak::upgrade)
    }

    fn run_launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        trace::timed(kernel.name, || match kernel.gpu {
            Gpu::Library => {
                // SAFETY: blocks are host memory that lives until released; `Device::launch` checked
                // that outputs overlap nothing; addresses are multiples of their elements' size.
                unsafe { product::run(kernel, call, self.precision) };
                Ok(())
            }
            Gpu::None => Err(Error::internal(format!("{} is for the CPU alone", kernel.name))),
            Gpu::Passes(_) => kernel.passes(call).iter().try_for_each(|pass| self.run_pass(pass, call)),
        })
    }

    fn run_pass(&self, pass: &Pass, call: &Call) -> Result<()> {
        let entry = entries::find(pass.entry, call.real(), self.precision)?;
        check_limits(pass, self.engine.get())?;
        let arguments = call.packed();
        check_struct(&entry, pass.entry, call, 8 * arguments.len())?;
        check_maps(&entry, pass)?;
        let maps = maps::pack(&pass.maps);
        let (arguments, maps) = (arguments.as_ptr().cast(), (&raw const maps).cast());
        let launch = schedule::Launch { entry, pass: *pass, arguments, maps, order: self.order.get() };
        let outcome = schedule::run(&launch);
        outcome.map_err(|failure| {
            let place = self.describe(call, failure.address);
            let [x, y, z] = failure.block;
            Error::Device(format!(
                "{}, block ({x}, {y}, {z}), thread {}: {}{place}; this is a fault of the kernel: please report it",
                pass.entry, failure.thread, failure.what
            ))
        })?;
        for (name, arg) in call.named_outputs() {
            if self.buffer(&arg.block).is_some_and(|buffer| !buffer.is_intact()) {
                return Err(Error::Device(format!(
                    "{}: a thread wrote outside of `{name}`; this is a fault of the kernel: please report it",
                    pass.entry
                )));
            }
        }
        Ok(())
    }

    /// Where a faulting address lies, seen from the nearest argument.
    fn describe(&self, call: &Call, address: Option<usize>) -> String {
        let Some(address) = address else {
            return String::new();
        };
        let distance = |arg: &Arg| {
            let (from, to) = (arg.address(), arg.address() + arg.bytes());
            if address < from { from - address } else { address.saturating_sub(to) }
        };
        let present = call.named_tensors().filter(|(_, arg)| arg.len > 0);
        match present.min_by_key(|(_, arg)| distance(arg)) {
            Some((name, arg)) if distance(arg) < guarded::ZONE => {
                let past = address as i64 - arg.address() as i64;
                format!(" at byte {past} of `{name}`, which has {}", arg.bytes())
            }
            _ => format!(" at {address:#x}, which is in no argument"),
        }
    }
}

/// The limits of the least of the architectures that an engine's kernels are built for: compute capability 8.0, or 9.0.
fn check_limits(pass: &Pass, engine: Engine) -> Result<()> {
    let shared = match engine {
        Engine::Mma => 163 << 10,
        Engine::Hopper => 227 << 10,
    };
    let [x, y, z] = pass.grid;
    let kept = (1..=1024).contains(&pass.block)
        && pass.shared <= shared
        && (1..=i32::MAX as u32).contains(&x)
        && (1..=65535).contains(&y)
        && (1..=65535).contains(&z);
    match kept {
        true => Ok(()),
        false => Err(Error::internal(format!("{pass:?} is more than a GPU launches"))),
    }
}

/// Fails unless the fields of the C++ struct are the descriptor's arguments, type by type, in as many bytes.
fn check_struct(entry: &Entry, name: &str, call: &Call, bytes: usize) -> Result<()> {
    let letter = |arg: &Arg, output: bool| match (arg.dtype, output) {
        (DType::F32, true) => 'f',
        (DType::F32, false) => 'F',
        (DType::BF16, true) => 'h',
        (DType::BF16, false) => 'H',
        (DType::I32, true) => 'i',
        (DType::I32, false) => 'I',
        (DType::I8, true) => 'c',
        (DType::I8, false) => 'C',
    };
    let arguments = call.outputs.iter().map(|a| (a, true)).chain(call.inputs.iter().map(|a| (a, false)));
    let want: Vec<(char, bool)> = arguments
        .map(|(arg, output)| (letter(arg, output), arg.len == 0))
        .chain(call.sizes.iter().map(|_| ('n', false)))
        .chain(call.scalars.iter().map(|_| ('s', false)))
        .collect();
    // What an absent argument would have been is not known.
    let fits = |(have, (want, absent)): (char, &(char, bool))| {
        have == *want || (*absent && have.is_lowercase() == want.is_lowercase() && have.is_alphabetic())
    };
    let same = entry.letters.len() == want.len() && entry.letters.chars().zip(&want).all(fits);
    match same && entry.bytes == bytes {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "{name} takes {} in {} bytes and its descriptor `{}` gives {} in {bytes}",
            entry.letters,
            entry.bytes,
            call.signature().kernel,
            want.iter().map(|(letter, _)| letter).collect::<String>()
        ))),
    }
}

/// Fails unless the pass gives maps to an entry that takes some, and to no other.
fn check_maps(entry: &Entry, pass: &Pass) -> Result<()> {
    let given = match pass.maps {
        Maps::Unused => 0,
        Maps::Absent | Maps::Of(_) => size_of::<Packed>(),
    };
    match entry.maps_bytes == given {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "{} takes {} bytes of maps and its pass gives {given}",
            pass.entry, entry.maps_bytes
        ))),
    }
}

impl Executor for Sim {
    fn name(&self) -> String {
        "sim".into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn engine(&self) -> Option<Engine> {
        Some(self.engine.get())
    }

    fn set_engine(&self, engine: Engine) -> Result<()> {
        self.engine.set(engine);
        Ok(())
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut used = self.used.get();
        let mut step = self.step.borrow_mut();
        let (buffer, arena) = match &mut *step {
            Some(step) if lifetime == Lifetime::Step => {
                used.arena = used.arena.max(step.layout.end_of(step.next, bytes)?);
                step.next += 1;
                (self.slot(&step.layout, step.next - 1, bytes)?, true)
            }
            _ => {
                self.graphs.refuse("a persistent allocation")?;
                used.persistent += bytes;
                (Rc::new(Guarded::new(bytes)?), false)
            }
        };
        let block = Block { address: buffer.address(), bytes, arena, id };
        self.buffers.borrow_mut().insert(block.address, Rc::downgrade(&buffer));
        if !arena {
            self.persistent.borrow_mut().insert(block.address, buffer);
        }
        self.used.set(used);
        match lifetime {
            Lifetime::Step => self.graphs.take(self, Op::Allocate(block))?,
            // The executor promises zeros, which a new mapping holds.
            Lifetime::Persistent => {}
        }
        Ok(block)
    }

    fn release(&self, block: Block) {
        if block.arena {
            // Only a fault of the bookkeeping could fail here, and the end of the step reports it.
            let _ = self.graphs.take(self, Op::Release(block));
            return;
        }
        let mut used = self.used.get();
        used.persistent -= block.bytes;
        self.used.set(used);
        // Unmapped: whoever still uses it faults.
        self.persistent.borrow_mut().remove(&block.address);
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        self.graphs.take(self, Op::Upload { block: *block, offset, bytes: bytes.to_vec() })
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.graphs.refuse("a value is read back")?;
        host::read(block.address + offset, bytes);
        Ok(())
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        self.graphs.take(self, Op::Launch { kernel, call: call.clone() })
    }

    fn synchronize(&self) -> Result<()> {
        self.graphs.refuse("the host waits for the device")
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.step.replace(Some(Step { layout: layout.clone(), next: 0 }));
        self.graphs.begin(layout);
        Ok(())
    }

    fn end_step(&self) -> Result<()> {
        self.step.replace(None);
        self.graphs.end(self)
    }

    fn abandon_step(&self) {
        self.step.replace(None);
        self.graphs.abandon();
    }

    fn used(&self) -> Used {
        self.used.get()
    }

    fn free(&self) -> Option<usize> {
        host::free()
    }
}

impl Runner for Sim {
    type Graph = ();

    fn run(&self, op: &Op) -> Result<()> {
        match op {
            Op::Launch { kernel, call } => self.run_launch(kernel, call),
            Op::Upload { block, offset, bytes } => {
                host::write(block.address + offset, bytes);
                Ok(())
            }
            Op::Exchange { .. } => Err(Error::internal("the simulator meets no other device")),
            Op::Allocate(block) => {
                if let Some(buffer) = self.buffer(block) {
                    buffer.open();
                    // What a step allocates is promised to hold nothing.
                    buffer.fill(0xff);
                }
                Ok(())
            }
            Op::Release(block) => {
                if let Some(buffer) = self.buffer(block) {
                    buffer.close();
                }
                Ok(())
            }
        }
    }

    fn instantiate(&self, _: &[Op]) -> Result<()> {
        Ok(())
    }

    fn update(&self, _: &mut (), _: usize, _: &Op) -> Result<()> {
        Ok(())
    }

    fn replay(&self, _: &(), ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| self.run(op))
    }
}
