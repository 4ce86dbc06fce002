//! NCCL, which exchanges what lies in the memory of several GPUs, and is loaded when ranks on GPUs need it.
//!
//! NCCL user guide, API: communicators that do not block, so that ranks that wait for a lost one can end. The table is our
//! own, since cudarc looks for no name that NVIDIA's packages have.

use super::libraries::Library;
use crate::error::{Error, Result};
use std::env;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::sync::OnceLock;

/// Its file, in packages as in systems.
const FILE: &str = "libnccl.so.2";

/// The oldest with communicators that do not block.
const OLDEST: Version = Version(21_400);

/// The algorithm and the protocol that are taken unless the user says which: the order of sums does not depend on the
/// size of what is summed, or on how busy the links are.
const FIXED: [(&str, &str); 2] = [("NCCL_ALGO", "Ring"), ("NCCL_PROTO", "Simple")];

/// As NCCL counts: 10000 times the major version, 100 times the minor one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(c_int);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Before 2.9 the major version counted a tenth.
        let (major, rest) =
            if self.0 < 10_000 { (self.0 / 1000, self.0 % 1000) } else { (self.0 / 10_000, self.0 % 10_000) };
        write!(f, "{major}.{}.{}", rest / 100, rest % 100)
    }
}

/// `ncclUniqueId`, by which ranks find each other.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct UniqueId(pub [u8; 128]);

/// The beginning of `ncclConfig_t`, all that it was in [`OLDEST`]: later versions take it as it is.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

impl Config {
    /// A communicator whose calls begin their work and do not wait.
    pub fn non_blocking() -> Self {
        Config { size: size_of::<Config>(), magic: 0xcafe_beef, version: OLDEST.0 as u32, blocking: 0 }
    }
}

/// `ncclResult_t`.
pub(super) type Status = c_int;
pub(super) const SUCCESS: Status = 0;
pub(super) const IN_PROGRESS: Status = 7;

/// `ncclFloat32`, `ncclBfloat16` and `ncclSum`.
pub(super) const FLOAT: c_int = 7;
pub(super) const BFLOAT16: c_int = 9;
pub(super) const SUM: c_int = 0;

/// `ncclComm_t`.
pub(super) type Handle = *mut c_void;
type Stream = *mut c_void;

/// What is called of a library that stays loaded, by the signatures of nccl.h.
pub(super) struct Functions {
    pub version: Version,
    pub unique_id: unsafe extern "C" fn(*mut UniqueId) -> Status,
    pub init: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int, *mut Config) -> Status,
    pub abort: unsafe extern "C" fn(Handle) -> Status,
    pub state: unsafe extern "C" fn(Handle, *mut Status) -> Status,
    pub last_error: unsafe extern "C" fn(Handle) -> *const c_char,
    pub group_start: unsafe extern "C" fn() -> Status,
    pub group_end: unsafe extern "C" fn() -> Status,
    pub all_reduce: unsafe extern "C" fn(u64, u64, usize, c_int, c_int, Handle, Stream) -> Status,
    pub reduce: unsafe extern "C" fn(u64, u64, usize, c_int, c_int, c_int, Handle, Stream) -> Status,
    pub broadcast: unsafe extern "C" fn(u64, u64, usize, c_int, c_int, Handle, Stream) -> Status,
}

impl Functions {
    /// What a failed call says of itself.
    pub fn refusal(&self, handle: Handle, status: Status, doing: &str) -> Error {
        // SAFETY: a null handle asks for the last error of any; the text ends with a zero byte and stays until the next call.
        let text = unsafe { (self.last_error)(handle) };
        let said = match text.is_null() {
            true => String::new(),
            // SAFETY: as above.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().replace('\n', " "),
        };
        let said = if said.is_empty() { "no more is known" } else { &*said };
        Error::Device(format!(
            "NCCL cannot {doing}: {said} (ncclResult_t {status}); run again with NCCL_DEBUG=WARN, which says more, {WITHOUT}"
        ))
    }
}

/// How ranks on GPUs do without NCCL.
const WITHOUT: &str = "or have ranks exchange over the hosts' memory (--ddp-backend host)";

fn missing() -> Error {
    Error::Device(format!(
        "NCCL is not here ({FILE}), by which ranks on GPUs exchange gradients: `pip install nvidia-nccl-cu13` (or \
         nvidia-nccl-cu12, as the driver is), or name its folder in LD_LIBRARY_PATH, {WITHOUT}"
    ))
}

fn too_old(version: Option<Version>) -> Error {
    let version = version.map_or("of an unknown version".to_string(), |version| version.to_string());
    Error::Device(format!(
        "NCCL here is {version}, and ranks on GPUs need {OLDEST} or newer: `pip install --upgrade nvidia-nccl-cu13` (or \
         nvidia-nccl-cu12, as the driver is), {WITHOUT}"
    ))
}

/// Has NCCL add in one order, unless the user says otherwise. Call it before there are threads.
pub fn fix_order() {
    for (name, value) in FIXED {
        if env::var_os(name).is_none() {
            // SAFETY: the program calls this first of all, when no other thread is there to read the environment.
            unsafe { env::set_var(name, value) };
        }
    }
}

/// The version of the NCCL that is found, if one is.
pub fn version() -> Option<Version> {
    let library = open()?;
    // SAFETY: as for `load`.
    unsafe { version_of(&library) }
}

/// NCCL, or why it cannot be used.
pub(super) fn load() -> Result<&'static Functions> {
    static LOADED: OnceLock<Option<Functions>> = OnceLock::new();
    let Some(library) = open() else { return Err(missing()) };
    // SAFETY: NVIDIA's library may be loaded at any time, and was for good.
    let version = unsafe { version_of(&library) };
    let loaded = LOADED.get_or_init(|| unsafe { functions(&library, version?) });
    match (loaded, version) {
        (Some(functions), Some(version)) if version >= OLDEST => Ok(functions),
        (None, Some(version)) if version >= OLDEST => Err(Error::Device(format!(
            "NCCL {version} here lacks what this program calls: install it again, {WITHOUT}"
        ))),
        (_, version) => Err(too_old(version)),
    }
}

/// Another handle of the library, which [`Library::load`] has loaded for good.
fn open() -> Option<libloading::Library> {
    if !Library::Nccl.load() {
        return None;
    }
    // SAFETY: it is loaded already, and found by its name.
    unsafe { libloading::Library::new(FILE) }.ok()
}

/// # Safety
/// `library` is NCCL.
unsafe fn version_of(library: &libloading::Library) -> Option<Version> {
    let mut version = 0;
    // SAFETY: the signature is that of nccl.h, by which one int is written.
    unsafe {
        let ask = library.get::<unsafe extern "C" fn(*mut c_int) -> Status>(b"ncclGetVersion\0").ok()?;
        (ask(&mut version) == SUCCESS).then_some(Version(version))
    }
}

/// # Safety
/// `library` is NCCL, and stays loaded.
unsafe fn functions(library: &libloading::Library, version: Version) -> Option<Functions> {
    // SAFETY: each function is asked for under its name, with the signature of nccl.h.
    unsafe {
        Some(Functions {
            version,
            unique_id: *library.get(b"ncclGetUniqueId\0").ok()?,
            init: *library.get(b"ncclCommInitRankConfig\0").ok()?,
            abort: *library.get(b"ncclCommAbort\0").ok()?,
            state: *library.get(b"ncclCommGetAsyncError\0").ok()?,
            last_error: *library.get(b"ncclGetLastError\0").ok()?,
            group_start: *library.get(b"ncclGroupStart\0").ok()?,
            group_end: *library.get(b"ncclGroupEnd\0").ok()?,
            all_reduce: *library.get(b"ncclAllReduce\0").ok()?,
            reduce: *library.get(b"ncclReduce\0").ok()?,
            broadcast: *library.get(b"ncclBroadcast\0").ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_both_countings() {
        for (number, text) in [(2_708, "2.7.8"), (21_403, "2.14.3"), (22_809, "2.28.9"), (30_001, "3.0.1")] {
            assert_eq!(Version(number).to_string(), text);
        }
        assert!(Version(2_708) < OLDEST && Version(21_305) < OLDEST && Version(21_400) >= OLDEST);
    }
}
