//! `profile`: where the time, the work and the joules of a step, a generation or an evaluation go.

mod compare;
mod energy;
mod evaluate;
mod measuring;
mod predicted;
mod synthetic;
mod text;

use super::global::Global;
use super::workload::{GenerateArgs, StepArgs};
use crate::error::Error;
use crate::profile::report::By;
use crate::settings::named;
use clap::Subcommand;
use std::path::PathBuf;

/// What the columns are.
const LEGEND: &str = "\
Columns: time, the median over the traced runs of all calls together; spread, half the distance
from the 20th to the 80th percentile over the median; share, of all phases' time; FLOP/s and B/s,
what the launches compute and move over that time; of limit, the least time that the device's
limits allow over the time, and which limit that is; energy, the mean power in a phase times its time.
The phase host is the time in which no launch runs: between the launches of a step, and between steps.";

/// Measure where time, work and joules go, by phase and by kernel; compare two such profiles
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = LEGEND)]
pub struct Args {
    /// Compare two profiles that --save or --json wrote; differences beyond the spread of their runs are
    /// marked
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    compare: Option<Vec<PathBuf>>,

    /// How rows are put together
    #[arg(long, value_name = "WHAT", default_value = "phase", requires = "compare", value_parser = named::<By>())]
    by: By,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A training step, or a part of it, over a synthetic batch
    #[command(after_help = LEGEND)]
    Step(Box<synthetic::Args<StepArgs>>),
    /// Greedy decoding or beam search over a synthetic batch
    #[command(after_help = LEGEND)]
    Generate(Box<synthetic::Args<GenerateArgs>>),
    /// Scoring a model on examples of a dataset
    #[command(after_help = LEGEND)]
    Evaluate(Box<evaluate::EvaluateArgs>),
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match (args.what, args.compare.as_deref()) {
        (Some(What::Step(args)), _) => synthetic::run(*args, global),
        (Some(What::Generate(args)), _) => synthetic::run(*args, global),
        (Some(What::Evaluate(args)), _) => evaluate::run(*args, global),
        (None, Some([a, b])) => compare::run([a, b], args.by, global),
        (None, _) => Err(Error::usage(
            "say what to profile: `profile step`, `profile generate` or `profile evaluate`; or give --compare \
             A.json B.json",
        )
        .into()),
    }
}
