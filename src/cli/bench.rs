//! `bench`: throughput with its spread.

mod attention;
mod gemm;
mod kernels;
mod limits;
pub(super) mod options;
mod report;
mod row;
mod scan;

use super::global::Global;
use super::workload::{GenerateArgs, StepArgs};
use crate::device::Device;
use clap::Subcommand;

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
    Step(Box<scan::Args<StepArgs>>),
    /// Greedy decoding or beam search, and what of a step's time memory explains
    Generate(Box<scan::Args<GenerateArgs>>),
    /// Every kernel on the small inputs that the tests use: how its time spreads, and what a launch costs
    Kernels(kernels::Args),
    /// What the device does at most: memory, products, exponentials, launches
    Limits(limits::Args),
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match args.what {
        What::Attention(args) => attention::run(*args, global),
        What::Gemm(args) => gemm::run(args, global),
        What::Step(args) => scan::run(*args, global),
        What::Generate(args) => scan::run(*args, global),
        What::Kernels(args) => kernels::run(args, global),
        What::Limits(args) => limits::run(args, global),
    }
}

/// What opens the same device again.
fn base_name(device: &Device) -> String {
    let name = device.name();
    name.split(' ').next().unwrap_or(&name).to_string()
}
