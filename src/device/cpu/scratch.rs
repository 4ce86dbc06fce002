//! Working memory that a thread keeps between calls.

use super::memory::Memory;
use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;

/// Bytes of a huge page; panels on ordinary ones would wait for their addresses, above all in a virtual machine.
const PAGE: usize = 2 << 20;

thread_local! {
    /// One buffer for each loan inside another, the innermost first.
    static SCRATCH: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats on a cache line boundary, large ones on a huge page's; what is in them is unspecified.
///
/// Ends the process where the machine has no memory left, as a vector does.
pub fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    use crate::device::blocks::Memory as _;
    let bytes = len * size_of::<f32>();
    let wanted = if bytes < PAGE / 2 { bytes } else { bytes.next_multiple_of(PAGE) + PAGE };
    // Taken, not borrowed: while `f` waits for other threads, this one may run another caller of ours.
    let buffer = SCRATCH.with_borrow_mut(Vec::pop).filter(|buffer| buffer.bytes() >= wanted);
    let buffer = buffer.unwrap_or_else(|| {
        // As for a vector that finds no memory.
        Memory::new(wanted).unwrap_or_else(|_| handle_alloc_error(Layout::new::<[f32; 1]>()))
    });
    let whole = wanted - bytes >= PAGE;
    let start = if whole { buffer.address().next_multiple_of(PAGE) } else { buffer.address() };
    // SAFETY: the mapping, which began as zeros and which nobody else has now, reaches that far beyond its boundary.
    let result = f(unsafe { std::slice::from_raw_parts_mut(start as *mut f32, len) });
    SCRATCH.with_borrow_mut(|buffers| buffers.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_loans_are_aligned_and_apart() {
        with_scratch(100, |outer| {
            outer.fill(1.0);
            with_scratch(200, |inner| {
                assert_eq!(inner.as_ptr() as usize % 64, 0);
                inner.fill(2.0);
            });
            assert_eq!(outer.as_ptr() as usize % 64, 0);
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }
}
