//! Phases as NVTX ranges, so that a profiler's timeline carries the labels of the tables.
//!
//! NVTX, C API reference: `nvtxRangePushA` and `nvtxRangePop`, which cost next to nothing while no tool
//! listens.

#[cfg(test)]
pub(crate) mod stand_in;

use crate::trace::{self, Listener, Pass, Phase};
use libloading::Library;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

/// Libraries with these functions: the toolkit's own, then the one that came with it before CUDA 13.
const LIBRARIES: [&str; 2] = ["libnvtx3interop.so.1", "libnvToolsExt.so.1"];

/// The two functions, of a library that stays loaded.
struct Functions {
    push: unsafe extern "C" fn(*const c_char) -> c_int,
    pop: unsafe extern "C" fn() -> c_int,
}

/// Draws ranges for the phases of this thread, where a library for it is here.
pub(super) fn start() {
    if FOUND.get().is_none()
        && let Some(functions) = LIBRARIES.into_iter().find_map(load)
    {
        // Another thread's are the same.
        let _ = FOUND.set(functions);
    }
    if FOUND.get().is_some() {
        trace::listen(Listener { enter, leave });
    }
}

static FOUND: OnceLock<Functions> = OnceLock::new();

fn load(name: &str) -> Option<Functions> {
    // SAFETY: NVIDIA's libraries may be loaded at any time; the signatures are those of nvToolsExt.h, and the
    // library is never unloaded.
    unsafe {
        let library = Library::new(name).ok()?;
        let push = *library.get::<unsafe extern "C" fn(*const c_char) -> c_int>(b"nvtxRangePushA\0").ok()?;
        let pop = *library.get::<unsafe extern "C" fn() -> c_int>(b"nvtxRangePop\0").ok()?;
        std::mem::forget(library);
        Some(Functions { push, pop })
    }
}

fn enter(phase: Phase) {
    thread_local!(static NAMES: RefCell<HashMap<Phase, CString>> = RefCell::default());
    let Some(functions) = FOUND.get() else { return };
    NAMES.with_borrow_mut(|names| {
        let name = names.entry(phase).or_insert_with(|| {
            let text = match phase.pass {
                Pass::Forward => phase.label.to_string(),
                Pass::Backward => format!("{} backward", phase.label),
            };
            // Labels are written in this program and have no zero byte.
            CString::new(text).unwrap_or_default()
        });
        // SAFETY: a string that ends with a zero byte and outlives the call, which copies it.
        unsafe { (functions.push)(name.as_ptr()) };
    });
}

fn leave() {
    if let Some(functions) = FOUND.get() {
        // SAFETY: ends the range that `enter` began on this thread.
        unsafe { (functions.pop)() };
    }
}
