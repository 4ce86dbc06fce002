//! The rates that nothing on a device exceeds, measured on it: each the best of several runs.

use super::repeat::{Schedule, repeat};
use crate::cases::upload;
use crate::device::cpu::{gemm, peak, vector};
use crate::device::{Device, Layout, Precision};
use crate::disturbance::{Conditions, Watch};
use crate::energy::{self, Sampler, Window};
use crate::error::{Error, Result};
use crate::limits::{Limits, Origin};
use crate::noise::random;
use crate::shape::DType;
use crate::stats::{Quantiles, quantiles};
use crate::tensor::Tensor;
use crate::tensor::cast::cast;
use crate::tensor::matmul::{Form, Product, matmul};
use crate::units::Seconds;
use rayon::prelude::*;
use serde::Serialize;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Launches between two looks at the clock.
const LAUNCHES: usize = 1000;
/// Rounds of multiply-adds, and exponentials, that a thread does between two looks at the clock.
const ROUNDS: usize = 1 << 21;
const EXPONENTIALS: usize = 1 << 23;
/// Floats whose exponentials are taken again and again: the first level of cache holds them.
const NEAR: usize = 1 << 11;

/// One rate, and how it came to be.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    pub name: String,
    /// Units a second; of `launch`, seconds.
    pub value: f64,
    pub unit: &'static str,
    pub how: String,
    /// Times of the runs; none for a rate that was not measured.
    #[serde(flatten)]
    pub quantiles: Option<Quantiles>,
    pub runs: usize,
}

/// The limits and where each comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    #[serde(flatten)]
    pub limits: Limits,
    pub rates: Vec<Rate>,
    /// While all rates were measured.
    pub conditions: Conditions,
}

/// Measures what `open` opens, which goes by the name `device`, for `time` a rate.
pub fn limits(open: impl Fn(Precision) -> Result<Device>, device: &str, time: Duration) -> Result<Found> {
    let fp32 = open(Precision::Fp32)?;
    if fp32.name() == "sim" {
        return Err(Error::usage("the simulator's time is not a GPU's: measure the limits of cpu or cuda"));
    }
    let sampler = Sampler::start(energy::open(&fp32))?;
    let measure = Measure { on_cpu: fp32.name() == "cpu", time, sampler: &sampler };
    let (window, watch) = (Window::start(&sampler), Watch::start());
    let mut rates = vec![measure.copy(&fp32)?];
    if measure.on_cpu {
        rates.push(measure.read()?);
    }
    let bandwidth = rates.iter().map(|rate| rate.value).fold(0.0, f64::max);
    let mut products = |precision| -> Result<f64> {
        let rate = measure.products(&open(precision)?)?;
        rates.push(rate.clone());
        Ok(rate.value)
    };
    let mut matrix = products(Precision::Fp32)?;
    // The processor has no tf32.
    let tf32 = (!measure.on_cpu).then(|| products(Precision::Tf32)).transpose()?;
    let mut bf16 = products(Precision::Bf16)?;
    let described = Limits::described_in(device);
    let (fma, exponentials) = match measure.on_cpu {
        true => (measure.multiply_adds()?, measure.exponentials()?),
        false => on_gpu(matrix, described.as_ref()),
    };
    let launch = measure.launch(&fp32)?;
    let conditions = window.stop().judge(watch.stop());
    if measure.on_cpu {
        // Products have no unit of their own, so that whichever loop came closer tells of both.
        matrix = matrix.max(fma.value);
        let registers = measure.bf16_products()?;
        bf16 = bf16.max(registers.as_ref().map_or(matrix, |rate| rate.value));
        rates.extend(registers);
    }
    let of_bytes = if measure.on_cpu { measure.byte_products()? } else { None };
    let limits = Limits {
        device: device.into(),
        origin: Origin::Measured,
        memory: described.as_ref().and_then(|described| described.memory),
        bandwidth,
        fma: fma.value.max(matrix),
        fp32: matrix,
        tf32,
        bf16: Some(bf16),
        int8: of_bytes.as_ref().map(|rate| rate.value),
        exponentials: exponentials.value,
        launch: Seconds(launch.value),
        power: described.and_then(|described| described.power),
    };
    rates.extend(of_bytes);
    rates.extend([fma, exponentials, launch]);
    Ok(Found { limits, rates, conditions })
}

/// What no kernel here measures on a GPU: the FMA rate is that of fp32 products, which use the same units,
/// and the exponentials are the data sheet's, or follow from 16 a clock beside 128 multiply-adds of a multiprocessor.
fn on_gpu(fp32: f64, described: Option<&Limits>) -> (Rate, Rate) {
    let stated = |name: &str, value, unit, how: String| Rate {
        name: name.into(),
        value,
        unit,
        how,
        quantiles: None,
        runs: 0,
    };
    let fma = stated("FMA", fp32, "FLOP/s", "that of fp32 products: the same units".into());
    let exponentials = match described {
        Some(gpu) => (gpu.exponentials, format!("not measured: the data sheet of {}", gpu.device)),
        None => (
            fp32 / 16.0,
            "not measured: 16 for every 128 multiply-adds (compute capability 8.6 and above)".into(),
        ),
    };
    (fma, stated("exponentials", exponentials.0, "1/s", exponentials.1))
}

/// On which kind of device, for how long, and beside which sensors.
struct Measure<'a> {
    on_cpu: bool,
    time: Duration,
    sampler: &'a Sampler,
}

impl Measure<'_> {
    fn schedule(&self) -> Schedule {
        Schedule { warm_up: self.time / 4, time: self.time }
    }

    /// `work` units in the best of `seconds`.
    fn rate(name: &str, unit: &'static str, work: f64, how: String, seconds: &[f64]) -> Result<Rate> {
        let quantiles = quantiles(seconds).ok_or_else(|| Error::internal("no run was measured"))?;
        let value = work / quantiles.min_s;
        Ok(Rate { name: name.into(), value, unit, how, quantiles: Some(quantiles), runs: seconds.len() })
    }

    /// Times `run`, which does as much work every time, on the host's clock.
    fn timed(&self, run: impl Fn() -> Result<()>) -> Result<Vec<f64>> {
        let Schedule { warm_up, time } = self.schedule();
        let mut seconds = Vec::new();
        let start = Instant::now();
        loop {
            let before = Instant::now();
            run()?;
            let elapsed = start.elapsed();
            if elapsed >= warm_up {
                seconds.push(before.elapsed().as_secs_f64());
            }
            if elapsed >= warm_up + time && seconds.len() >= 3 {
                return Ok(seconds);
            }
        }
    }

    fn copy(&self, device: &Device) -> Result<Rate> {
        let floats: usize = if self.on_cpu { 32 << 20 } else { 256 << 20 };
        let of = || Tensor::persistent(device, [floats], DType::F32);
        let (x, y) = (of()?, of()?);
        x.write(&vec![1.0f32; floats])?;
        let layout = Rc::new(Layout::default());
        let seconds = repeat(device, &layout, self.schedule(), self.sampler, || cast(&y, &x))?.forward;
        let bytes = 2 * floats * size_of::<f32>();
        Self::rate("copy", "B/s", bytes as f64, "read and written, far beyond the caches".into(), &seconds)
    }

    fn read(&self) -> Result<Rate> {
        let memory = vec![1.0f32; 64 << 20];
        let seconds = self.timed(|| {
            let sum: f32 = memory.par_chunks(1 << 16).map(vector::sum).sum();
            // The sum is looked at, or nothing would be read.
            black_box(sum);
            Ok(())
        })?;
        let bytes = memory.len() * size_of::<f32>();
        Self::rate("read", "B/s", bytes as f64, "read alone, far beyond the caches".into(), &seconds)
    }

    fn products(&self, device: &Device) -> Result<Rate> {
        let n: usize = if self.on_cpu { 1536 } else { 8192 };
        let filled = |seed| upload(device, [n, n], &random(seed, n * n));
        let (a, b) = (filled(1)?, filled(2)?);
        let c = Tensor::persistent(device, [n, n], device.precision().storage())?;
        let seconds = repeat(device, &Rc::new(Layout::default()), self.schedule(), self.sampler, || {
            matmul(&c, Product { a: &a, b: &b, form: Form::RightTransposed, m: n, n, k: n }, false)
        })?;
        let name = format!("products {}", device.precision());
        let flops = 2.0 * (n as f64).powi(3);
        let by = match self.on_cpu {
            true => format!(", by {}", gemm::way(device.precision().storage())),
            false => String::new(),
        };
        let how = format!("a product of {n} by {n} matrices{by}");
        Self::rate(&name, "FLOP/s", flops, how, &seconds.forward)
    }

    fn multiply_adds(&self) -> Result<Rate> {
        let (count, _) = peak::multiply_adds(ROUNDS);
        self.registers("FMA", "multiply-adds", count, || {
            black_box(peak::multiply_adds(ROUNDS));
        })
    }

    /// None where no instruction that is used multiplies bf16.
    fn bf16_products(&self) -> Result<Option<Rate>> {
        let run = || {
            black_box(peak::bf16_products(ROUNDS));
        };
        let found = peak::bf16_products(ROUNDS);
        found.map(|(name, count, _)| self.registers(name, "products", count, run)).transpose()
    }

    /// None where no instruction that is used multiplies bytes.
    fn byte_products(&self) -> Result<Option<Rate>> {
        let run = || {
            black_box(peak::byte_products(ROUNDS));
        };
        let found = peak::byte_products(ROUNDS);
        found.map(|(count, _)| self.registers("products of bytes", "products", count, run)).transpose()
    }

    /// The rate of `run` on every thread, which is `count` multiply-adds on registers alone.
    fn registers(&self, name: &str, what: &str, count: u64, run: impl Fn() + Sync) -> Result<Rate> {
        let seconds = self.timed(|| {
            on_every_thread(&run);
            Ok(())
        })?;
        let flops = 2.0 * count as f64 * rayon::current_num_threads() as f64;
        Self::rate(name, "FLOP/s", flops, format!("{what} of registers, on every thread"), &seconds)
    }

    fn exponentials(&self) -> Result<Rate> {
        let x: Vec<f32> = random(3, NEAR).iter().map(|x| 4.0 * (x - 1.0)).collect();
        let seconds = self.timed(|| {
            on_every_thread(|| {
                for _ in 0..EXPONENTIALS / NEAR {
                    black_box(vector::sum_exponentials(black_box(&x), 0.0));
                }
            });
            Ok(())
        })?;
        let count = (EXPONENTIALS * rayon::current_num_threads()) as f64;
        Self::rate(
            "exponentials",
            "1/s",
            count,
            "of values in the first cache, on every thread".into(),
            &seconds,
        )
    }

    /// Launches of one element in a step: on a GPU one graph, as training runs them.
    fn launch(&self, device: &Device) -> Result<Rate> {
        let of = || Tensor::persistent(device, [1], DType::F32);
        let (x, y) = (of()?, of()?);
        let layout = Rc::new(Layout::default());
        let step = || -> Result<()> {
            device.begin_step(&layout)?;
            for _ in 0..LAUNCHES {
                cast(&y, &x)?;
            }
            device.end_step()?;
            device.synchronize()
        };
        // The first runs launch by launch, the second is recorded.
        step()?;
        step()?;
        let seconds = self.timed(step)?;
        let quantiles = quantiles(&seconds).ok_or_else(|| Error::internal("no run was measured"))?;
        let value = quantiles.min_s / LAUNCHES as f64;
        let how = format!("from one to the next of {LAUNCHES}");
        Ok(Rate {
            name: "launch".into(),
            value,
            unit: "s",
            how,
            quantiles: Some(quantiles),
            runs: seconds.len(),
        })
    }
}

/// Runs `work` once on each thread at the same time.
fn on_every_thread(work: impl Fn() + Sync) {
    rayon::broadcast(|_| work());
}
