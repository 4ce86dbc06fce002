//! `plan`: what a step needs and costs, without running it.

use super::choices::{self, Recomputation, Truncation};
use super::global::Global;
use super::values::bytes;
use crate::collective::scale::Interconnect;
use crate::collective::{Backend, CommunicationType};
use crate::error::Error;
use crate::hub::Name;
use crate::limits::Limits;
use crate::settings::named;
use crate::train::synthetic::Mode;
use crate::train::{RankLayout, Shard};
use crate::units::Bytes;
use clap::value_parser;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod estimate;
mod fit;
mod scale;

use estimate::{Estimate, Shapes};
use scale::Scale;

/// Predict memory, launches, FLOPs and traffic of a step without running it; find the largest batch
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["model", "config"]))]
pub struct Args {
    #[arg(long, value_name = "DIR_OR_NAME", help = choices::models() + "; only its config.json is read")]
    model: Option<Name>,

    /// Configuration of a model
    #[arg(long, value_name = "CONFIG.json")]
    config: Option<PathBuf>,

    /// How much of a training step
    #[arg(long, value_name = "MODE", default_value = "train", value_parser = named::<Mode>())]
    mode: Mode,

    /// Examples in the batch; with --fit it is what is looked for
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "fit")]
    batch_size: NonZeroUsize,

    #[command(flatten)]
    truncation: Truncation,

    #[command(flatten)]
    recomputation: Recomputation,

    /// Find the largest batch that this much memory holds, such as 48GiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    fit: Option<Bytes>,

    /// Predict the least time, and the energy in it, on this GPU: h200, h100, a100 or a6000
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,

    /// Predict the step on 1, 2, 4 ... N of these GPUs, each with its own batch
    #[arg(long, value_name = "N", requires = "gpu", value_parser = value_parser!(u32).range(1..=65_536))]
    world_size: Option<u32>,

    /// What joins nodes of 8 GPUs: nvlink, ib (InfiniBand NDR) or ethernet
    #[arg(long, value_name = "NAME", requires = "world_size", default_value = "ib", value_parser = named::<Interconnect>())]
    interconnect: Interconnect,

    /// Type in which the GPUs exchange gradients: fp32 or bf16
    #[arg(long, value_name = "NAME", requires = "world_size", default_value = "fp32", value_parser = named::<CommunicationType>())]
    communication_data_type: CommunicationType,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    config: PathBuf,
    #[serde(flatten)]
    estimate: Estimate,
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<fit::Fit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let gpu = args.gpu.as_deref().map(Limits::described).transpose()?;
    let config = match (args.config, args.model) {
        (Some(config), _) => config,
        (None, Some(model)) => model.open()?.join("config.json"),
        (None, None) => return Err(Error::usage("give --model or --config").into()),
    };
    let options = args.recomputation.options();
    let shapes = Shapes::new(&config, global.precision, options, args.mode, &args.truncation)?;
    let (size, communication) = (args.world_size.unwrap_or(1) as usize, args.communication_data_type);
    let layout = match size {
        1 => RankLayout::ALONE,
        size => RankLayout::of(Shard::ALL, communication, Backend::Nccl, size),
    };
    let shapes = shapes.on(gpu).among(layout);
    let (estimate, fit) = match args.fit {
        None => (shapes.estimate(args.batch_size.get())?, None),
        Some(budget) => {
            let (estimate, fit) = fit::largest(&shapes, budget)?;
            (estimate, Some(fit))
        }
    };
    let of = |_| Scale::of(&estimate, args.interconnect, communication, size);
    let scale = args.world_size.map(of).transpose()?;
    let report = Report { config, estimate, fit, scale };
    let mut text = report.estimate.text();
    if let Some(fit) = &report.fit {
        text = format!("{}\n{text}", fit.text());
    }
    if let Some(scale) = &report.scale {
        text += &format!("\n\n{}", scale.text());
    }
    global.print(&report, text)
}
