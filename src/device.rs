//! The seam between ops and executors: allocate, upload, download, launch, synchronize, name.
//!
//! An op cannot tell which executor runs it. Inside a *step* (between [`Device::begin_step`] and
//! [`Device::end_step`]) the n-th allocation sits at the n-th offset of a [`Layout`] that the `plan`
//! executor computed from lifetimes, so a step allocates nothing; outside, blocks are persistent.

mod blocks;
mod call;
pub mod cpu;
pub mod cuda;
mod engine;
mod exchange;
mod graph;
mod host;
mod kernel;
mod layout;
pub mod plan;
mod precision;
pub mod repeater;
mod signature;
pub mod sim;
mod tensor_map;

pub use call::{Arg, Call, Cost};
pub use engine::Engine;
pub use exchange::Exchange;
pub use graph::GraphCounts;
pub use host::{CpuCall, narrow};
pub use kernel::{Gpu, Kernel, Pass};
pub use layout::Layout;
pub use precision::Precision;
pub use signature::{Kind, Signature};
pub use tensor_map::{Maps, TensorMap};

use crate::collective::{Backend, Group};
use crate::error::{Error, Result};
use crate::shape::DType;
use std::rc::Rc;

/// How long an allocation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until released within the current step; placed in the arena while a step is open.
    Step,
    /// Across steps: weights, gradients, optimizer state, caches.
    Persistent,
}

/// A piece of an executor's memory; `address` means something to that executor only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub address: usize,
    pub bytes: usize,
    /// Whether the block lies in the step arena.
    pub arena: bool,
    /// Sequence number among the executor's allocations.
    pub id: u64,
}

/// What an executor must do; it never grows when an op is added.
pub trait Executor {
    fn name(&self) -> String;
    fn precision(&self) -> Precision;
    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block>;
    fn release(&self, block: Block);
    /// Copies `bytes` to `block`, starting `offset` bytes into it.
    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()>;
    /// Copies from `offset` bytes into `block` until `bytes` is full.
    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()>;
    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()>;
    fn synchronize(&self) -> Result<()>;
    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()>;
    fn end_step(&self) -> Result<()>;
    /// Closes a step that failed half-way.
    fn abandon_step(&self);
    fn used(&self) -> Used;

    /// What computes products of matrices, where that is chosen on the machine.
    fn products(&self) -> Option<&'static str> {
        None
    }

    /// Whether what the kernel needs is here.
    fn has(&self, kernel: &Kernel) -> bool {
        !matches!(kernel.gpu, Gpu::None)
    }

    /// The GPU's UUID as 8-4-4-4-12 hexadecimal digits; none where that is no GPU.
    fn uuid(&self) -> Option<String> {
        None
    }

    /// Bytes that could still be allocated, where that is known.
    fn free(&self) -> Option<usize> {
        None
    }

    /// Which of its attention kernels run, where it has several.
    fn engine(&self) -> Option<Engine> {
        None
    }

    /// Takes these kernels from now on, or says why it has not got them.
    fn set_engine(&self, _: Engine) -> Result<()> {
        Err(Error::usage(format!("{} has no choice of attention kernels: leave --engine out", self.name())))
    }

    /// Why launches of steps could not be recorded as graphs, each reason once; nothing where all could.
    fn refused_graphs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Over what ranks exchange what lies in this device's memory.
    fn backend(&self) -> Backend {
        Backend::Host
    }

    /// Meets the devices of the group's other ranks, where they exchange among themselves.
    fn meet(&self, _: &Rc<Group>) -> Result<()> {
        Ok(())
    }

    /// Begins to exchange elements from `offset` bytes into `block` on with the devices that it has met, when what was
    /// launched before is done and beside what is launched later.
    fn begin_exchange(&self, _: &Exchange, _: &Block, _: usize) -> Result<()> {
        Err(Error::internal(format!("{} has met no other device", self.name())))
    }

    /// Waits for all exchanges, which errors call `what`.
    fn finish_exchanges(&self, _: &Group, _what: &'static str) -> Result<()> {
        Ok(())
    }

    /// How often a step with its exchanges was replayed as one graph, by all ranks at once.
    fn joint_replays(&self) -> u64 {
        0
    }
}

/// Memory an executor holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Persistent blocks alive now.
    pub persistent: usize,
    /// The furthest byte of the step arena that any block has reached.
    pub arena: usize,
}

impl Used {
    pub fn total(self) -> usize {
        self.persistent + self.arena
    }
}

/// A shared handle to an executor.
#[derive(Clone)]
pub struct Device(Rc<dyn Executor>);

impl Device {
    pub fn new(executor: Rc<dyn Executor>) -> Self {
        Device(executor)
    }

    pub fn cpu() -> Self {
        Device(Rc::new(cpu::Cpu::new(Precision::Fp32)))
    }

    /// Opens the device named on the command line: `cpu`, `cuda`, `cuda:N`, `sim` or `auto`.
    pub fn open(name: &str, precision: Precision) -> Result<Self> {
        match name {
            "auto" => Ok(Device::auto(precision)?.0),
            "cpu" if matches!(precision, Precision::Tf32 | Precision::Tf32x3) => Err(Error::usage(format!(
                "{precision} is a format of GPUs: use --precision fp32 or bf16 on the CPU"
            ))),
            "cpu" => {
                cpu::features::check_environment()?;
                Ok(Device(Rc::new(cpu::Cpu::new(precision))))
            }
            "sim" => Ok(Device(Rc::new(sim::Sim::new(precision)?))),
            "plan" => Err(Error::usage(
                "device 'plan' runs nothing: it serves the `plan` command and `study --dry-run`",
            )),
            _ => {
                let ordinal = match name.strip_prefix("cuda") {
                    Some("") => Some(0),
                    Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
                    None => None,
                };
                let unknown = || Error::usage(format!("there is no device '{name}'"));
                Device::cuda(ordinal.ok_or_else(unknown)?, precision).map_err(|error| match error {
                    Error::Device(what) => Error::Device(format!("device '{name}': {what}")),
                    other => other,
                })
            }
        }
    }

    /// The first GPU where it can be used, or else the CPU and why the GPU cannot.
    pub fn auto(precision: Precision) -> Result<(Self, Option<Error>)> {
        match Device::cuda(0, precision) {
            Ok(device) => Ok((device, None)),
            Err(why) => Ok((Device::open("cpu", precision)?, Some(why))),
        }
    }

    fn cuda(ordinal: usize, precision: Precision) -> Result<Self> {
        Ok(Device(Rc::new(cuda::Cuda::open(ordinal, precision)?)))
    }

    pub fn name(&self) -> String {
        self.0.name()
    }

    pub fn precision(&self) -> Precision {
        self.0.precision()
    }

    /// Whether what the kernel needs is here.
    pub fn has(&self, kernel: &Kernel) -> bool {
        self.0.has(kernel)
    }

    /// What computes products of matrices, where that is chosen on the machine.
    pub fn products(&self) -> Option<&'static str> {
        self.0.products()
    }

    pub fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        self.0.allocate(bytes, lifetime)
    }

    pub fn release(&self, block: Block) {
        self.0.release(block);
    }

    pub fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        within(block, offset, bytes.len())?;
        self.0.upload(block, offset, bytes)
    }

    pub fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        within(block, offset, bytes.len())?;
        self.0.download(block, offset, bytes)
    }

    /// Checks that the call is complete and that no output overlaps another argument, then runs it.
    pub fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        call.check()?;
        self.0.launch(kernel, call)
    }

    pub fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }

    pub fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.0.begin_step(layout)
    }

    pub fn end_step(&self) -> Result<()> {
        self.0.end_step()
    }

    pub fn abandon_step(&self) {
        self.0.abandon_step();
    }

    pub fn used(&self) -> Used {
        self.0.used()
    }

    /// The GPU's UUID, where this is a GPU that tells it.
    pub fn uuid(&self) -> Option<String> {
        self.0.uuid()
    }

    /// Bytes that could still be allocated, where that is known.
    pub fn free(&self) -> Option<usize> {
        self.0.free()
    }

    /// Which of its attention kernels run, where it has several.
    pub fn engine(&self) -> Option<Engine> {
        self.0.engine()
    }

    /// Takes these kernels from now on, or says why it has not got them.
    pub fn set_engine(&self, engine: Engine) -> Result<()> {
        self.0.set_engine(engine)
    }

    /// Why launches of steps could not be recorded as graphs, each reason once.
    pub fn refused_graphs(&self) -> Vec<String> {
        self.0.refused_graphs()
    }

    /// Over what this rank of `group` exchanges what lies in the device's memory.
    pub fn backend(&self, group: &Group) -> Backend {
        let own = if group.is_alone() { Backend::Host } else { self.0.backend() };
        group.backend().unwrap_or(own)
    }

    /// Over what ranks on this device exchange unless they say otherwise.
    pub fn own_backend(&self) -> Backend {
        self.0.backend()
    }

    /// Prepares for exchanges with the other ranks of `group`. Fails, on every rank, unless all do them in the same way.
    pub fn meet(&self, group: &Rc<Group>) -> Result<()> {
        let backend = self.backend(group);
        if backend == Backend::Nccl && self.0.backend() == Backend::Host {
            let device = self.name();
            return Err(Error::usage(format!(
                "--ddp-backend nccl is for ranks on GPUs, and this one is on {device}: leave it out"
            )));
        }
        group.agree("way to exchange gradients", &backend.to_string())?;
        match backend {
            Backend::Nccl => self.0.meet(group),
            Backend::Host => Ok(()),
        }
    }

    /// Begins to exchange what `exchange` says of `block`, from `offset` bytes into it on, with the devices that this one has
    /// met.
    pub fn begin_exchange(&self, exchange: &Exchange, block: &Block, offset: usize) -> Result<()> {
        within(block, offset, exchange.bytes())?;
        self.0.begin_exchange(exchange, block, offset)
    }

    /// Waits for all exchanges that were begun, which errors call `what`.
    pub fn finish_exchanges(&self, group: &Group, what: &'static str) -> Result<()> {
        self.0.finish_exchanges(group, what)
    }

    /// How often a step with its exchanges was replayed as one graph, by all ranks at once.
    pub fn joint_replays(&self) -> u64 {
        self.0.joint_replays()
    }

    /// Whether two handles name the same executor.
    pub fn same(&self, other: &Device) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

fn within(block: &Block, offset: usize, bytes: usize) -> Result<()> {
    if offset.checked_add(bytes).is_some_and(|end| end <= block.bytes) {
        return Ok(());
    }
    Err(Error::internal(format!("copy of {bytes} bytes at {offset} leaves a block of {}", block.bytes)))
}

/// Bytes of `len` elements, or an error when that cannot be addressed.
pub fn bytes_of(len: usize, dtype: DType) -> Result<usize> {
    len.checked_mul(dtype.size())
        .filter(|&bytes| bytes <= isize::MAX as usize / 2)
        .ok_or_else(|| Error::DoesNotFit(format!("a tensor of {len} elements cannot be addressed")))
}
