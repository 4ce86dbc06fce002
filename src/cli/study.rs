//! `study`: the main job, models × datasets × input lengths to a table and a report.

use super::choices::Trainable;
use super::global::Global;
use super::machine;
use super::values::above_zero;
use super::values::bytes;
use crate::energy::HELP;
use crate::error::{Error, Result};
use crate::files;
use crate::limits::Limits;
use crate::study::folder::{Folder, Registered};
use crate::study::forecast::{self, Forecast};
use crate::study::grid::{CellPlan, Grid, Memory, in_keys};
use crate::study::presets;
use crate::study::published::Places;
use crate::study::report;
use crate::study::results::{Cell, Results, emissions};
use crate::table::width;
use crate::tensor::int8;
use crate::units::Bytes;
use clap::value_parser;
use std::path::{Path, PathBuf};

mod budget;
mod cells;
mod compare;
mod open;
mod recommend;
mod run;
mod submit;
mod watch;
mod worker;

/// Fine-tune, evaluate and measure models × datasets × input lengths; write a table and a report
///
/// A study that is stopped, in any way, resumes when the same command is given again: finished
/// cells are kept, and a cell that was training resumes from its last checkpoint. A cell that fails does not stop
/// the others, and is tried again the next time. Several processes, on one machine or on several that share the
/// folder, share out the cells when each is given the same command.
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
    Cells(cells::Args),
    Compare(compare::Args),
    Recommend(recommend::Args),
    Report(ReportArgs),
    Submit(submit::Args),
}

/// Which study it is, where its parts lie, and where it goes.
#[derive(clap::Args, Debug)]
struct Definition {
    /// A study that comes with the program: quick (minutes on two cores), paper (Ang et al. 2022), scrolls (LED-base)
    #[arg(long, value_name = "NAME", default_value = "quick", conflicts_with = "config")]
    preset: String,

    /// A study of your own, in TOML; what it leaves out is as in the quick preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where the report, the results and the cells' run directories go; finished cells there are kept
    #[arg(long, value_name = "DIR", default_value = "runs/study")]
    output_dir: PathBuf,

    /// A folder to look for models in first: DIR/NAME with config.json, tokenizer and weights
    #[arg(long, value_name = "DIR")]
    models_dir: Option<PathBuf>,

    /// A folder to look for datasets in first: DIR/NAME.zip or DIR/NAME/SPLIT.jsonl
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// What the batch size "largest" may take, such as 48GiB [default: the study's, or what is free]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<Bytes>,
}

#[derive(clap::Args, Debug)]
struct StudyArgs {
    #[command(flatten)]
    definition: Definition,

    #[command(flatten)]
    trainable: Trainable,

    /// Run one cell only, by its name or its number in `study cells`
    #[arg(long, value_name = "NAME|INDEX", conflicts_with = "dry_run")]
    cell: Option<String>,

    /// After so many seconds without a sign of life from another machine its cells are taken over
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
    lease: u64,

    /// Open the report in the browser at the end
    #[arg(long, conflicts_with = "dry_run")]
    open: bool,

    /// Run every cell again, finished or not
    #[arg(long)]
    overwrite_output_dir: bool,

    /// Run those finished cells again that were measured on a disturbed machine
    #[arg(long, conflicts_with_all = ["overwrite_output_dir", "dry_run"])]
    redo_disturbed: bool,

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
        Some(Then::Cells(args)) => cells::run(args, global),
        Some(Then::Compare(args)) => compare::run(args, global),
        Some(Then::Recommend(args)) => recommend::run(args, global),
        Some(Then::Report(args)) => rewrite(args, global),
        Some(Then::Submit(args)) => submit::run(args, global),
    }
}

/// A study that is defined: its grid, its places and its cells.
struct Defined {
    grid: Grid,
    places: Places,
    study: Registered,
}

impl Definition {
    fn read(&self, global: &Global) -> Result<Defined> {
        let mut grid = match &self.config {
            Some(path) => Grid::read(path)?,
            None => presets::named(&self.preset)?,
        };
        grid.memory = self.memory.map(Memory).or(grid.memory);
        let places = Places { models: self.models_dir.clone(), data: self.data_dir.clone() };
        let cells = grid.cells(&places, global.precision, global.seed);
        let cells = cells.map_err(|error| match (error, &self.config) {
            (Error::Usage(what), Some(path)) => Error::Usage(format!("{}: {what}", path.display())),
            (error, _) => error,
        })?;
        let study = Registered { title: grid.title.clone(), cells };
        Ok(Defined { grid, places, study })
    }
}

fn study(args: StudyArgs, global: &Global) -> anyhow::Result<()> {
    args.trainable.check()?;
    let defined = args.definition.read(global)?;
    let Defined { places, study, .. } = &defined;
    if args.dry_run {
        let (forecasts, limits) = foresee(&defined, args.gpu.as_ref())?;
        let text = forecast::text(&forecasts, limits.as_ref(), width());
        return global.print(&serde_json::json!({ "limits": limits, "cells": forecasts }), text);
    }
    let mine = match &args.cell {
        Some(wanted) => std::slice::from_ref(cells::find(&study.cells, wanted)?),
        None => &study.cells,
    };
    places.check(mine.iter().map(CellPlan::needs))?;
    run::run(&args, study, mine, places, global)
}

/// What is foreseen of every cell, on the GPU that is named, or else on the study's.
fn foresee(defined: &Defined, gpu: Option<&String>) -> Result<(Vec<Forecast>, Option<Limits>)> {
    let Defined { grid, places, study } = defined;
    let gpu = gpu.or(grid.gpu.as_ref());
    let limits = gpu.map(|name| Limits::described(name)).transpose()?;
    if let Some(gpu) = gpu.filter(|_| study.cells.iter().any(|cell| !cell.more_weights().is_empty())) {
        return Err(in_keys(int8::refusal(gpu)));
    }
    let forecasts = forecast::forecast(&study.cells, places, limits.as_ref(), grid.memory)?;
    Ok((forecasts, limits))
}

fn rewrite(args: ReportArgs, global: &Global) -> anyhow::Result<()> {
    let (mut results, folder) = merged(&args.results)?;
    results.set_carbon_intensity(args.carbon_intensity);
    let to = args.output_dir.unwrap_or(folder);
    files::create_dir(&to)?;
    write(&results, &to)?;
    let report = to.join("report.html");
    global.print(&serde_json::json!({ "report": report }), report.display())
}

/// What the cells in a study's folder come to by now; of a file, or a folder that says nothing of its cells, what it
/// says.
fn merged(path: &Path) -> Result<(Results, PathBuf)> {
    let folder = Folder::new(path);
    match folder.registered() {
        None => read(path),
        Some(study) => {
            let before = Results::read(&path.join("results.json")).unwrap_or_default();
            let mut results = folder.results(&study, before.environment);
            // The results still know a cell whose run directory is gone.
            let of = |cells: &[Cell], name: &str| -> Vec<Cell> {
                cells.iter().filter(|cell| cell.run == name).cloned().collect()
            };
            let found = std::mem::take(&mut results.cells);
            for plan in &study.cells {
                let here = of(&found, &plan.name);
                results.cells.extend(if here.is_empty() { of(&before.cells, &plan.name) } else { here });
            }
            let is_known = |name: &String| results.cells.iter().any(|cell| cell.run == *name);
            results.left.retain(|name| !is_known(name));
            Ok((results, path.to_path_buf()))
        }
    }
}

/// The results in a study's folder, or at a file of them; and that folder.
fn read(path: &Path) -> Result<(Results, PathBuf)> {
    let file = if path.is_dir() { path.join("results.json") } else { path.to_path_buf() };
    let folder = file.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    Ok((Results::read(&file)?, folder.to_path_buf()))
}

/// Every form of the results, the report, and the emissions where their intensity is known.
fn write(results: &Results, out: &Path) -> Result<()> {
    results.write_all(out)?;
    if let Some(intensity) = results.carbon_intensity() {
        files::write_text(&out.join("emissions.csv"), &emissions(results, intensity, &machine::now()))?;
    }
    report::write(results, &out.join("report.html"))
}
