//! The randomness of a step, and what dropout sites make of it.

use crate::device::Device;
use crate::error::Result;
use crate::tensor::Tensor;

/// The randomness of one training step; a dropout site's mask is a function of it and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Randomness {
    pub seed: u64,
    /// Differs for every micro-batch of a run.
    pub step: u64,
}

impl Randomness {
    /// `[4]` i32 as kernels read it: seed and step, low words first. In memory rather than among the
    /// arguments of launches, so that a recorded step is replayed with another.
    pub fn upload(self, device: &Device) -> Result<Tensor> {
        let words = [self.seed, self.seed >> 32, self.step, self.step >> 32];
        Tensor::upload(device, [4], &words.map(|word| word as u32 as i32))
    }
}

/// One dropout site: its probability, and where it finds its Philox key and stream.
#[derive(Clone)]
pub struct Dropout {
    pub p: f32,
    /// Number within the step, below 2^16.
    pub site: u16,
    /// [`Randomness::upload`]; absent where nothing is dropped.
    pub randomness: Option<Tensor>,
}

impl Dropout {
    /// Keeps everything.
    pub const OFF: Dropout = Dropout { p: 0.0, site: 0, randomness: None };

    pub fn is_off(&self) -> bool {
        self.p == 0.0
    }
}
