//! `--plan-only`: the profile that a GPU which is not here allows at best.

use super::super::global::Global;
use super::super::output;
use super::measuring::{self, Measuring, described};
use crate::device::plan::Recording;
use crate::error::Result;
use crate::limits::Limits;
use crate::nn::Weights;
use crate::profile::predict::predict;
use crate::tensor::int8;
use serde_json::Value;

#[derive(clap::Args, Debug)]
pub struct Prediction {
    /// Run nothing: predict the least times from the plan and the limits of --gpu
    #[arg(long, requires = "gpu", conflicts_with_all = ["trace", "energy", "limits"])]
    plan_only: bool,

    /// The GPU to predict for: h200, h100, a100 or a6000
    #[arg(long, value_name = "NAME", requires = "plan_only")]
    gpu: Option<String>,
}

impl Prediction {
    /// Whether nothing is run.
    pub fn is_asked(&self) -> bool {
        self.plan_only
    }

    /// The limits to predict by, where a prediction is asked for and can be kept where `measuring` says; fails for
    /// weights that no GPU multiplies with.
    pub fn limits(&self, measuring: &Measuring, weights: Weights) -> Result<Option<Limits>> {
        let Some(gpu) = self.gpu.as_deref().filter(|_| self.plan_only) else { return Ok(None) };
        if weights == Weights::Int8 {
            return Err(int8::refusal(gpu));
        }
        measuring.saves().map_or(Ok(()), |path| output::check_file(path))?;
        Limits::described(gpu).map(Some)
    }
}

/// Prints what the launches of `steps` take at least; `own` says what they are.
pub fn print(
    steps: &[Recording],
    limits: Limits,
    own: Value,
    measuring: &Measuring,
    global: &Global,
) -> anyhow::Result<()> {
    let described = described(own, &limits.device, global.precision);
    let profile = predict(steps, limits, global.precision, described);
    measuring::print(&profile, measuring.by(), measuring.saves(), global)
}
