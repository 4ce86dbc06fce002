//! What a device can do at most, and so the least time and energy that work takes on it.

use crate::device::plan::Launch;
use crate::device::{Cost, Precision};
use crate::error::{Error, Result};
use crate::units::{Bytes, Joules, Seconds, Watts};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Rates of a device that nothing on it exceeds; each is a bound, never a forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub device: String,
    pub origin: Origin,
    /// Bytes of memory; absent for a processor, which shares it with everything else.
    pub memory: Option<Bytes>,
    /// Bytes a second, read and written together, by a copy.
    pub bandwidth: f64,
    /// FLOP/s of multiply-add outside of matrix units.
    pub fma: f64,
    /// FLOP/s of matrix products, by precision; fp32 uses no matrix unit.
    pub fp32: f64,
    pub tf32: Option<f64>,
    pub bf16: Option<f64>,
    /// The same of products of bytes; absent where they were not measured.
    #[serde(default)]
    pub int8: Option<f64>,
    /// Exponentials a second.
    pub exponentials: f64,
    /// From one launch to the next.
    #[serde(rename = "launch_s")]
    pub launch: Seconds,
    /// The board's power limit; absent where none is stated.
    #[serde(rename = "power_limit_w")]
    pub power: Option<Watts>,
}

/// Where the rates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The maker's data sheet.
    Described,
    /// `bench limits` on the device itself.
    Measured,
}

/// What bounds a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    Tensor,
    Fma,
    Exponential,
    Memory,
    Launch,
}

impl Bound {
    pub fn name(self) -> &'static str {
        match self {
            Bound::Tensor => "tensor",
            Bound::Fma => "FMA",
            Bound::Exponential => "exponential",
            Bound::Memory => "memory",
            Bound::Launch => "launch",
        }
    }
}

/// Data-sheet rates of the GPUs that have a name here; dense, without sparsity.
/// Exponentials: 16 a clock and multiprocessor at the boost clock (CUDA C++ programming guide, arithmetic instructions).
const DESCRIBED: [Described; 4] = [
    // NVIDIA H200 SXM: 132 multiprocessors at 1.83 GHz.
    Described {
        name: "h200",
        gigabytes: 141,
        bandwidth: 4.8e12,
        fp32: 67e12,
        tf32: 494e12,
        bf16: 989e12,
        exp: 3.87e12,
        watts: 700.0,
    },
    // NVIDIA H100 SXM5: the same multiprocessors.
    Described {
        name: "h100",
        gigabytes: 80,
        bandwidth: 3.35e12,
        fp32: 67e12,
        tf32: 494e12,
        bf16: 989e12,
        exp: 3.87e12,
        watts: 700.0,
    },
    // NVIDIA A100 SXM4 80 GB: 108 at 1.41 GHz.
    Described {
        name: "a100",
        gigabytes: 80,
        bandwidth: 2.039e12,
        fp32: 19.5e12,
        tf32: 156e12,
        bf16: 312e12,
        exp: 2.44e12,
        watts: 400.0,
    },
    // NVIDIA RTX A6000, on which Ang et al. 2022 ran: 84 at 1.80 GHz.
    Described {
        name: "a6000",
        gigabytes: 48,
        bandwidth: 0.768e12,
        fp32: 38.7e12,
        tf32: 77.4e12,
        bf16: 154.8e12,
        exp: 2.42e12,
        watts: 300.0,
    },
];

/// From one kernel of a captured graph to the next.
const GRAPH_LAUNCH: Seconds = Seconds(1.5e-6);

struct Described {
    name: &'static str,
    gigabytes: u64,
    bandwidth: f64,
    fp32: f64,
    tf32: f64,
    bf16: f64,
    exp: f64,
    watts: f64,
}

impl Limits {
    /// The names [`Limits::described`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        DESCRIBED.iter().map(|gpu| gpu.name)
    }

    /// The limits of a GPU from its data sheet.
    pub fn described(name: &str) -> Result<Self> {
        let gpu = DESCRIBED.iter().find(|gpu| gpu.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<_> = Limits::names().collect();
            Error::usage(format!("no limits are known for the GPU '{name}'; there are {}", known.join(", ")))
        })?;
        Ok(Limits {
            device: gpu.name.into(),
            origin: Origin::Described,
            memory: Some(Bytes(gpu.gigabytes * 1_000_000_000)),
            bandwidth: gpu.bandwidth,
            fma: gpu.fp32,
            fp32: gpu.fp32,
            tf32: Some(gpu.tf32),
            bf16: Some(gpu.bf16),
            int8: None,
            exponentials: gpu.exp,
            launch: GRAPH_LAUNCH,
            power: Some(Watts(gpu.watts)),
        })
    }

    /// The limits of the GPU that a device's name contains, such as "cuda:0 (NVIDIA H200)"; none for others.
    pub fn described_in(device: &str) -> Option<Self> {
        let device = device.to_ascii_lowercase();
        Limits::names().find(|name| device.contains(name)).and_then(|name| Limits::described(name).ok())
    }

    /// The limits in a file that `bench limits --save` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            let remedy = "write them with `bench limits --save FILE`";
            Error::data(path.display(), format!("these are no limits of a device: {what}; {remedy}"))
        };
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, &e))?;
        let limits: Limits = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        match limits.unusable() {
            Some(name) => Err(wrong(format!("`{name}` is not a number above 0"))),
            None => Ok(limits),
        }
    }

    /// The first rate that bounds nothing.
    fn unusable(&self) -> Option<&'static str> {
        let rates = [
            ("bandwidth", Some(self.bandwidth)),
            ("fma", Some(self.fma)),
            ("fp32", Some(self.fp32)),
            ("tf32", self.tf32),
            ("bf16", self.bf16),
            ("int8", self.int8),
            ("exponentials", Some(self.exponentials)),
            ("launch_s", Some(self.launch.0)),
            ("power_limit_w", self.power.map(|power| power.0)),
        ];
        let usable = |rate: f64| rate.is_finite() && rate > 0.0;
        rates.into_iter().find(|(_, rate)| rate.is_some_and(|rate| !usable(rate))).map(|(name, _)| name)
    }

    /// FLOP/s of matrix products in `precision`; where there is no matrix unit for it, that of fp32.
    pub fn products(&self, precision: Precision) -> f64 {
        match precision {
            Precision::Fp32 => self.fp32,
            Precision::Tf32 => self.tf32.unwrap_or(self.fp32),
            Precision::Tf32x3 => self.tf32.map_or(self.fp32, |rate| (rate / 3.0).max(self.fp32)),
            Precision::Bf16 => self.bf16.unwrap_or(self.fp32),
        }
    }

    /// The least time of one launch of `kernel`, and what bounds it.
    pub fn least(&self, kernel: &str, cost: Cost, precision: Precision) -> (Seconds, Bound) {
        let flops = cost.flops.0 as f64;
        let rate = match kernel {
            "int8_product" => self.int8,
            _ if multiplies(kernel) => Some(self.products(precision)),
            _ => Some(self.fma),
        };
        let arithmetic = match rate {
            Some(rate) if rate > self.fma => (flops / rate, Bound::Tensor),
            Some(rate) => (flops / rate, Bound::Fma),
            None => (0.0, Bound::Fma),
        };
        let bounds = [
            arithmetic,
            (cost.exponentials as f64 / self.exponentials, Bound::Exponential),
            (cost.bytes.0 as f64 / self.bandwidth, Bound::Memory),
            (self.launch.0, Bound::Launch),
        ];
        let (time, bound) =
            bounds.into_iter().fold((0.0, Bound::Launch), |a, b| if b.0 > a.0 { b } else { a });
        (Seconds(time), bound)
    }

    /// The least time of launches one after the other.
    pub fn least_of<'a>(
        &self,
        launches: impl IntoIterator<Item = &'a Launch>,
        precision: Precision,
    ) -> Seconds {
        launches.into_iter().map(|launch| self.least(launch.kernel, launch.cost, precision).0).sum()
    }

    /// The energy of `time` at the power limit.
    pub fn energy(&self, time: Seconds) -> Option<Joules> {
        self.power.map(|power| Joules(power.0 * time.0))
    }
}

/// Whether matrix products are the kernel's arithmetic.
fn multiplies(kernel: &str) -> bool {
    kernel == "matmul" || kernel.contains("attention")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Flops;

    #[test]
    fn the_slowest_of_the_limits_bounds_a_launch() {
        let h200 = Limits::described("H200").unwrap();
        let cost =
            |bytes, flops, exponentials| Cost { bytes: Bytes(bytes), flops: Flops(flops), exponentials };
        let bound = |kernel, cost, precision| h200.least(kernel, cost, precision);
        let product = cost(1_000_000, 989_000_000_000, 0);
        let (time, by) = bound("matmul", product, Precision::Bf16);
        assert!((time.0 - 1e-3).abs() < 1e-9 && by == Bound::Tensor, "{time} {by:?}");
        assert_eq!(bound("matmul", product, Precision::Fp32).1, Bound::Fma);
        assert_eq!(bound("activation_fwd", product, Precision::Bf16).1, Bound::Fma);
        assert_eq!(bound("cast", cost(4_800_000_000, 1, 0), Precision::Bf16), (Seconds(1e-3), Bound::Memory));
        assert_eq!(bound("cross_entropy", cost(8, 8, 1 << 40), Precision::Bf16).1, Bound::Exponential);
        assert_eq!(bound("zero", cost(8, 0, 0), Precision::Bf16), (GRAPH_LAUNCH, Bound::Launch));
        assert_eq!(h200.energy(Seconds(2.0)), Some(Joules(1400.0)));
        let bytes = Limits { int8: Some(1978e12), ..h200.clone() };
        assert_eq!(bytes.least("int8_product", product, Precision::Fp32), (Seconds(5e-4), Bound::Tensor));
        // Where nobody measured it, the arithmetic is no bound.
        assert_eq!(bound("int8_product", product, Precision::Fp32).1, Bound::Launch);
    }

    #[test]
    fn an_unknown_gpu_is_refused_with_the_known_ones() {
        let error = Limits::described("b300").unwrap_err();
        assert!(error.to_string().contains("h200, h100, a100, a6000"), "{error}");
    }

    #[test]
    fn a_file_of_limits_is_read_and_one_of_nonsense_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("limits.json");
        let mut limits = Limits { origin: Origin::Measured, ..Limits::described("a100").unwrap() };
        std::fs::write(&path, serde_json::to_string(&limits).unwrap()).unwrap();
        assert_eq!(Limits::read(&path).unwrap(), limits);
        limits.exponentials = -1.0;
        std::fs::write(&path, serde_json::to_string(&limits).unwrap()).unwrap();
        let refused = Limits::read(&path).unwrap_err();
        assert!(refused.exit_code() == 65 && refused.to_string().contains("`exponentials`"), "{refused}");
        std::fs::write(&path, "{}").unwrap();
        assert!(Limits::read(&path).unwrap_err().to_string().contains("bench limits --save"));
        assert_eq!(Limits::read(&dir.path().join("none")).unwrap_err().exit_code(), 66);
    }

    #[test]
    fn a_gpu_is_known_by_its_name() {
        let name = |device: &str| Limits::described_in(device).map(|limits| limits.device);
        assert_eq!(name("cuda:0 (NVIDIA H200)").as_deref(), Some("h200"));
        assert_eq!(name("cuda:1 (NVIDIA RTX A6000)").as_deref(), Some("a6000"));
        assert_eq!(name("cuda:0 (NVIDIA RTX 6000 Ada Generation)"), None);
        assert_eq!(name("cpu"), None);
    }
}
