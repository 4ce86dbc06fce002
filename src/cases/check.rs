//! A case on an executor, against the CPU in f32: values, gradients, and the same bits twice, the second time as a
//! graph where the executor has graphs.

use super::Case;
use super::trial::Trial;
use crate::device::plan::Plan;
use crate::device::{Device, Layout, Precision};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tape::Gradients;
use crate::tensor::Tensor;
use crate::units::Seconds;
use serde::Serialize;
use std::rc::Rc;
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
    /// Time of the second run, forward and backward with its copies.
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
    let precision = device.precision();
    let want = run(case, &Device::cpu(), precision)?;
    let layout = layout(case, precision)?;
    let trial = Trial::new(case, device, precision)?;
    let first = step(&trial, &layout)?;
    device.synchronize()?;
    let start = Instant::now();
    // A step that is run again is recorded, and run as a graph.
    let second = step(&trial, &layout)?;
    let time = start.elapsed().into();
    let bound = match precision {
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
    let (outputs, gradients) = passes(&trial)?;
    read(&trial, &outputs, &gradients)
}

/// The same as a step of the trial's device, whose arena `layout` describes.
fn step(trial: &Trial, layout: &Rc<Layout>) -> Result<Outcome> {
    let device = trial.device();
    device.begin_step(layout)?;
    let (outputs, gradients) = match passes(trial) {
        Ok(tensors) => {
            device.end_step()?;
            tensors
        }
        Err(error) => {
            device.abandon_step();
            return Err(error);
        }
    };
    read(trial, &outputs, &gradients)
}

/// Where a step of the case has its blocks.
fn layout(case: &Case, precision: Precision) -> Result<Rc<Layout>> {
    let plan = Plan::new(precision);
    let trial = Trial::new(case, &Device::new(plan.clone()), precision)?;
    plan.record();
    let tensors = passes(&trial)?;
    let layout = plan.finish()?.layout;
    drop(tensors);
    Ok(layout)
}

/// The forward and the backward pass: the outputs, and the gradients of the leaves where there are any.
fn passes(trial: &Trial) -> Result<(Vec<Tensor>, Option<Gradients>)> {
    let (tape, outputs) = trial.forward()?;
    let kept = outputs.clone();
    let upstream = trial.upstream(&outputs)?;
    let mut gradients = trial.gradients()?;
    let any = trial.backward(tape, outputs, upstream, &mut gradients)?;
    Ok((kept, any.then_some(gradients)))
}

fn read(trial: &Trial, outputs: &[Tensor], gradients: &Option<Gradients>) -> Result<Outcome> {
    let mut results = Vec::new();
    for output in outputs {
        results.push(match output.dtype() {
            DType::I32 => output.read::<i32>()?.iter().map(|&i| i as f32).collect(),
            _ => output.read_floats()?,
        });
    }
    for leaf in trial.leaves.iter().filter(|_| gradients.is_some()) {
        let gradient = gradients.as_ref().and_then(|gradients| gradients.of(leaf));
        let gradient = gradient.ok_or_else(|| Error::internal("an input has no gradient"))?;
        results.push(gradient.read_floats()?);
    }
    Ok(Outcome { results })
}
