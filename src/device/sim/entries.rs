//! The kernels that the build compiled for the simulator, by name and storage type.

use super::thread::{HOOKS, Hooks, Thread};
use crate::device::Precision;
use crate::error::{Error, Result};
use crate::shape::DType;
use std::ffi::{CStr, c_char, c_void};

/// `SimEntry` of kernels/sim/rendezvous.h.
#[repr(C)]
struct RawEntry {
    letters: *const c_char,
    bytes: usize,
    maps_bytes: usize,
    run: extern "C" fn(*const c_void, *const c_void),
}

struct Address(*const RawEntry);
// SAFETY: it points at a constant.
unsafe impl Sync for Address {}

// ALL: every entry in every variant. MISSING: why there are none.
include!(concat!(env!("OUT_DIR"), "/sim_entries.rs"));

#[cfg(wattention_sim)]
unsafe extern "C" {
    static mut sim_hooks: Hooks;
    fn sim_self_slot() -> *mut *mut Thread;
    fn sim_async_bytes() -> usize;
    fn sim_async_begin(state: *mut c_void, threads: u32, shared: *mut u8, visible: *mut u8, bytes: u32);
    fn sim_async_flying(state: *const c_void) -> u32;
    fn sim_async_land(state: *mut c_void, which: u32) -> *const c_char;
    fn sim_async_end(state: *const c_void) -> *const c_char;
}

/// What kernels/sim/runtime.cpp does with a block's state. Where no kernel was compiled, nothing.
pub(super) mod state {
    use super::{c_char, c_void};

    /// Before the threads of a block run.
    ///
    /// # Safety
    /// `state` has as many bytes as [`bytes`] says, `shared` and `visible` have `bytes`.
    #[cfg_attr(not(wattention_sim), allow(unused_variables, reason = "nothing is called"))]
    pub unsafe fn begin(state: *mut c_void, threads: u32, shared: *mut u8, visible: *mut u8, bytes: u32) {
        #[cfg(wattention_sim)]
        // SAFETY: the caller's promise.
        unsafe {
            super::sim_async_begin(state, threads, shared, visible, bytes);
        }
    }

    macro_rules! runtime {
        ($($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)? = $symbol:ident, $none:expr;)*) => {
            $($(#[$doc])*
            #[cfg_attr(not(wattention_sim), allow(unused_variables, reason = "nothing is called"))]
            pub unsafe fn $name($($arg: $kind),*) $(-> $result)? {
                #[cfg(wattention_sim)]
                // SAFETY: the caller's promise.
                return unsafe { super::$symbol($($arg),*) };
                #[cfg(not(wattention_sim))]
                return $none;
            })*
        };
    }

    runtime! {
        /// Bytes of a state.
        ///
        /// # Safety
        /// None is needed.
        bytes() -> usize = sim_async_bytes, 0;
        /// Bulk copies on their way.
        ///
        /// # Safety
        /// [`begin`] went before.
        flying(state: *const c_void) -> u32 = sim_async_flying, 0;
        /// Lands one of them; null, or a string that says what is wrong.
        ///
        /// # Safety
        /// As [`flying`], which is above `which`.
        land(state: *mut c_void, which: u32) -> *const c_char = sim_async_land, std::ptr::null();
        /// What the threads left behind; null, or a string.
        ///
        /// # Safety
        /// As [`flying`].
        end(state: *const c_void) -> *const c_char = sim_async_end, std::ptr::null();
    }
}

/// One kernel.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// One letter for each field of the argument struct, see kernels/sim/entry.h.
    pub letters: &'static str,
    /// Bytes of the argument struct.
    pub bytes: usize,
    /// Bytes of its maps of tensors, 0 where it has none.
    pub maps_bytes: usize,
    pub run: extern "C" fn(*const c_void, *const c_void),
}

/// Whether kernels can be simulated here; sets the hooks that they call.
pub(super) fn available() -> Result<()> {
    if let Some(why) = MISSING {
        return Err(Error::Device(format!(
            "this program was built without the simulator ({why}): build it with g++ 12 or clang 14, or newer, or use \
             --device cpu"
        )));
    }
    #[cfg(target_arch = "x86_64")]
    if !(std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")) {
        return Err(Error::Device(
            "the simulator needs a processor with AVX2 and FMA: use --device cpu".into(),
        ));
    }
    #[cfg(wattention_sim)]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: written once, before any fiber runs.
        ONCE.call_once(|| unsafe { sim_hooks = HOOKS });
    }
    Ok(())
}

/// The entry `name` for arguments whose `real` is `real`.
pub(super) fn find(name: &str, real: DType, precision: Precision) -> Result<Entry> {
    let variant = match (real, precision) {
        (DType::BF16, _) => "bf16",
        (_, precision @ (Precision::Tf32 | Precision::Tf32x3)) => precision.name(),
        _ => "f32",
    };
    let of = |variant: &str| ALL.iter().find(|(v, n, _)| (*v, *n) == (variant, name));
    // Only kernels with matrix products have forms of their own for tf32.
    let found = of(variant).or_else(|| of("f32").filter(|_| real == DType::F32));
    let (_, _, Address(raw)) =
        found.ok_or_else(|| Error::internal(format!("no kernel file has the entry {name} in {variant}")))?;
    // SAFETY: constants of the linked kernels.
    unsafe {
        let letters = CStr::from_ptr((**raw).letters).to_str().unwrap_or_default();
        let RawEntry { bytes, maps_bytes, run, .. } = **raw;
        Ok(Entry { letters, bytes, maps_bytes, run })
    }
}

/// Where this operating-system thread keeps the running simulated thread.
pub(super) fn self_slot() -> *mut *mut Thread {
    #[cfg(wattention_sim)]
    // SAFETY: returns the address of a thread-local variable.
    return unsafe { sim_self_slot() };
    #[cfg(not(wattention_sim))]
    return std::ptr::null_mut();
}
