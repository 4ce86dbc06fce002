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
