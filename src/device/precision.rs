//! Number formats: how values are stored and how matrix products are computed.

use crate::shape::DType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a device stores activations and weights in, and multiplies in.
///
/// Statistics, softmax, loss, parameter gradients and optimizer state are f32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE single precision throughout.
    #[default]
    Fp32,
    /// Stored as f32, matrix products on tensor cores that keep 10 bits of the fraction.
    Tf32,
    /// Stored as f32, each product of an attention made of three on tensor cores, with the accuracy of fp32
    /// ("3xTF32" in CUTLASS); the products of a library are in fp32.
    Tf32x3,
    /// Weights and activations in bfloat16; the optimizer keeps f32 weights.
    Bf16,
}

impl Precision {
    pub const ALL: [Precision; 4] = [Precision::Fp32, Precision::Tf32, Precision::Tf32x3, Precision::Bf16];

    /// The type of weights and activations.
    pub fn storage(self) -> DType {
        match self {
            Precision::Fp32 | Precision::Tf32 | Precision::Tf32x3 => DType::F32,
            Precision::Bf16 => DType::BF16,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Tf32x3 => "tf32x3",
            Precision::Bf16 => "bf16",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
