//! `study`: the main job, models × datasets × input lengths to a table and a report.

use super::global::Global;
use super::machine;
use super::values::above_zero;
use super::values::bytes;
use crate::energy::HELP;
use crate::error::Result;
use crate::files;
use crate::limits::Limits;
use crate::study::forecast;
use crate::study::grid::{CellPlan, Grid, Memory};
use crate::study::presets;
use crate::study::published::Places;
use crate::study::report;
use crate::study::results::{Results, emissions};
use crate::table::width;
use crate::units::Bytes;
use std::path::{Path, PathBuf};

mod budget;
mod compare;
mod open;
mod recommend;
mod run;
mod watch;

/// Fine-tune, evaluate and measure models × datasets × input lengths; write a table and a report
///
/// A study that is stopped, in any way, resumes when the same command is given again: finished
/// cells are kept, and a cell that was training resumes from its last checkpoint. A cell that fails does not stop
/// the others, and is tried again the next time.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub struct Args {
    #[command(subcommand)]
    then: Option<Then>,

    #[command(flatten)]
    study: StudyArgs,
}

/// What is done with results that are there.
#[derive(clap::Subcommand, Debug)]
enum Then {
    Compare(compare::Args),
    Recommend(recommend::Args),
    Report(ReportArgs),
}

#[derive(clap::Args, Debug)]
struct StudyArgs {
    /// A study that comes with the program: quick (minutes on two cores), paper (Ang et al. 2022), scrolls (LED-base)
    #[arg(long, value_name = "NAME", default_value = "quick", conflicts_with = "config")]
    preset: String,

    /// A study of your own, in TOML; what it leaves out is as in the quick preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the report, the results and the cells' run directories go; finished cells there are kept
    #[arg(long, value_name = "DIR", default_value = "runs/study")]
    output_dir: PathBuf,

    /// Open the report in the browser at the end
    #[arg(long, conflicts_with = "dry_run")]
    open: bool,

    /// Run every cell again, finished or not
    #[arg(long)]
    overwrite_output_dir: bool,

    /// Run those finished cells again that were measured on a disturbed machine
    #[arg(long, conflicts_with_all = ["overwrite_output_dir", "dry_run"])]
    redo_disturbed: bool,

    /// A folder to look for models in first: DIR/NAME with config.json, tokenizer and weights
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,

    /// A folder to look for datasets in first: DIR/NAME.zip or DIR/NAME/SPLIT.jsonl
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Stop after so many hours, between steps, and say what is left
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    max_hours: Option<f64>,

    /// Stop after so many measured kilowatt-hours, between steps, and say what is left
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    max_kwh: Option<f64>,

    /// Print every cell's batch, memory and least time and energy, and run nothing; no weights are needed
    #[arg(long)]
    dry_run: bool,

    /// The GPU that --dry-run foresees times for: h200, h100, a100 or a6000 [default: the study's, if it names one]
    #[arg(long, value_name = "NAME", requires = "dry_run")]
    gpu: Option<String>,

    /// Write emissions.csv too, as CodeCarbon does, at so many grams of CO2 equivalents a kilowatt-hour
    #[arg(long, value_name = "G", value_parser = above_zero, allow_negative_numbers = true, conflicts_with = "dry_run")]
    carbon_intensity: Option<f64>,

    /// What the batch size "largest" may take, such as 48GiB [default: the study's, or what is free]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<Bytes>,
}

/// Write the report and the tables of a study's results again, without running anything
#[derive(clap::Args, Debug)]
struct ReportArgs {
    /// A study's folder, or its results.json
    #[arg(value_name = "DIR")]
    results: PathBuf,

    /// Where they go [default: the folder of the results]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Write emissions.csv too, as CodeCarbon does, at so many grams of CO2 equivalents a kilowatt-hour
    #[arg(long, value_name = "G", value_parser = above_zero, allow_negative_numbers = true)]
    carbon_intensity: Option<f64>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    match args.then {
        None => study(args.study, global),
        Some(Then::Compare(args)) => compare::run(args, global),
        Some(Then::Recommend(args)) => recommend::run(args, global),
        Some(Then::Report(args)) => rewrite(args, global),
    }
}

fn study(args: StudyArgs, global: &Global) -> anyhow::Result<()> {
    let mut grid = match &args.config {
        Some(path) => Grid::read(path)?,
        None => presets::named(&args.preset)?,
    };
    grid.memory = args.memory.map(Memory).or(grid.memory);
    let places = Places { models: args.models_dir.clone(), data: args.data_dir.clone() };
    let cells = grid.cells(&places, global.precision, global.seed)?;
    if args.dry_run {
        let gpu = args.gpu.as_ref().or(grid.gpu.as_ref());
        let limits = gpu.map(|name| Limits::described(name)).transpose()?;
        let forecasts = forecast::forecast(&cells, &places, limits.as_ref(), grid.memory)?;
        let text = forecast::text(&forecasts, limits.as_ref(), width());
        return global.print(&serde_json::json!({ "limits": limits, "cells": forecasts }), text);
    }
    places.check(cells.iter().map(CellPlan::needs))?;
    run::run(&args, &grid, &cells, &places, global)
}

fn rewrite(args: ReportArgs, global: &Global) -> anyhow::Result<()> {
    let (results, folder) = read(&args.results)?;
    let to = args.output_dir.unwrap_or(folder);
    files::create_dir(&to)?;
    write(&results, &to, args.carbon_intensity)?;
    let report = to.join("report.html");
    global.print(&serde_json::json!({ "report": report }), report.display())
}

/// The results in a study's folder, or at a file of them; and that folder.
fn read(path: &Path) -> Result<(Results, PathBuf)> {
    let file = if path.is_dir() { path.join("results.json") } else { path.to_path_buf() };
    let folder = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    Ok((Results::read(&file)?, folder.to_path_buf()))
}

/// Every form of the results, the report, and the emissions where their intensity is known.
fn write(results: &Results, out: &Path, intensity: Option<f64>) -> Result<()> {
    results.write_all(out)?;
    if let Some(intensity) = intensity {
        files::write_text(&out.join("emissions.csv"), &emissions(results, intensity, &machine::now()))?;
    }
    report::write(results, &out.join("report.html"))
}
