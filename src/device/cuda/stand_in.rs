//! The executor without a GPU, for tests: the stand-ins of tests/cuda for NVIDIA's libraries, with the simulator to
//! run what is launched.

use super::Cuda;
use super::kernels::{MODULES, NVCC, Variant};
use crate::device::sim::{direct::Kernel, maps};
use crate::device::tensor_map::{Encoded, RANK};
use crate::device::{Maps, Pass, Precision, TensorMap};
use crate::shape::DType;
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// `struct Kernels` of tests/cuda/driver.c.
#[repr(C)]
struct Table {
    find: extern "C" fn(*const c_void, *const c_char) -> usize,
    bytes: extern "C" fn(usize, c_uint) -> usize,
    encode: extern "C" fn(*mut Encoded, u64, *const [u64; RANK], *const [u64; RANK - 1], *const [u32; RANK]),
    run: extern "C" fn(usize, *const c_uint, c_uint, c_uint, *const c_void, *const c_void) -> c_int,
}

/// By handle, from 1.
static KERNELS: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());

fn kernels() -> MutexGuard<'static, Vec<Kernel>> {
    KERNELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is missing here for the stand-ins, if anything is. Loads them under the names that are looked for first.
pub(crate) fn missing() -> Result<Option<&'static str>, String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let has_compiler = || Command::new("cc").arg("--version").output().is_ok();
    if NVCC.is_none() {
        return Ok(Some("no nvcc"));
    }
    if !cfg!(wattention_sim) || !cfg!(target_os = "linux") || !has_compiler() {
        return Ok(Some("no simulator, or no C compiler for a driver in front of it"));
    }
    LOADED.get_or_init(load).clone().map(|()| None)
}

/// Opens the executor on the stand-ins.
pub(crate) fn open(precision: Precision, graphs: bool) -> crate::error::Result<Cuda> {
    let mut cuda = Cuda::open(0, precision)?;
    cuda.launch_by_launch = !graphs;
    Ok(cuda)
}

fn load() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let driver = compile("driver.c", "libcuda.so", folder.path())?;
    let others = [("cublaslt.c", "libcublasLt.so"), ("nccl.c", "libnccl.so.2")]
        .map(|(source, name)| compile(source, name, folder.path()));
    let table = Table { find, bytes, encode, run };
    // SAFETY: these are our own libraries, which stay loaded; `fake_kernels` copies the table.
    unsafe {
        let driver = Library::new(driver).map_err(|e| e.to_string())?;
        let set =
            driver.get::<unsafe extern "C" fn(*const Table)>(b"fake_kernels").map_err(|e| e.to_string())?;
        set(&table);
        std::mem::forget(driver);
        for other in others {
            std::mem::forget(Library::new(other?).map_err(|e| e.to_string())?);
        }
    }
    Ok(())
}

fn compile(source: &str, name: &str, folder: &Path) -> Result<PathBuf, String> {
    let library = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda").join(source);
    let mut command = Command::new("cc");
    command.args(["-O2", "-pthread", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    command.arg(format!("-Wl,-soname,{name}"));
    if name != "libcuda.so" {
        command.arg("-L").arg(folder).arg("-lcuda");
    }
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(library),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

extern "C" fn find(image: *const c_void, entry: *const c_char) -> usize {
    // SAFETY: the executor gives a string that ends.
    let entry = unsafe { CStr::from_ptr(entry) }.to_str().unwrap_or_default();
    let Some(module) = MODULES.iter().find(|module| module.image.0.as_ptr().cast() == image) else {
        return 0;
    };
    let (real, precision) = match module.variant {
        Variant::F32 => (DType::F32, Precision::Fp32),
        Variant::Bf16 => (DType::BF16, Precision::Bf16),
        Variant::Tf32 => (DType::F32, Precision::Tf32),
        Variant::Tf32x3 => (DType::F32, Precision::Tf32x3),
    };
    let mut kernels = kernels();
    kernels.extend(Kernel::find(entry, real, precision));
    kernels.len()
}

extern "C" fn bytes(kernel: usize, argument: c_uint) -> usize {
    kernels().get(kernel - 1).map_or(0, |kernel| kernel.bytes()[argument as usize])
}

/// A map as the simulator, which runs the kernels, reads it.
extern "C" fn encode(
    to: *mut Encoded,
    address: u64,
    sizes: *const [u64; RANK],
    strides: *const [u64; RANK - 1],
    sides: *const [u32; RANK],
) {
    // SAFETY: the driver gives the numbers of a map of this many dimensions, and a place for one.
    unsafe {
        *to = maps::encode(&TensorMap { address, sizes: *sizes, strides: *strides, sides: *sides });
    }
}

extern "C" fn run(
    kernel: usize,
    grid: *const c_uint,
    block: c_uint,
    shared: c_uint,
    arguments: *const c_void,
    maps: *const c_void,
) -> c_int {
    const FAILED: c_int = 719;
    // SAFETY: the driver gives three numbers.
    let grid = unsafe { *grid.cast::<[u32; 3]>() };
    let pass = Pass { entry: "", grid, block, shared, maps: Maps::Unused };
    let kernel = kernels().get(kernel - 1).copied();
    match kernel.map(|kernel| kernel.run(pass, [arguments, maps])) {
        Some(Ok(())) => 0,
        Some(Err(fault)) => {
            eprintln!("{fault}");
            FAILED
        }
        None => FAILED,
    }
}
