//! Matrix products alone: y = x Wᵀ, as every linear layer computes it.

use super::repeat::{Flush, Schedule, repeat, warnings};
use crate::cases::upload;
use crate::device::{Cost, Device, Layout, Precision, cpu};
use crate::disturbance::Conditions;
use crate::energy::Sampler;
use crate::error::{Error, Result};
use crate::limits::{Bound, Limits};
use crate::nn::Weights;
use crate::noise::random;
use crate::stats::{Quantiles, quantiles};
use crate::tensor::Tensor;
use crate::tensor::int8::{self, Int8};
use crate::tensor::matmul::{Form, MATMUL, Product, matmul};
use crate::units::{Bytes, Flops};
use serde::Serialize;
use std::fmt;
use std::rc::Rc;

/// x `[M, K]` against W `[N, K]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The products of LED-base: projections and feed-forward layers over 1024 tokens, the language-model head
/// over 128, and the same weights in decoding, for one answer and for four beams.
pub const LED_BASE: [Size; 9] = [
    Size { m: 1024, n: 768, k: 768 },
    Size { m: 1024, n: 3072, k: 768 },
    Size { m: 1024, n: 768, k: 3072 },
    Size { m: 128, n: 50265, k: 768 },
    Size { m: 4, n: 768, k: 768 },
    Size { m: 4, n: 3072, k: 768 },
    Size { m: 4, n: 768, k: 3072 },
    Size { m: 1, n: 768, k: 768 },
    Size { m: 1, n: 50265, k: 768 },
];

impl Size {
    /// Parses `1024x768x3072`: M, N and K.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<usize>> = text.split('x').map(|n| n.trim().parse().ok()).collect();
        match numbers?[..] {
            [m, n, k] if m.min(n).min(k) > 0 => Some(Size { m, n, k }),
            _ => None,
        }
    }

    /// Operations of the product; none where kernels cannot index an operand.
    fn flops(self) -> Option<u64> {
        let Size { m, n, k } = self;
        let indexed = |a: usize, b: usize| a.checked_mul(b).is_some_and(|len| len <= i32::MAX as usize);
        let [m, n, k] = (indexed(m, k) && indexed(n, k) && indexed(m, n)).then_some([m, n, k])?;
        (2 * m as u64 * n as u64).checked_mul(k as u64)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.m, self.n, self.k)
    }
}

/// One product.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub size: Size,
    pub precision: Precision,
    /// How W is kept.
    pub weights: Weights,
    /// What computed it, where that is chosen on the machine.
    pub products: Option<&'static str>,
    #[serde(flatten)]
    pub quantiles: Quantiles,
    pub runs: usize,
    pub flops: u64,
    /// Bytes of both operands and the product, each once.
    pub bytes: u64,
    pub gflops_per_second: f64,
    pub gigabytes_per_second: f64,
    /// The least time at the device's limits over the median; none without limits.
    pub share_of_limit: Option<f64>,
    pub bound: Option<Bound>,
    pub conditions: Conditions,
    pub warnings: Vec<String>,
}

/// W `[N, K]`.
enum Right {
    Stored(Tensor),
    Int8(Int8),
}

impl Right {
    fn new(device: &Device, weights: Weights, [n, k]: [usize; 2], values: &[f32]) -> Result<Self> {
        match weights {
            Weights::Stored => Ok(Right::Stored(upload(device, [n, k], values)?)),
            Weights::Int8 if !device.has(&int8::PRODUCT) => Err(int8::refusal(&device.name())),
            Weights::Int8 => {
                let weight = Int8::zeros(device, [n, k])?;
                weight.write(values)?;
                Ok(Right::Int8(weight))
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Right::Stored(weight) => weight.len() * weight.dtype().size(),
            Right::Int8(weight) => int8::bytes(weight.values.shape()),
        }
    }

    fn kernel(&self) -> &'static str {
        match self {
            Right::Stored(_) => MATMUL.name,
            Right::Int8(_) => int8::PRODUCT.name,
        }
    }

    fn products(&self, device: &Device) -> Option<&'static str> {
        match self {
            Right::Stored(_) => device.products(),
            Right::Int8(_) => Some(cpu::int8::way()),
        }
    }
}

/// Measures one product on `device`; cold caches with `flush`. `sampler` sees what the device's sensors say meanwhile.
pub fn product(
    device: &Device,
    (size, weights): (Size, Weights),
    seed: u64,
    schedule: Schedule,
    flush: Option<&Flush>,
    limits: Option<&Limits>,
    sampler: &Sampler,
) -> Result<Row> {
    let Size { m, n, k } = size;
    let flops = size.flops().ok_or_else(|| {
        Error::DoesNotFit(format!("the operands of {size} are more than a tensor holds; ask for fewer"))
    })?;
    let values = |rows: usize, seed: u64| random(seed, rows * k);
    let [seed_a, seed_b] = [seed.wrapping_mul(2), seed.wrapping_mul(2).wrapping_add(1)];
    let a = upload(device, [m, k], &values(m, seed_a))?;
    let c = Tensor::persistent(device, [m, n], device.precision().storage())?;
    let b = Right::new(device, weights, [n, k], &values(n, seed_b))?;
    let samples = repeat(device, &Rc::new(Layout::default()), schedule, sampler, || {
        flush.map_or(Ok(()), Flush::run)?;
        match &b {
            Right::Stored(b) => matmul(&c, Product { a: &a, b, form: Form::RightTransposed, m, n, k }, false),
            Right::Int8(b) => b.product(&c, n, &a, None),
        }
    })?;
    let seconds = samples.forward;
    let bytes = ((m * k + m * n) * c.dtype().size() + b.bytes()) as u64;
    let cost = Cost { bytes: Bytes(bytes), flops: Flops(flops), exponentials: 0 };
    let least = limits.map(|limits| limits.least(b.kernel(), cost, device.precision()));
    let quantiles = quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?;
    Ok(Row {
        size,
        precision: device.precision(),
        weights,
        products: b.products(device),
        runs: seconds.len(),
        flops,
        bytes,
        gflops_per_second: flops as f64 / quantiles.median_s / 1e9,
        gigabytes_per_second: bytes as f64 / quantiles.median_s / 1e9,
        share_of_limit: least.map(|(least, _)| least.0 / quantiles.median_s),
        bound: least.map(|(_, bound)| bound),
        warnings: warnings(&seconds, &samples.conditions),
        conditions: samples.conditions,
        quantiles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_three_numbers_above_zero() {
        assert_eq!(Size::parse("1x768x3072"), Some(Size { m: 1, n: 768, k: 3072 }));
        for wrong in ["", "1x2", "1x2x3x4", "0x1x1", "-1x2x3", "1xax3", "1 2 3"] {
            assert_eq!(Size::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Size { m: 1 << 16, n: 1 << 16, k: 1 }.flops(), None);
        assert_eq!(Size { m: 3, n: 5, k: 7 }.flops(), Some(210));
        assert_eq!(LED_BASE.map(|size| Size::parse(&size.to_string())), LED_BASE.map(Some));
    }
}
