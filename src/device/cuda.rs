//! The `cuda` executor: one GPU, one stream, kernels that the build script compiled, products from cuBLASLt.
//!
//! Work is put on the stream and runs beside the program; only a download waits for it.

mod communicator;
mod driver;
mod errors;
mod events;
mod gemm;
mod graph;
mod joint;
pub mod kernels;
mod launch;
mod libraries;
mod maps;
mod memory;
mod modules;
pub mod nccl;
pub(crate) mod nvtx;
mod recording;
#[cfg(test)]
pub(crate) mod stand_in;

pub use driver::{Properties, Version, gpus, start};
pub use joint::JointCounts;
pub use libraries::Library;

use super::blocks::Blocks;
use super::graph::{Graphs, Op, Runner};
use super::{
    Arg, Block, Call, Engine, Exchange, Executor, Gpu, GraphCounts, Kernel, Layout, Lifetime, Pass,
    Precision, Used,
};
use crate::collective::{Backend, Group};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::trace;
use communicator::Communicator;
use cudarc::driver::result;
use cudarc::driver::sys::CUresult;
use driver::Context;
use events::Pending;
use gemm::{Gemm, Operands, Shape};
use graph::Graph;
use kernels::{ARCHITECTURES, Architecture, Code, MISSING, MODULES, PTX, Variant};
use launch::{Launched, Recent};
use memory::{Memory, Pool};
use modules::Modules;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bytes for what the driver allocates later: kernels when they are first used, and graphs.
const RESERVED: usize = 256 << 20;

/// Runs launches on one GPU. What uses the context is dropped before it.
pub struct Cuda {
    driver: Version,
    gpu: Properties,
    precision: Precision,
    engine: Cell<Engine>,
    graphs: Graphs<Graph>,
    /// How many graphs have a number.
    numbered: Cell<u64>,
    /// Whether steps are left as they are.
    launch_by_launch: bool,
    recent: RefCell<Recent>,
    /// Why launches could not be recorded.
    refused: RefCell<Vec<String>>,
    /// Launches that are being timed.
    pending: RefCell<Option<Pending>>,
    modules: Modules,
    gemm: Gemm,
    /// This rank's place among those on GPUs, where there are several.
    communicator: RefCell<Option<Communicator>>,
    blocks: Blocks<Memory>,
    pool: Pool,
    context: Rc<Context>,
}

impl Cuda {
    /// Opens GPU `ordinal`, or says what is missing.
    pub fn open(ordinal: usize, precision: Precision) -> Result<Self> {
        let version = driver::start()?;
        let gpu = driver::gpu(ordinal)?;
        if MODULES.is_empty() {
            return Err(errors::no_kernels(MISSING.unwrap_or("it has none")));
        }
        if code_for(&gpu).is_none() {
            return Err(errors::no_code(&gpu.name, gpu.capability, &compiled()));
        }
        let engine = match Engine::asked()? {
            Some(engine) => has_engine(&gpu, version, engine).map(|()| engine)?,
            None => {
                Some(Engine::DEFAULT).filter(|&e| has_engine(&gpu, version, e).is_ok()).unwrap_or_default()
            }
        };
        let (variable, off) = errors::NO_GRAPHS;
        nvtx::start();
        errors::calling(|| {
            let context = Context::open(&gpu)?;
            Ok(Cuda {
                modules: Modules::open(&context, version)?,
                gemm: Gemm::open(&context, gpu.capability.0, precision)?,
                graphs: Graphs::new(),
                numbered: Cell::new(0),
                launch_by_launch: std::env::var(variable).is_ok_and(|value| value == off),
                recent: RefCell::default(),
                refused: RefCell::default(),
                pending: RefCell::default(),
                communicator: RefCell::default(),
                blocks: Blocks::default(),
                pool: Pool::default(),
                precision,
                engine: Cell::new(engine),
                driver: version,
                gpu,
                context,
            })
        })
    }

    /// How often steps ran launch by launch, and as graphs.
    pub fn graph_counts(&self) -> GraphCounts {
        self.graphs.counts()
    }

    /// A number that no graph has.
    fn next_number(&self) -> u64 {
        self.numbered.set(self.numbered.get() + 1);
        self.numbered.get()
    }

    fn variant(&self, call: &Call) -> Variant {
        match (call.real(), self.precision) {
            (DType::BF16, _) => Variant::Bf16,
            (_, Precision::Tf32) => Variant::Tf32,
            (_, Precision::Tf32x3) => Variant::Tf32x3,
            _ => Variant::F32,
        }
    }

    fn run_launch(&self, kernel: &Kernel, call: &Call) -> Result<()> {
        match kernel.gpu {
            Gpu::Library => return self.multiply(call),
            Gpu::None => return Err(Error::internal(format!("{} is for the CPU alone", kernel.name))),
            Gpu::Passes(_) => {}
        }
        let (mut arguments, variant) = (call.packed(), self.variant(call));
        kernel.passes(call).iter().try_for_each(|pass| self.run_pass(pass, variant, &mut arguments))
    }

    /// Notes why launches cannot be a graph, and says so once: they run one by one from now on, and slower.
    fn refuse_graph(&self, why: &Error) {
        let mut refused = self.refused.borrow_mut();
        let why = why.to_string();
        if !refused.contains(&why) {
            eprintln!("warning: a step cannot be recorded as a graph and runs launch by launch: {why}");
            refused.push(why);
        }
    }

    fn run_pass(&self, pass: &Pass, variant: Variant, arguments: &mut [u64]) -> Result<()> {
        launch::check(pass, self.gpu.shared)?;
        let function = self.modules.function(pass.entry, variant)?;
        function.allow_shared(pass.shared)?;
        let mut maps = maps::pack(&pass.maps, self.driver)?;
        let launched = Launched::Kernel(*pass);
        self.recent.borrow_mut().add(launched);
        launch::launch(&self.context, &function, pass, arguments, &mut maps)
            .map_err(|code| self.failed(code, format_args!("launch {launched}")))
    }

    /// The one kernel of `Gpu::Library`: see src/tensor/matmul.rs.
    fn multiply(&self, call: &Call) -> Result<()> {
        let [m, n, k, form] = call.sizes(["m", "n", "k", "form"]);
        let [accumulate, planes, b_step, bias_step] =
            call.sizes(["accumulate", "planes", "b_step", "bias_step"]);
        let [a_row, c_row] = call.sizes(["a_row", "c_row"]);
        let (c, [a, b, bias]) = (call.output("c"), ["a", "b", "bias"].map(|name| call.input(name)));
        if m * n == 0 {
            return Ok(());
        }
        let operands = Operands {
            c: c.address() as u64,
            a: a.address() as u64,
            b: b.address() as u64,
            bias: bias.address() as u64,
        };
        let shape = Shape {
            m,
            n,
            k,
            a_transposed: form == 2,
            b_transposed: form == 1,
            accumulate: accumulate != 0,
            planes,
            b_step,
            bias_step,
            a_row,
            c_row,
            a: a.dtype,
            b: b.dtype,
            c: c.dtype,
            bias: Some(bias).filter(|bias: &&Arg| bias.len > 0).map(|bias| bias.dtype),
            alignment: operands.alignment(match planes {
                1 => [0, 0],
                _ => [b_step * b.dtype.size(), m * c_row * c.dtype.size()],
            }),
        };
        self.recent.borrow_mut().add(Launched::Product([m, n, k]));
        // The library does not say that a kernel before it has failed.
        self.gemm.multiply(shape, operands).or_else(|error| self.wait().and(Err(error)))
    }

    /// The error for a code: of a kernel on its way, which any call may report, or of this call.
    fn failed(&self, code: CUresult, doing: impl std::fmt::Display) -> Error {
        if !errors::is_fault(code) {
            return errors::refused(code, doing);
        }
        let mut recent = self.recent.borrow_mut();
        let (last, launched) = recent.last();
        errors::fault(code, last, launched)
    }

    /// Waits until the stream is through.
    fn wait(&self) -> Result<()> {
        self.context.synchronize().map_err(|code| self.failed(code, "wait for the GPU"))?;
        self.recent.borrow_mut().clear();
        Ok(())
    }

    /// Puts a copy to the GPU on the stream; `bytes` have been read when it returns.
    fn copy_in(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let to = (block.address + offset) as u64;
        // SAFETY: `device::within` checked the range of a live block. The driver has read `bytes`, which are not
        // pinned, when it returns.
        let copied = unsafe { result::memcpy_htod_async(to, bytes, self.context.stream) };
        copied.map_err(|e| self.failed(e.0, format_args!("copy {} bytes to the GPU", bytes.len())))
    }
}

/// The embedded code that serves this GPU.
pub fn code_for(gpu: &Properties) -> Option<Code> {
    kernels::code_for(gpu.capability, ARCHITECTURES, PTX)
}

/// Fails where the GPU, its driver, or what the program was compiled for, has not what the engine needs.
fn has_engine(gpu: &Properties, driver: Version, engine: Engine) -> Result<()> {
    match (engine, code_for(gpu)) {
        (Engine::Mma, _) => Ok(()),
        (Engine::Hopper, Some(Code::Native(Architecture { number: 90, suffix: Some('a') }))) => {
            maps::check(driver)
        }
        (Engine::Hopper, _) => Err(errors::no_hopper(&gpu.name, gpu.capability, &compiled())),
    }
}

/// What the kernels were compiled for, in words.
pub fn compiled() -> String {
    let mut names: Vec<String> = ARCHITECTURES.iter().map(ToString::to_string).collect();
    names.extend(PTX.map(|number| format!("compute_{number} and above")));
    names.join(", ")
}

impl Executor for Cuda {
    fn uuid(&self) -> Option<String> {
        self.gpu.uuid.clone()
    }

    fn name(&self) -> String {
        format!("cuda:{} ({})", self.gpu.ordinal, self.gpu.name)
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn engine(&self) -> Option<Engine> {
        Some(self.engine.get())
    }

    fn set_engine(&self, engine: Engine) -> Result<()> {
        has_engine(&self.gpu, self.driver, engine)?;
        self.engine.set(engine);
        Ok(())
    }

    fn allocate(&self, bytes: usize, lifetime: Lifetime) -> Result<Block> {
        let zeroed = lifetime == Lifetime::Persistent;
        let block = self.blocks.allocate(bytes, lifetime, || {
            self.graphs.refuse("a persistent allocation")?;
            self.pool.take(&self.context, bytes, zeroed)
        })?;
        if block.arena {
            self.graphs.take(self, Op::Allocate(block))?;
        }
        Ok(block)
    }

    fn release(&self, block: Block) {
        if block.arena {
            // Only a fault of the bookkeeping could fail here, and the end of the step reports it.
            let _ = self.graphs.take(self, Op::Release(block));
        }
        if let Some(memory) = self.blocks.release(block) {
            self.pool.give(memory);
        }
    }

    fn upload(&self, block: &Block, offset: usize, bytes: &[u8]) -> Result<()> {
        match self.graphs.is_direct() {
            true => self.copy_in(block, offset, bytes),
            false => self.graphs.take(self, Op::Upload { block: *block, offset, bytes: bytes.to_vec() }),
        }
    }

    fn download(&self, block: &Block, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.graphs.refuse("a value is read back")?;
        if bytes.is_empty() {
            return Ok(());
        }
        let (from, len) = ((block.address + offset) as u64, bytes.len());
        // SAFETY: as for an upload; `wait` below outlasts the copy.
        let copied = unsafe { result::memcpy_dtoh_async(bytes, from, self.context.stream) };
        copied.map_err(|e| self.failed(e.0, format_args!("copy {len} bytes from the GPU")))?;
        self.wait()
    }

    fn launch(&self, kernel: &'static Kernel, call: &Call) -> Result<()> {
        match self.graphs.is_direct() {
            true if trace::is_timing() => self.timed(kernel.name, || self.run_launch(kernel, call)),
            true => self.run_launch(kernel, call),
            false => self.graphs.take(self, Op::Launch { kernel, call: call.clone() }),
        }
    }

    fn synchronize(&self) -> Result<()> {
        self.graphs.refuse("the host waits for the device")?;
        self.resolve()?;
        self.wait()
    }

    fn begin_step(&self, layout: &Rc<Layout>) -> Result<()> {
        self.blocks.begin(layout, |bytes| self.pool.allocate(&self.context, bytes))?;
        match self.launch_by_launch {
            true => self.graphs.begin_direct(),
            false => self.graphs.begin(layout),
        }
        Ok(())
    }

    fn end_step(&self) -> Result<()> {
        self.blocks.end();
        self.graphs.end(self)?;
        self.resolve()
    }

    fn abandon_step(&self) {
        self.pending.take();
        self.blocks.end();
        self.graphs.abandon();
    }

    fn used(&self) -> Used {
        self.blocks.used()
    }

    fn refused_graphs(&self) -> Vec<String> {
        self.refused.borrow().clone()
    }

    fn backend(&self) -> Backend {
        Backend::Nccl
    }

    fn meet(&self, group: &Rc<Group>) -> Result<()> {
        let mut communicator = self.communicator.borrow_mut();
        if communicator.is_none() {
            *communicator = Some(Communicator::meet(&self.context, group)?);
        }
        Ok(())
    }

    fn begin_exchange(&self, exchange: &Exchange, block: &Block, offset: usize) -> Result<()> {
        self.graphs.take(self, Op::Exchange { exchange: exchange.clone(), block: *block, offset })
    }

    fn finish_exchanges(&self, group: &Group, what: &'static str) -> Result<()> {
        self.graphs.refuse("a wait for other ranks")?;
        self.exchanged(group, what)
    }

    fn joint_replays(&self) -> u64 {
        self.joint_counts().replayed
    }

    fn free(&self) -> Option<usize> {
        let (free, _) = result::mem_get_info().ok()?;
        Some(free.saturating_sub(RESERVED))
    }
}

impl Runner for Cuda {
    type Graph = Graph;

    fn run(&self, op: &Op) -> Result<()> {
        match op {
            Op::Launch { kernel, call } => self.run_launch(kernel, call),
            Op::Upload { block, offset, bytes } => self.copy_in(block, *offset, bytes),
            Op::Exchange { exchange, block, offset } => {
                self.exchange(exchange, (block.address + offset) as u64)
            }
            // The arena's places are fixed.
            Op::Allocate(_) | Op::Release(_) => Ok(()),
        }
    }

    fn instantiate(&self, ops: &[Op]) -> Result<Graph> {
        Ok(Graph::of(ops, self.next_number()))
    }

    fn update(&self, graph: &mut Graph, index: usize, op: &Op) -> Result<()> {
        graph.update(self, index, op);
        Ok(())
    }

    fn replay(&self, graph: &Graph, ops: &[Op]) -> Result<()> {
        graph.replay(self, ops)
    }
}
