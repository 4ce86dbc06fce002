//! A row of token ids, its own or a part of a mapped file.

use crate::device::cpu::Mapped;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Token ids, read as a slice.
#[derive(Clone)]
pub struct Tokens(Store);

#[derive(Clone)]
enum Store {
    Own(Vec<u32>),
    Mapped {
        file: Arc<Mapped>,
        /// Bytes of the file, at multiples of 4.
        at: Range<usize>,
    },
}

impl Tokens {
    /// The ids at bytes `at` of `file`; none where that is no row of ids.
    pub(super) fn mapped(file: &Arc<Mapped>, at: Range<usize>) -> Option<Self> {
        bytemuck::try_cast_slice::<u8, u32>(file.get(at.clone())?).ok()?;
        Some(Tokens(Store::Mapped { file: file.clone(), at }))
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(ids: Vec<u32>) -> Self {
        Tokens(Store::Own(ids))
    }
}

impl FromIterator<u32> for Tokens {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        Vec::from_iter(ids).into()
    }
}

impl Deref for Tokens {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Store::Own(ids) => ids,
            // `mapped` has tried both the range and the cast.
            Store::Mapped { file, at } => bytemuck::cast_slice(&file[at.clone()]),
        }
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
