//! `study cells`: the cells of a study with their plans and what has become of each.

use super::super::global::Global;
use super::{Definition, foresee};
use crate::error::{Error, Result};
use crate::study::folder::{Folder, State};
use crate::study::forecast::Forecast;
use crate::study::grid::CellPlan;
use crate::table::{Column, Table, width};
use crate::units::{Format, Quantity};
use serde::Serialize;

/// List the cells of a study with their numbers, plans and states; nothing is run
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    definition: Definition,

    /// The GPU that times are foreseen for: h200, h100, a100 or a6000 [default: the study's, if it names one]
    #[arg(long, value_name = "NAME")]
    gpu: Option<String>,
}

/// A cell, what is foreseen of it, and where it stands.
#[derive(Serialize)]
struct Row {
    /// What `study --cell` knows it by, besides its name.
    index: usize,
    #[serde(flatten)]
    forecast: Forecast,
    #[serde(flatten)]
    state: State,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let defined = args.definition.read(global)?;
    let folder = Folder::new(&args.definition.output_dir);
    let (forecasts, _) = foresee(&defined, args.gpu.as_ref())?;
    let rows: Vec<Row> = defined
        .study
        .cells
        .iter()
        .zip(forecasts)
        .enumerate()
        .map(|(index, (plan, forecast))| Row { index, forecast, state: folder.state(plan) })
        .collect();
    global.print(&serde_json::json!({ "cells": rows }), text(&rows))
}

fn text(rows: &[Row]) -> String {
    let columns = [
        Column::size("index", |row: &Row| row.index),
        Column::words("cell", |row: &Row| row.forecast.cell.clone()),
        Column::size("batch", |row: &Row| row.forecast.batch_size).rank(1),
        Column::number("memory", Format::Each(Quantity::Memory), |row: &Row| {
            row.forecast.memory_bytes.clone()
        }),
        Column::size("steps", |row: &Row| row.forecast.steps_at_most).rank(2),
        Column::number("least time", Format::Each(Quantity::Time), |row: &Row| {
            row.forecast.least_train_seconds.clone()
        })
        .rank(3),
        Column::words("state", |row: &Row| match &row.state {
            State::Finished => "finished".to_string(),
            State::Failed { exit_code, .. } => format!("failed ({exit_code})"),
            State::Running { process, host } => format!("running: process {process} on {host}"),
            State::Left => "left".into(),
        }),
    ];
    Table::new(&columns, rows).text(width())
}

/// The cell that `wanted` names, or counts from 0.
pub fn find<'a>(cells: &'a [CellPlan], wanted: &str) -> Result<&'a CellPlan> {
    let by_number = wanted.parse().ok().and_then(|index: usize| cells.get(index));
    cells.iter().find(|plan| plan.name == wanted).or(by_number).ok_or_else(|| {
        Error::usage(format!(
            "--cell {wanted}: there is no such cell; `wattention study cells` lists the {} there are, from 0",
            cells.len()
        ))
    })
}
