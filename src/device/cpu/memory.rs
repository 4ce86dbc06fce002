//! Zeroed, page-aligned memory straight from the kernel, on huge pages where it offers them.

use crate::error::{Error, Result};
use memmap2::MmapMut;

/// An anonymous mapping.
pub struct Memory {
    map: Option<MmapMut>,
    address: usize,
}

impl Memory {
    /// Maps `bytes` zeroed bytes.
    pub fn new(bytes: usize) -> Result<Self> {
        if bytes == 0 {
            return Ok(Memory { map: None, address: super::super::layout::ALIGNMENT });
        }
        let mut map = MmapMut::map_anon(bytes).map_err(|e| {
            Error::DoesNotFit(format!(
                "cannot allocate {}: {e}; try a smaller batch or a shorter input",
                crate::units::Bytes(bytes as u64)
            ))
        })?;
        // Small blocks would each waste a huge page.
        #[cfg(target_os = "linux")]
        if bytes >= 4 << 20 {
            // Advice only: where huge pages are off, ordinary pages serve.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        let address = map.as_mut_ptr() as usize;
        Ok(Memory { map: Some(map), address })
    }
}

impl super::super::blocks::Memory for Memory {
    fn address(&self) -> usize {
        self.address
    }

    fn bytes(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.len())
    }
}

/// Copies `bytes` to `address`.
pub fn write(address: usize, bytes: &[u8]) {
    // SAFETY: the caller passes a range inside a live block, checked by `device::within`.
    unsafe { std::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}

/// Copies from `address` until `bytes` is full.
pub fn read(address: usize, bytes: &mut [u8]) {
    // SAFETY: the caller passes a range inside a live block, checked by `device::within`.
    unsafe { std::ptr::copy(address as *const u8, bytes.as_mut_ptr(), bytes.len()) }
}
