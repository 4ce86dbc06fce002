//! Memory whose end is the end of the accessible world: pages on both sides fault when touched.

use crate::error::{Error, Result};

/// Bytes on each side that fault: more than a kernel strays by one row of a model.
pub(super) const ZONE: usize = 1 << 16;
/// Vector loads of 16 bytes must be possible at the start of every buffer.
const ALIGNMENT: usize = 16;
/// What fills the rest of the buffer's first page and of its last 16 bytes: NaN to who reads it.
const PATTERN: u8 = 0xff;

/// A buffer that ends where its accessible pages end, but for up to 15 bytes.
pub(super) struct Guarded {
    base: *mut u8,
    /// Accessible pages, in bytes.
    pages: usize,
    /// Bytes from the first accessible one to the buffer.
    before: usize,
    bytes: usize,
}

impl Guarded {
    pub fn new(bytes: usize) -> Result<Self> {
        // SAFETY: asks the system for a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let pages = bytes.max(1).next_multiple_of(page);
        let total = pages + 2 * ZONE;
        let (none, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), total, none, flags, -1, 0) };
        // SAFETY: the range lies within the mapping just made.
        let opened = base != libc::MAP_FAILED
            && unsafe { libc::mprotect(base.byte_add(ZONE), pages, libc::PROT_READ | libc::PROT_WRITE) } == 0;
        if !opened {
            let why = std::io::Error::last_os_error();
            return Err(Error::DoesNotFit(format!(
                "cannot allocate {}: {why}; try a smaller batch or a shorter input",
                crate::units::Bytes(bytes as u64)
            )));
        }
        let before = pages - bytes.max(1).next_multiple_of(ALIGNMENT);
        let buffer = Guarded { base: base.cast(), pages, before, bytes };
        for i in (0..before).chain(before + bytes..pages) {
            // SAFETY: inside the accessible pages.
            unsafe { buffer.first_page().add(i).write(PATTERN) };
        }
        Ok(buffer)
    }

    pub fn address(&self) -> usize {
        self.first_page() as usize + self.before
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn first_page(&self) -> *mut u8 {
        // SAFETY: the mapping is longer than a zone.
        unsafe { self.base.add(ZONE) }
    }

    /// Lets the buffer be used.
    pub fn open(&self) {
        self.protect(libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Makes every use of the buffer fault.
    pub fn close(&self) {
        self.protect(libc::PROT_NONE);
    }

    fn protect(&self, protection: libc::c_int) {
        // SAFETY: the pages are this value's own; a failure leaves them as they were.
        unsafe { libc::mprotect(self.first_page().cast(), self.pages, protection) };
    }

    /// Sets every byte of the buffer.
    pub fn fill(&self, byte: u8) {
        // SAFETY: the buffer lies within the accessible pages; one thread holds the executor.
        unsafe { std::ptr::write_bytes(self.address() as *mut u8, byte, self.bytes) };
    }

    /// Whether the bytes beside the buffer that can be written without a fault were left alone.
    pub fn is_intact(&self) -> bool {
        let beside = (0..self.before).chain(self.before + self.bytes..self.pages);
        // SAFETY: inside the accessible pages.
        beside.into_iter().all(|i| unsafe { self.first_page().add(i).read() } == PATTERN)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.base.cast(), self.pages + 2 * ZONE) };
    }
}
