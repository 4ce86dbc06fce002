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
    run: extern "C" fn(*const c_void),
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
}

/// One kernel.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// One letter for each field of the argument struct, see kernels/sim/entry.h.
    pub letters: &'static str,
    /// Bytes of the argument struct.
    pub bytes: usize,
    pub run: extern "C" fn(*const c_void),
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
        Ok(Entry { letters, bytes: (**raw).bytes, run: (**raw).run })
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
