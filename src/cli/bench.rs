//! `bench`: throughput with its spread.

mod attention;
mod gemm;
mod generate;
mod kernels;
mod limits;
pub(super) mod options;
mod scan;
mod step;
mod table;

use super::choices;
use super::global::Global;
use clap::Subcommand;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use wattention::bench::resident::Resident;
use wattention::bench::step::Kernels;
use wattention::device::Device;
use wattention::energy::{Measurement, joules};
use wattention::error::{Error, Result};
use wattention::hub;
use wattention::models::{self, Loaded, Options};
use wattention::units::{Bytes, Joules, Seconds};

/// Measure throughput on synthetic data, with its spread
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// One attention op over lists of sizes: window, block-sparse, dense, global rows, decoding
    Attention(Box<attention::Args>),
    /// Matrix products alone
    Gemm(gemm::Args),
    /// A training step, or a part of it
    Step(step::StepArgs),
    /// Greedy decoding or beam search, and what of a step's time memory explains
    Generate(generate::GenerateArgs),
    /// Every kernel on the small inputs that the tests use: how its time spreads, and what a launch costs
    Kernels(kernels::Args),
    /// What the device does at most: memory, products, exponentials, launches
    Limits(limits::Args),
}

/// What is measured.
#[derive(clap::Args, Debug, Clone, PartialEq)]
pub(super) struct Subject {
    /// Model directory in HF layout, or the name of a repository in the Hugging Face cache: ORG/NAME[@REVISION]
    #[arg(long, value_name = "DIR_OR_NAME", required_unless_present = "config")]
    model: Option<PathBuf>,

    /// A config.json alone: weights are drawn at random
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
struct KernelRow {
    phase: &'static str,
    pass: wattention::trace::Pass,
    kernel: &'static str,
    calls: u64,
    seconds: f64,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match args.what {
        What::Attention(args) => attention::run(*args, global),
        What::Gemm(args) => gemm::run(args, global),
        What::Step(args) => step::run(args, global),
        What::Generate(args) => generate::run(args, global),
        What::Kernels(args) => kernels::run(args, global),
        What::Limits(args) => limits::run(args, global),
    }
}

impl Subject {
    /// The model of that name, or one of random weights for the configuration, and where it came from.
    pub(super) fn open(
        &self,
        device: &Device,
        options: Options,
        global: &Global,
    ) -> anyhow::Result<(PathBuf, Loaded)> {
        Ok(match (&self.model, &self.config) {
            (Some(name), _) => {
                (name.clone(), models::load(&choices::model_dir(name, global)?, device, options)?)
            }
            (None, Some(config)) => (config.clone(), models::random(config, device, options, global.seed)?),
            (None, None) => anyhow::bail!("give --model DIR or --config FILE"),
        })
    }

    /// What was named.
    fn name(&self) -> Result<&Path> {
        let named = self.model.as_deref().or(self.config.as_deref());
        named.ok_or_else(|| Error::usage("give --model DIR or --config FILE"))
    }

    /// What was named, and the configuration of that model.
    pub(super) fn config(&self) -> Result<(PathBuf, PathBuf)> {
        let name = self.name()?.to_path_buf();
        let file = match &self.config {
            Some(file) => file.clone(),
            None => hub::directory(&name)?.join("config.json"),
        };
        Ok((name, file))
    }
}

/// Kernels, the costliest first.
fn rows(kernels: Kernels) -> Vec<KernelRow> {
    let mut rows: Vec<KernelRow> = kernels
        .into_iter()
        .map(|((phase, kernel), timing)| KernelRow {
            phase: phase.label,
            pass: phase.pass,
            kernel,
            calls: timing.calls,
            seconds: timing.time.as_secs_f64(),
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

/// What opens the same device again.
fn base_name(device: &Device) -> String {
    let name = device.name();
    name.split(' ').next().unwrap_or(&name).to_string()
}

/// Joules of a sample and of a token, or why they are not known.
fn energy_line([sample, token]: [Option<f64>; 2], energy: &Measurement) -> String {
    match (sample, token, energy.power()) {
        (Some(sample), Some(token), Some(power)) => format!(
            "{} a sample, {} a token, {:.1} W on average, of {}",
            joules(Joules(sample)),
            joules(Joules(token)),
            power.0,
            energy.note
        ),
        _ => format!("n/a: {}", energy.note),
    }
}

/// Resident memory at most beside what the tensors take, or why it is not known.
fn memory_line(resident: &Resident, persistent: usize, arena: usize) -> String {
    let at_most = match (resident.peak_bytes, &resident.peak_bytes_missing) {
        (Some(bytes), _) => format!("{} resident at most", Bytes(bytes)),
        (None, why) => format!("resident n/a: {}", why.as_deref().unwrap_or_default()),
    };
    format!("{} weights and state, {} arena, {at_most}", Bytes(persistent as u64), Bytes(arena as u64))
}

/// Utilisation by the model's FLOPs, or why it is not known.
fn mfu_line(mfu: Option<f64>, known: &options::Known) -> String {
    match mfu {
        Some(mfu) => format!("{:.1} % of the rate of products of {}", 100.0 * mfu, known.says),
        None => known.says.clone(),
    }
}

/// A share of a limit in percent.
fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "n/a".into(), |share| format!("{:.0} %", 100.0 * share))
}

impl fmt::Display for KernelRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pass = format!("{:?}", self.pass).to_lowercase();
        let time = Seconds(self.seconds).to_string();
        write!(f, "{:<20} {pass:<9} {:<28} {:>5} {time:>10}", self.phase, self.kernel, self.calls)
    }
}
