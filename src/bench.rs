//! Benchmarks: the same work again and again, and what the times look like.

pub mod attention;
pub mod baseline;
pub mod gemm;
pub mod kernels;
pub mod limits;
pub mod repeat;
pub mod resident;
pub mod workload;

use crate::energy::Sampler;
use crate::limits::Limits;
use resident::ResidentPeak;

/// What a benchmark is measured with beside the clock.
#[derive(Clone, Copy)]
pub struct Meters<'a> {
    /// Samples of the device's energy.
    pub sampler: &'a Sampler,
    /// What the device does at most, where that is known.
    pub limits: Option<&'a Limits>,
    /// Peak of the process's memory, from before the model was loaded.
    pub resident: &'a ResidentPeak,
}
