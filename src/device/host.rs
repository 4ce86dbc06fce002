//! What executors on host memory share: running a CPU function, copies in and out, the memory that is left.

mod bytes;
mod call;
mod convert;
mod free;
mod widened;

pub(super) use bytes::{read, write};
pub use call::CpuCall;
pub use convert::narrow;
pub(super) use free::free;

use super::call::Call;
use widened::Widened;

/// Runs a kernel's CPU function on the call's host memory.
///
/// # Safety
/// As for [`CpuCall::new`].
pub(super) unsafe fn run(function: fn(&mut CpuCall), call: &Call) {
    let widened = Widened::default();
    // SAFETY: the caller's promise.
    function(&mut unsafe { CpuCall::new(call, &widened) });
    widened.round();
}
