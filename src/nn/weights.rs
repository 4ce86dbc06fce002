//! How weights are kept: in the device's storage type, or in 8 bits with a scale for each output.

use crate::device::Device;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::int8::{self, Int8};
use serde::{Deserialize, Serialize};

/// How the weights of linear layers and of the head are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// In the storage type of the precision.
    #[default]
    Stored,
    /// In 8 bits, with a scale for each output.
    Int8,
}

impl Weights {
    /// Why weights in 8 bits are not trained, and what to do instead.
    pub const NOT_TRAINED: &'static str = "int8 weights are not trained: a step of the optimizer is smaller than a step of \
         8 bits, and would be rounded away; train with --precision fp32 or bf16, and give --weights int8 to generate or \
         evaluate, or weights = [\"stored\", \"int8\"] in a study's file: they round weights that are trained";

    pub fn name(self) -> &'static str {
        match self {
            Weights::Stored => "stored",
            Weights::Int8 => "int8",
        }
    }

    /// Fails where they are kept in 8 bits, and `device` cannot multiply with them.
    pub fn check(self, device: &Device) -> Result<()> {
        match self == Weights::Int8 && !device.has(&int8::PRODUCT) {
            true => Err(int8::refusal(&device.name())),
            false => Ok(()),
        }
    }
}

/// A weight `[O, I]` as products take it.
pub enum Weight {
    /// In the device's storage type.
    Stored(Tensor),
    Int8(Int8),
}

/// Where the values of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In the slab alone.
    Slab,
    /// In 8 bits alone.
    Int8(Place),
    /// In the slab, and for products in 8 bits too.
    Both(Place),
}

/// A weight in the slabs of 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Elements into the values.
    pub values: usize,
    /// Elements into the scales.
    pub scales: usize,
}

impl Kept {
    /// Where it is in 8 bits, if it is.
    pub fn int8(self) -> Option<Place> {
        match self {
            Kept::Slab => None,
            Kept::Int8(place) | Kept::Both(place) => Some(place),
        }
    }
}
