//! Copies between blocks of host memory and slices.

/// Copies `bytes` to `address`.
pub fn write(address: usize, bytes: &[u8]) {
    if !bytes.is_empty() {
        // SAFETY: the caller passes a range inside a live block, checked by `device::within`.
        unsafe { std::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) }
    }
}

/// Copies from `address` until `bytes` is full.
pub fn read(address: usize, bytes: &mut [u8]) {
    if !bytes.is_empty() {
        // SAFETY: the caller passes a range inside a live block, checked by `device::within`.
        unsafe { std::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) }
    }
}
