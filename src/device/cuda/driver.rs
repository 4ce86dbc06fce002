//! The driver, its GPUs, and a context on one of them.

use super::errors::{self, calling, refused};
use super::libraries::Library;
use crate::error::Result;
use crate::units::Bytes;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute as Attribute, CUresult, CUstream};
use std::env;
use std::fmt;
use std::rc::Rc;

/// The newest CUDA that the driver serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the driver says about a GPU.
#[derive(Debug, Clone)]
pub struct Properties {
    /// N of `cuda:N`.
    pub ordinal: usize,
    pub name: String,
    /// Major and minor compute capability.
    pub capability: (u32, u32),
    pub memory: Bytes,
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block can ask for.
    pub(super) shared: u32,
    /// As 8-4-4-4-12 hexadecimal digits; of the MIG instance where that is one.
    pub uuid: Option<String>,
    handle: CUdevice,
}

/// Starts the driver.
pub fn start() -> Result<Version> {
    if !Library::Driver.load() {
        return Err(errors::no_driver());
    }
    calling(|| {
        let mut version = 0;
        // SAFETY: the driver writes one int.
        let status = unsafe { sys::cuDriverGetVersion(&mut version) };
        status.result().map_err(|e| refused(e.0, "ask the driver for its version"))?;
        match result::init() {
            Ok(()) => Ok(Version { major: version as u32 / 1000, minor: version as u32 % 1000 / 10 }),
            Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => Err(no_gpu()),
            Err(error) => Err(refused(error.0, "start the driver")),
        }
    })
}

/// All GPUs that the started driver sees, of which there is at least one.
pub fn gpus() -> Result<Vec<Properties>> {
    calling(|| {
        let count = result::device::get_count().map_err(|e| refused(e.0, "count the GPUs"))?;
        match count {
            0 => Err(no_gpu()),
            _ => (0..count).map(properties).collect(),
        }
    })
}

/// GPU `ordinal` of the started driver.
pub(super) fn gpu(ordinal: usize) -> Result<Properties> {
    let mut gpus = gpus()?;
    match ordinal < gpus.len() {
        true => Ok(gpus.swap_remove(ordinal)),
        false => Err(errors::no_such_gpu(ordinal, gpus.len(), visible().as_deref())),
    }
}

fn visible() -> Option<String> {
    env::var("CUDA_VISIBLE_DEVICES").ok()
}

fn no_gpu() -> crate::error::Error {
    errors::no_gpu(visible().as_deref())
}

fn properties(ordinal: i32) -> Result<Properties> {
    let asked = |e: DriverError| refused(e.0, format_args!("ask for the properties of GPU {ordinal}"));
    let handle = result::device::get(ordinal).map_err(asked)?;
    // SAFETY: `handle` is a device of this driver.
    let attribute = |attribute| unsafe {
        result::device::get_attribute(handle, attribute).map(|value| value as u32).map_err(asked)
    };
    Ok(Properties {
        ordinal: ordinal as usize,
        name: result::device::get_name(handle).map_err(asked)?,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory: Bytes(unsafe { result::device::total_mem(handle) }.map_err(asked)? as u64),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        uuid: result::device::get_uuid(handle)
            .ok()
            .map(|uuid| hexadecimal(uuid.bytes.map(|byte| byte as u8))),
        handle,
    })
}

fn hexadecimal(bytes: [u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    [a, b, c, d, e].join("-")
}

/// The process's context on one GPU, current on the thread that opened it, and one stream.
///
/// The executor is not `Send`, so every call comes from that thread.
pub(super) struct Context {
    device: CUdevice,
    pub stream: CUstream,
}

impl Context {
    pub fn open(gpu: &Properties) -> Result<Rc<Self>> {
        let opened = |e: DriverError| refused(e.0, format_args!("open {}", gpu.name));
        // SAFETY: `gpu.handle` is a device of this driver; a primary context that was retained can be current.
        unsafe {
            let context = result::primary_ctx::retain(gpu.handle).map_err(opened)?;
            result::ctx::set_current(context).map_err(opened)?;
        }
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(opened)?;
        Ok(Rc::new(Context { device: gpu.handle, stream }))
    }

    /// Waits for all work on the stream.
    pub fn synchronize(&self) -> Result<(), CUresult> {
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.stream) }.map_err(|e| e.0)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: all that used the stream held this context and is gone. After a fault both calls fail, and the
        // process's end gives back the rest.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Whether all work on `stream`, which lives, is done, without waiting for it.
pub(super) fn is_idle(stream: CUstream) -> Result<bool, CUresult> {
    // SAFETY: the stream lives.
    match unsafe { sys::cuStreamQuery(stream) } {
        CUresult::CUDA_SUCCESS => Ok(true),
        CUresult::CUDA_ERROR_NOT_READY => Ok(false),
        code => Err(code),
    }
}
