//! Element types and row-major shapes.

use crate::error::{Error, Result};
use std::fmt;

/// Storage type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    F32,
    BF16,
    I32,
    I8,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::BF16 => 2,
            DType::I8 => 1,
        }
    }
}

/// A Rust type that a tensor can store.
pub trait Element: bytemuck::Pod {
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for half::bf16 {
    const DTYPE: DType = DType::BF16;
}
impl Element for i32 {
    const DTYPE: DType = DType::I32;
}
impl Element for i8 {
    const DTYPE: DType = DType::I8;
}

/// A storage type of activations and weights, read and written one element at a time.
pub trait Stored: Element + Send + Sync {
    fn wide(self) -> f32;
    fn narrow(x: f32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }
}

impl Stored for half::bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    #[inline(always)]
    fn narrow(x: f32) -> Self {
        // As `half` rounds, without a branch, so that loops over it vectorise: to the nearest, ties to even.
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // A NaN keeps its sign and the upper bits of its payload, and is quiet.
        let quiet = bits >> 16 | 0x40;
        half::bf16::from_bits(if x.is_nan() { quiet } else { nearest } as u16)
    }
}

/// Up to four dimensions, row-major contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last dimension, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Elements before the last dimension: the rows of a row-wise op.
    pub fn rows(&self) -> usize {
        self.dims().split_last().map_or(1, |(_, rest)| rest.iter().product())
    }

    /// Exactly two dimensions, or an error that names `op`.
    pub fn dims2(&self, op: &'static str) -> Result<[usize; 2]> {
        self.exact(op, "[N, C]")
    }

    /// Exactly three dimensions, or an error that names `op`.
    pub fn dims3(&self, op: &'static str) -> Result<[usize; 3]> {
        self.exact(op, "[B, T, C]")
    }

    /// The same dimensions with the last one replaced.
    pub fn with_last(&self, last: usize) -> Shape {
        let mut shape = *self;
        if shape.rank > 0 {
            shape.dims[shape.rank as usize - 1] = last;
        }
        shape
    }

    fn exact<const R: usize>(&self, op: &'static str, form: &str) -> Result<[usize; R]> {
        self.dims().try_into().map_err(|_| Error::shape(op, form, self))
    }
}

impl<const R: usize> From<[usize; R]> for Shape {
    fn from(from: [usize; R]) -> Self {
        const { assert!(R <= 4) };
        let mut dims = [1; 4];
        dims[..R].copy_from_slice(&from);
        Shape { dims, rank: R as u8 }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
