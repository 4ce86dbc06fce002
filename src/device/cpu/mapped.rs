//! Files as memory, read when they are looked at.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The content of a file that is never changed in place: whoever writes it anew replaces the whole.
#[derive(Debug)]
pub struct Mapped(Mmap);

impl Mapped {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is only ever replaced by renaming (`files::replace`), so its bytes stay as they are.
        Ok(Mapped(unsafe { Mmap::map(&file) }?))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
