//! `data`: bring datasets into SCROLLS form, make some, and say what they hold.

use super::global::Global;
use crate::data::folder::Existing;
use crate::data::qmsum;
use clap::Subcommand;
use serde::Serialize;
use std::path::PathBuf;

mod needles;
mod stats;
mod synth;

/// Import, generate and describe datasets
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Convert a published dataset to SCROLLS form: a folder of SPLIT.jsonl
    Import {
        #[command(subcommand)]
        from: Release,
    },
    Synth(synth::Args),
    Stats(stats::Args),
}

#[derive(Subcommand, Debug)]
enum Release {
    /// QMSum (Zhong et al. 2021): meetings, queries and summaries
    Qmsum(Qmsum),
}

#[derive(clap::Args, Debug)]
struct Qmsum {
    /// Folder of the release: train, val and test with one JSON file per meeting, or a checkout with data/ALL
    #[arg(long, value_name = "DIR")]
    from: PathBuf,

    /// Folder that receives train.jsonl, validation.jsonl and test.jsonl
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Replace files that exist already
    #[arg(long)]
    overwrite: bool,
}

/// What `data import --json` and `data synth --json` print: examples by split.
#[derive(Serialize)]
struct Report {
    train: usize,
    validation: usize,
    test: usize,
    to: String,
}

impl Report {
    fn print(&self, global: &Global) -> anyhow::Result<()> {
        let Report { train, validation, test, to } = self;
        let text = format!("{train} train, {validation} validation and {test} test examples: {to}");
        global.print(self, text)
    }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match args.command {
        Command::Import { from: Release::Qmsum(args) } => import_qmsum(args, global),
        Command::Synth(args) => synth::run(args, global),
        Command::Stats(args) => stats::run(args, global),
    }
}

fn import_qmsum(args: Qmsum, global: &Global) -> anyhow::Result<()> {
    let existing = match args.overwrite {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    let qmsum::Imported { train, validation, test } = qmsum::import(&args.from, &args.to, existing)?;
    let to = args.to.display().to_string();
    Report { train, validation, test, to }.print(global)
}
