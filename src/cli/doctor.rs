//! `doctor`: what this machine has to compute and to measure with.

use super::global::Global;
use super::machine;
use crate::collective::{Launch, MPI};
use crate::device::cpu::features::{self, State};
use crate::device::cpu::{gemm, int8};
use crate::device::cuda::kernels::{ARCHITECTURES, MISSING, MODULES, NVCC, PTX, RESOURCES};
use crate::device::cuda::{self, Cuda, Library, nccl};
use crate::device::{Device, Precision};
use crate::energy;
use crate::units::Bytes;
use serde::Serialize;
use std::path::PathBuf;

mod selftest;
mod text;

/// List what this machine has: processor, GPUs, driver, libraries, compiled kernels and sensors; -v lists every kernel
#[derive(clap::Args, Debug)]
#[command(after_help = energy::HELP)]
pub struct Args {
    /// Run every kernel on small cases and compare with the CPU (with --device cuda or sim)
    #[arg(long)]
    selftest: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    commit: &'static str,
    target: &'static str,
    profile: &'static str,
    processor: Processor,
    ranks: Ranks,
    cuda: Driver,
    libraries: Vec<Found>,
    kernels: Kernels,
    /// Why the simulator does not run; null where it does.
    simulator: Option<String>,
    sensors: Vec<String>,
}

#[derive(Serialize)]
struct Processor {
    name: String,
    threads: usize,
    vectors: &'static str,
    /// What computes products of matrices in each format of the CPU.
    products: Products,
    instructions: Vec<Instructions>,
}

#[derive(Serialize)]
struct Products {
    fp32: &'static str,
    bf16: &'static str,
    /// With int8 weights.
    int8: &'static str,
}

/// An instruction set beyond the baseline.
#[derive(Serialize)]
struct Instructions {
    name: &'static str,
    used: bool,
    /// Why it is not used; null where it is.
    problem: Option<String>,
}

/// What a launcher says of this process.
#[derive(Serialize)]
struct Ranks {
    launch: Option<Launch>,
    /// Where its variables contradict each other.
    problem: Option<String>,
    /// Whether the program was built with MPI.
    mpi: bool,
}

/// The newest CUDA that the driver serves and its GPUs, or why there are none.
#[derive(Serialize)]
struct Driver {
    version: Option<String>,
    gpus: Vec<Gpu>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Gpu {
    device: String,
    name: String,
    capability: String,
    memory: Bytes,
    multiprocessors: u32,
    /// The embedded code that the GPU runs.
    code: Option<String>,
    /// Why the GPU cannot be used; null where it can.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Found {
    name: &'static str,
    path: Option<PathBuf>,
    loads: bool,
    /// As the library says it, where it does.
    version: Option<String>,
}

#[derive(Serialize)]
struct Kernels {
    nvcc: Option<&'static str>,
    /// Why there are none; nothing where there are.
    problem: Option<&'static str>,
    architectures: Vec<String>,
    ptx: Option<u32>,
    files: Vec<File>,
    bytes: Bytes,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Resources>,
}

#[derive(Serialize)]
struct File {
    name: &'static str,
    variants: Vec<&'static str>,
}

/// What one kernel entry takes: 32-bit registers of a thread, and bytes of memory.
#[derive(Serialize)]
struct Resources {
    entry: &'static str,
    variant: &'static str,
    architecture: &'static str,
    registers: u32,
    stack: u32,
    spill_stores: u32,
    spill_loads: u32,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    if args.selftest {
        return selftest::run(global);
    }
    // The driver comes first, so that the libraries it loads can be found.
    let driver = driver();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("WATTENTION_COMMIT"),
        target: env!("WATTENTION_TARGET"),
        profile: env!("WATTENTION_PROFILE"),
        ranks: match Launch::read() {
            Ok(launch) => Ranks { launch: Some(launch), problem: None, mpi: MPI },
            Err(error) => Ranks { launch: None, problem: Some(error.to_string()), mpi: MPI },
        },
        processor: processor(),
        cuda: driver,
        libraries: Library::ALL.map(found).into(),
        kernels: kernels(global.verbose),
        simulator: Device::open("sim", Precision::Fp32).err().map(|why| why.to_string()),
        sensors: sensors(),
    };
    global.print(&report, &report)
}

fn processor() -> Processor {
    let instructions = features::states().into_iter().map(|(feature, state)| Instructions {
        name: feature.name(),
        used: state == State::Used,
        problem: match state {
            State::Used => None,
            State::Unused(why) => Some(why),
        },
    });
    let by = |precision: Precision| gemm::way(precision.storage());
    Processor {
        name: machine::processor(),
        threads: rayon::current_num_threads(),
        vectors: machine::vectors(),
        products: Products { fp32: by(Precision::Fp32), bf16: by(Precision::Bf16), int8: int8::way() },
        instructions: instructions.collect(),
    }
}

/// The sensors of the processor and of every GPU that can be opened.
fn sensors() -> Vec<String> {
    let gpus = cuda::start().and_then(|_| cuda::gpus()).unwrap_or_default();
    let identities = gpus.into_iter().filter_map(|gpu| gpu.uuid).map(|uuid| energy::Identity { uuid });
    std::iter::once(energy::processor())
        .chain(identities.map(|gpu| energy::gpu(&gpu)))
        .map(|m| m.name())
        .collect()
}

fn driver() -> Driver {
    let version = cuda::start().map_err(|why| why.to_string());
    let gpus = version.clone().and_then(|_| cuda::gpus().map_err(|why| why.to_string()));
    Driver {
        version: version.ok().map(|version| version.to_string()),
        problem: gpus.as_ref().err().cloned(),
        gpus: gpus.unwrap_or_default().into_iter().map(gpu).collect(),
    }
}

fn gpu(gpu: cuda::Properties) -> Gpu {
    let (major, minor) = gpu.capability;
    Gpu {
        device: format!("cuda:{}", gpu.ordinal),
        capability: format!("{major}.{minor}"),
        memory: gpu.memory,
        multiprocessors: gpu.multiprocessors,
        code: cuda::code_for(&gpu).map(|code| code.to_string()),
        problem: Cuda::open(gpu.ordinal, Precision::Fp32).err().map(|why| why.to_string()),
        name: gpu.name,
    }
}

fn found(library: Library) -> Found {
    let loads = library.load();
    let version = match library {
        Library::Nccl => nccl::version().map(|version| version.to_string()),
        Library::Driver | Library::CublasLt | Library::Nvml => None,
    };
    Found { name: library.name(), path: library.path().filter(|_| loads), loads, version }
}

fn kernels(each: bool) -> Kernels {
    let mut files: Vec<File> = Vec::new();
    for module in MODULES {
        let variant = module.variant.name();
        match files.last_mut().filter(|file| file.name == module.stem) {
            Some(file) => file.variants.push(variant),
            None => files.push(File { name: module.stem, variants: vec![variant] }),
        }
    }
    let resources = RESOURCES.iter().filter(|_| each).map(|usage| Resources {
        entry: usage.entry,
        variant: usage.variant.name(),
        architecture: usage.arch,
        registers: usage.registers,
        stack: usage.stack,
        spill_stores: usage.spill_stores,
        spill_loads: usage.spill_loads,
    });
    Kernels {
        nvcc: NVCC,
        problem: MISSING,
        architectures: ARCHITECTURES.iter().map(ToString::to_string).collect(),
        ptx: PTX,
        files,
        bytes: Bytes(MODULES.iter().map(|module| module.image.0.len() as u64).sum()),
        resources: resources.collect(),
    }
}
