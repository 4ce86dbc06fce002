//! Working memory that a thread keeps between calls.

use std::cell::RefCell;

/// Floats to a cache line; vectors that straddle two lines load at half the speed.
const LINE: usize = 16;

thread_local! {
    /// One buffer for each loan inside another, the innermost first.
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` floats on a cache line boundary; what is in them is unspecified.
pub fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    // Taken, not borrowed: while `f` waits for other threads, this one may run another caller of ours.
    let mut buffer = SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        buffer.resize(len + LINE, 0.0);
    }
    let skip = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = f(&mut buffer[skip..skip + len]);
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
