//! What went wrong on a GPU, in one line with the remedy.

use crate::error::{Error, Result, guarded};
use crate::units::Bytes;
use cudarc::driver::sys::CUresult;
use std::fmt::Display;

/// Runs calls of NVIDIA's libraries; cudarc panics where a library lacks a symbol.
pub(super) fn calling<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    guarded(work).unwrap_or_else(|panic| {
        Err(Error::Device(format!(
            "NVIDIA's library lacks what this program calls ({panic}): update the driver and cuBLASLt to CUDA 12 or newer"
        )))
    })
}

pub(super) fn no_driver() -> Error {
    Error::Device(
        "no NVIDIA driver is here (libcuda does not load): install one from https://www.nvidia.com/drivers, \
         give the container the GPU, or use --device cpu"
            .into(),
    )
}

/// There is a driver and no GPU behind it; `visible` is CUDA_VISIBLE_DEVICES.
pub(super) fn no_gpu(visible: Option<&str>) -> Error {
    Error::Device(match visible {
        Some(list) => format!(
            "CUDA_VISIBLE_DEVICES='{list}' leaves no GPU: unset it or name one that `nvidia-smi -L` lists, or \
             use --device cpu"
        ),
        None => "the NVIDIA driver sees no GPU: see `nvidia-smi`, or use --device cpu".into(),
    })
}

/// GPU `ordinal` was asked for where there are `count`.
pub(super) fn no_such_gpu(ordinal: usize, count: usize, visible: Option<&str>) -> Error {
    let last = count.saturating_sub(1);
    let here = match count {
        1 => "the only one is cuda:0".into(),
        _ => format!("they go from cuda:0 to cuda:{last}"),
    };
    let limit = visible.map_or(String::new(), |list| format!(" with CUDA_VISIBLE_DEVICES='{list}'"));
    Error::Device(format!("there is no GPU {ordinal}: {here}{limit}"))
}

/// `why` is the build's reason.
pub(super) fn no_kernels(why: &str) -> Error {
    Error::Device(format!(
        "this program was built without kernels for GPUs ({why}): install the CUDA toolkit (12.0 or newer) and build \
         again, or use --device cpu"
    ))
}

/// No code for this compute capability; `compiled` lists what there is.
pub(super) fn no_code(name: &str, (major, minor): (u32, u32), compiled: &str) -> Error {
    Error::Device(format!(
        "{name} has compute capability {major}.{minor}, and this program has code for {compiled}: build it with \
         WATTENTION_CUDA_ARCHS={major}{minor} if that is 80 or more, or use --device cpu"
    ))
}

/// Products of warpgroups were asked for where there are none: on another GPU, or in another build.
pub(super) fn no_hopper(name: &str, (major, minor): (u32, u32), compiled: &str) -> Error {
    let variable = crate::device::Engine::VARIABLE;
    Error::Device(match (major, minor) {
        (9, 0) => format!(
            "attention for Hopper is code for sm_90a, with the features that only this architecture has, and this \
             program has code for {compiled}: build it with WATTENTION_CUDA_ARCHS=80,90a, or set {variable}=mma"
        ),
        _ => format!(
            "attention for Hopper needs compute capability 9.0, and {name} has {major}.{minor}: set {variable}=mma"
        ),
    })
}

/// A driver that serves no more than this version has no maps of tensors, by which attention for Hopper loads.
pub(super) fn no_maps(driver: impl Display) -> Error {
    let variable = crate::device::Engine::VARIABLE;
    Error::Device(format!(
        "attention for Hopper needs maps of tensors, which drivers make since CUDA 12.0 (R525), and this driver, which \
         is for CUDA {driver}, does not: update it (https://www.nvidia.com/drivers), or set {variable}=mma"
    ))
}

pub(super) fn no_cublaslt() -> Error {
    Error::Device(
        "cuBLASLt is not here (libcublasLt.so.13 or .12): install the CUDA toolkit or `pip install nvidia-cublas`, \
         and name its folder in LD_LIBRARY_PATH, or use --device cpu"
            .into(),
    )
}

pub(super) fn out_of_memory(asked: usize, free: usize, total: usize) -> Error {
    let [asked, free, total] = [asked, free, total].map(|bytes| Bytes(bytes as u64));
    Error::DoesNotFit(format!(
        "the GPU has {free} of {total} free, and {asked} more are needed: try a smaller batch or a shorter \
         input (`plan --fit` and `finetune --per-device-train-batch-size auto` find the largest batch), or end other \
         programs that use it"
    ))
}

/// The driver does not take the embedded kernels.
pub(super) fn cannot_load(stem: &str, code: CUresult, driver: impl Display, nvcc: &str) -> Error {
    use CUresult::*;
    match code {
        CUDA_ERROR_OUT_OF_MEMORY => Error::DoesNotFit(format!(
            "the GPU has no memory left for the kernels of {stem}: end other programs that use it"
        )),
        CUDA_ERROR_INVALID_IMAGE
        | CUDA_ERROR_NO_BINARY_FOR_GPU
        | CUDA_ERROR_INVALID_PTX
        | CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | CUDA_ERROR_JIT_COMPILATION_DISABLED => Error::Device(format!(
            "the driver, which is for CUDA {driver}, does not take kernels compiled by nvcc {nvcc} ({code:?}): \
             update the driver (https://www.nvidia.com/drivers), or build with an nvcc as old as the driver"
        )),
        _ => refused(code, format_args!("load the kernels of {stem}")),
    }
}

/// Any other refusal, of something that is not a kernel.
pub(super) fn refused(code: CUresult, doing: impl Display) -> Error {
    let (what, remedy) = meaning(code);
    Error::Device(format!("cannot {doing}: {what} ({code:?}); {remedy}"))
}

/// Whether a kernel on its way has failed; nothing works on this GPU in this process after it.
pub(super) fn is_fault(code: CUresult) -> bool {
    use CUresult::*;
    matches!(
        code,
        CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_CONTAINED
    )
}

/// The variable that keeps steps from becoming graphs, and its value.
pub(super) const NO_GRAPHS: (&str, &str) = ("WATTENTION_GRAPHS", "off");

/// A kernel failed while it ran. `last` are the latest launches, the newest at the end, of `launched` since the
/// GPU was last known to be well.
pub(super) fn fault(code: CUresult, last: &[impl Display], launched: usize) -> Error {
    let (what, remedy) = meaning(code);
    let names: Vec<String> = last.iter().map(ToString::to_string).collect();
    let (variable, value) = NO_GRAPHS;
    Error::Device(match (launched, &names[..]) {
        (1, [name]) if name.contains("(grid") => format!("{name}: {what} ({code:?}); {remedy}"),
        _ => format!(
            "one of the last {launched} launches: {what} ({code:?}), the newest being {}; run again with \
             {variable}={value} CUDA_LAUNCH_BLOCKING=1, which names the kernel; {remedy}",
            names.join(", ")
        ),
    })
}

/// What a code says, and what to do about it.
fn meaning(code: CUresult) -> (&'static str, &'static str) {
    use CUresult::*;
    const REPORT: &str = "this is a fault of the kernel: please report it";
    const SICK: &str = "the GPU is not well: see `nvidia-smi -q` and `dmesg` for Xid errors";
    const INSTALLATION: &str =
        "the driver's installation is broken: install it again, or restart the machine";
    match code {
        CUDA_ERROR_OUT_OF_MEMORY => ("the GPU's memory is full", "end other programs that use it"),
        CUDA_ERROR_DEVICE_UNAVAILABLE => {
            ("another program has the GPU for itself", "end that program; see `nvidia-smi`")
        }
        CUDA_ERROR_STUB_LIBRARY => {
            ("a stand-in for the driver was loaded", "remove the stubs folder from LD_LIBRARY_PATH")
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => ("the driver's parts differ in version", INSTALLATION),
        CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            ("CUDA's compatibility package does not serve this GPU", "remove it from LD_LIBRARY_PATH")
        }
        CUDA_ERROR_SYSTEM_NOT_READY => ("the system is not ready", "start NVIDIA's fabric manager"),
        CUDA_ERROR_OPERATING_SYSTEM | CUDA_ERROR_UNKNOWN | CUDA_ERROR_NOT_INITIALIZED => {
            ("the driver does not start", INSTALLATION)
        }
        CUDA_ERROR_ILLEGAL_ADDRESS => ("a thread touched memory that is not its own", REPORT),
        CUDA_ERROR_MISALIGNED_ADDRESS => {
            ("a thread touched memory at an address that is not aligned", REPORT)
        }
        CUDA_ERROR_LAUNCH_FAILED | CUDA_ERROR_ASSERT | CUDA_ERROR_ILLEGAL_INSTRUCTION => {
            ("the kernel stopped itself or failed", REPORT)
        }
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES | CUDA_ERROR_INVALID_VALUE => {
            ("this GPU does not launch a kernel of this size", REPORT)
        }
        CUDA_ERROR_LAUNCH_TIMEOUT => {
            ("the kernel ran longer than a GPU with a display allows", "use a GPU without one")
        }
        CUDA_ERROR_ECC_UNCORRECTABLE | CUDA_ERROR_NVLINK_UNCORRECTABLE | CUDA_ERROR_CONTAINED => {
            ("the hardware reported an error", SICK)
        }
        _ if is_fault(code) => ("the kernel failed", REPORT),
        _ => ("the driver refused", "see `wattention doctor` and `nvidia-smi`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_code_and_its_remedy() {
        let visible = Some("7");
        for (error, code, parts) in [
            (no_driver(), 69, ["no NVIDIA driver", "--device cpu"]),
            (no_gpu(visible), 69, ["CUDA_VISIBLE_DEVICES='7'", "unset it"]),
            (no_gpu(Some("")), 69, ["CUDA_VISIBLE_DEVICES=''", "nvidia-smi -L"]),
            (no_gpu(None), 69, ["sees no GPU", "nvidia-smi"]),
            (no_such_gpu(3, 1, None), 69, ["no GPU 3", "the only one is cuda:0"]),
            (no_such_gpu(3, 2, visible), 69, ["cuda:0 to cuda:1", "with CUDA_VISIBLE_DEVICES='7'"]),
            (no_kernels("NVCC=none"), 69, ["(NVCC=none)", "build again"]),
            (no_code("Tesla T4", (7, 5), "sm_80"), 69, ["capability 7.5", "code for sm_80"]),
            (
                no_hopper("A100", (8, 0), "sm_80, sm_90a"),
                69,
                ["needs compute capability 9.0, and A100 has 8.0", "set WATTENTION_ATTENTION=mma"],
            ),
            (
                no_hopper("H200", (9, 0), "sm_80, sm_90"),
                69,
                [
                    "code for sm_90a",
                    "program has code for sm_80, sm_90: build it with WATTENTION_CUDA_ARCHS=80,90a",
                ],
            ),
            (no_maps("11.8"), 69, ["since CUDA 12.0 (R525)", "for CUDA 11.8, does not: update it"]),
            (no_cublaslt(), 69, ["cuBLASLt", "LD_LIBRARY_PATH"]),
            (out_of_memory(2 << 30, 1 << 30, 4 << 30), 75, ["1.00 GiB of 4.00 GiB free", "smaller batch"]),
            (
                cannot_load("x", CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "12.4", "13.0"),
                69,
                ["for CUDA 12.4", "update the driver"],
            ),
            (
                cannot_load("x", CUresult::CUDA_ERROR_OUT_OF_MEMORY, "12.4", "13.0"),
                75,
                ["kernels of x", "end"],
            ),
            (refused(CUresult::CUDA_ERROR_UNKNOWN, "start it"), 69, ["cannot start it", "restart"]),
        ] {
            let text = error.to_string();
            assert_eq!(error.exit_code(), code, "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            assert!(!text.contains("  ") && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn a_fault_names_its_kernel_or_how_to_find_it() {
        let code = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
        let one = fault(code, &["x_fwd (grid [2, 1, 1], block 128)"], 1).to_string();
        assert!(one.starts_with("x_fwd (grid [2, 1, 1], block 128): "), "{one}");
        assert!(one.contains("CUDA_ERROR_ILLEGAL_ADDRESS") && one.contains("report"), "{one}");
        let some = fault(code, &["x_fwd", "y_fwd"], 40).to_string();
        assert!(some.contains("the last 40 launches") && some.contains("x_fwd, y_fwd"), "{some}");
        assert!(some.contains("CUDA_LAUNCH_BLOCKING=1"), "{some}");
        assert!(is_fault(code) && !is_fault(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
    }

    #[test]
    fn a_missing_symbol_is_an_error() {
        let error = calling::<()>(|| panic!("Missing symbol cuNew")).unwrap_err();
        assert!(error.to_string().contains("Missing symbol cuNew"), "{error}");
        assert_eq!(error.exit_code(), 69);
    }
}
