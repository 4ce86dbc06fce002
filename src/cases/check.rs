//! A case on an executor, against the CPU in f32: values, gradients, and the same bits twice.

use super::Case;
use super::trial::Trial;
use crate::device::{Device, Precision};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::units::Seconds;
use serde::Serialize;
use std::time::Instant;

/// What a case gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Outputs, then the gradients of the inputs.
    results: Vec<Vec<f32>>,
}

/// How a case compares with the CPU.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub op: &'static str,
    pub case: String,
    /// Largest difference from the CPU in f32, relative to the largest value of each result.
    pub error: f64,
    /// What the precision allows.
    pub bound: f64,
    /// Whether a second run gave the same bits.
    pub repeats: bool,
    /// Of the second run, forward and backward with its copies.
    #[serde(rename = "time_s")]
    pub time: Seconds,
}

impl Comparison {
    /// NaN passes nothing.
    pub fn passes(&self) -> bool {
        self.error <= self.bound && self.repeats
    }
}

/// Relative error of a sum of `terms` products of f32 (Higham 2002, section 3.1), and the functions around it.
fn rounding(terms: usize) -> f64 {
    (terms + 16) as f64 * f64::from(f32::EPSILON)
}

/// One unit in the last place of a format with this many bits of fraction.
const BF16_UNIT: f64 = 1.0 / 256.0;
const TF32_UNIT: f64 = 1.0 / 1024.0;

/// Runs `case` on `device` and on the CPU.
pub fn compare(case: &Case, device: &Device) -> Result<Comparison> {
    let want = run(case, &Device::cpu(), device.precision())?;
    let first = run(case, device, device.precision())?;
    device.synchronize()?;
    let start = Instant::now();
    let second = run(case, device, device.precision())?;
    let time = start.elapsed().into();
    let bound = match device.precision() {
        // Both sides round.
        Precision::Fp32 | Precision::Tf32x3 => 2.0 * rounding(case.terms),
        Precision::Tf32 => 4.0 * TF32_UNIT,
        Precision::Bf16 => {
            let plain = run(case, &Device::open("cpu", Precision::Bf16)?, Precision::Bf16)?;
            2.0 * difference(&plain, &want, case.cancelling)? + BF16_UNIT
        }
    };
    Ok(Comparison {
        op: case.op,
        case: case.name.clone(),
        error: difference(&first, &want, case.cancelling)?,
        bound,
        repeats: first == second,
        time,
    })
}

/// The largest relative difference between two outcomes, NaN where either has one.
fn difference(got: &Outcome, want: &Outcome, cancelling: f64) -> Result<f64> {
    let mut worst = 0.0;
    if got.results.len() != want.results.len() {
        return Err(Error::internal("two executors gave different numbers of results"));
    }
    for (got, want) in got.results.iter().zip(&want.results) {
        let size = want.iter().fold(cancelling, |size, w| size.max(f64::from(w.abs())));
        for (got, want) in got.iter().zip(want) {
            // Infinities are equal or wrong.
            let off = if got == want { 0.0 } else { (f64::from(*got) - f64::from(*want)).abs() };
            let relative = if off == 0.0 { 0.0 } else { off / size };
            if relative.is_nan() {
                return Ok(f64::NAN);
            }
            worst = relative.max(worst);
        }
    }
    Ok(worst)
}

/// Values and gradients on `device`, from inputs that are rounded as `format` stores them.
fn run(case: &Case, device: &Device, format: Precision) -> Result<Outcome> {
    let trial = Trial::new(case, device, format)?;
    let (tape, outputs) = trial.forward()?;
    let mut results = Vec::new();
    for output in &outputs {
        results.push(match output.dtype() {
            DType::I32 => output.read::<i32>()?.iter().map(|&i| i as f32).collect(),
            _ => output.read_floats()?,
        });
    }
    let upstream = trial.upstream(&outputs)?;
    let mut gradients = trial.gradients()?;
    if trial.backward(tape, outputs, upstream, &mut gradients)? {
        for leaf in &trial.leaves {
            let gradient = gradients.of(leaf).ok_or_else(|| Error::internal("an input has no gradient"))?;
            results.push(gradient.read_floats()?);
        }
    }
    Ok(Outcome { results })
}
