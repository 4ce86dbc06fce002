//! The inputs on which every op is tried: by the tests against f64 loops and finite differences, on every
//! executor, by `doctor --selftest` against the CPU, and by the kernel benchmark.
//!
//! Sizes of 1, sizes that no block divides, more than a warp and more than a block, and rows that see nothing.

pub mod attention;
pub mod check;
pub mod decoding;
pub mod elementwise;
pub mod exchange;
pub mod optimizer;
pub mod products;
pub mod tables;
pub mod trial;

use crate::device::Device;
use crate::error::Result;
use crate::noise::{mixed, random};
use crate::shape::{DType, Shape};
use crate::tape::{Dropout, Randomness, Tape};
use crate::tensor::Tensor;
use half::bf16;

/// What an op computes from its differentiable inputs; integers and masks belong to the function.
pub type Forward = Box<dyn Fn(&Tape, &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;

/// One op on one set of sizes.
pub struct Case {
    /// As in `ops::ALL`.
    pub op: &'static str,
    pub name: String,
    pub inputs: Vec<Input>,
    pub forward: Forward,
    /// The longest sum in the forward or the backward pass.
    pub terms: usize,
    /// Size of the terms of a gradient that cancel exactly, 0 where none do.
    pub cancelling: f64,
}

/// A differentiable input.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    pub shape: Shape,
    /// Weights: their gradients are f32 whatever the storage type.
    pub parameter: bool,
    /// Values lie in [-scale, scale).
    pub scale: f32,
}

impl Input {
    fn activation(shape: impl Into<Shape>) -> Self {
        Input { shape: shape.into(), parameter: false, scale: 1.0 }
    }

    fn weight(shape: impl Into<Shape>) -> Self {
        Input { parameter: true, ..Input::activation(shape) }
    }

    /// The values of input `i` of a case.
    pub fn values(&self, i: usize) -> Vec<f32> {
        random(i as u64 + 1, self.shape.len()).iter().map(|x| x * self.scale).collect()
    }
}

/// Every case of every op.
pub fn all() -> Vec<Case> {
    let mut all = elementwise::all();
    all.extend(tables::all());
    all.extend(products::all());
    all.extend(attention::all());
    all.extend(decoding::all());
    all.extend(optimizer::all());
    all
}

/// A dropout site that is on no device yet.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    pub p: f32,
    pub randomness: Randomness,
    pub site: u16,
}

impl Site {
    /// Keeps everything.
    pub const OFF: Site = Site { p: 0.0, randomness: Randomness { seed: 0, step: 0 }, site: 0 };

    pub fn is_off(&self) -> bool {
        self.p == 0.0
    }

    pub fn on(&self, device: &Device) -> Result<Dropout> {
        match self.is_off() {
            true => Ok(Dropout::OFF),
            false => {
                let randomness = Some(self.randomness.upload(device)?);
                Ok(Dropout { p: self.p, site: self.site, randomness })
            }
        }
    }
}

/// Dropout that the cases use, with all words of key and stream in use.
pub const DROPOUT: Site =
    Site { p: 0.2, randomness: Randomness { seed: 11 << 35 | 1, step: 7 << 17 | 5 }, site: 3 };

/// `values` on the device in its storage type.
pub fn upload(device: &Device, shape: impl Into<Shape>, values: &[f32]) -> Result<Tensor> {
    match device.precision().storage() {
        DType::BF16 => {
            let narrow: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
            Tensor::upload(device, shape, &narrow)
        }
        _ => Tensor::upload(device, shape, values),
    }
}
