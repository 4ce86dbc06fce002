//! `study`: the main job, models × datasets × input lengths to a table and a report.

use super::global::Global;
use super::machine;
use super::progress::Progress;
use std::path::{Path, PathBuf};
use wattention::energy::{self, Sampler};
use wattention::error::{Error, Result};
use wattention::files;
use wattention::study::cell::{self, CellObserver};
use wattention::study::grid::{CellPlan, Grid};
use wattention::study::report;
use wattention::study::results::{Cell, Results, table};
use wattention::train::{Event, Observer};

/// Fine-tune, evaluate and measure models × datasets × input lengths; write a table and a report
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A study that comes with the program: quick
    #[arg(long, value_name = "NAME", default_value = "quick", conflicts_with = "config")]
    preset: String,

    /// A study of your own, in TOML; what it leaves out is as in the quick preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where results.csv, results.json, report.html and the cells go; finished cells there are kept
    #[arg(long, value_name = "DIR", default_value = "runs/study")]
    output_dir: PathBuf,

    /// Run every cell again, finished or not
    #[arg(long)]
    overwrite_output_dir: bool,

    /// Print the cells and run nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let mut grid = match &args.config {
        Some(path) => Grid::read(path)?,
        None => Grid::preset(&args.preset)?,
    };
    if args.config.is_none() {
        grid.seeds = vec![global.seed];
    }
    let plans = grid.cells()?;
    if args.dry_run {
        let lines: Vec<String> = plans.iter().map(CellPlan::slug).collect();
        return global.print(&plans, lines.join("\n"));
    }
    let device = global.open_device()?;
    let sampler = Sampler::start(energy::open(&device))?;
    let out = &args.output_dir;
    files::create_dir(&out.join("cells"))?;
    let mut results =
        Results { title: grid.title.clone(), environment: environment(&device.name()), cells: Vec::new() };
    for (i, plan) in plans.iter().enumerate() {
        let title = format!("[{}/{}] {}", i + 1, plans.len(), plan.slug());
        let place = out.join("cells").join(format!("{}.json", plan.slug()));
        let finished = match args.overwrite_output_dir {
            true => None,
            false => read_finished(&place, plan),
        };
        let cell = match finished {
            Some(cell) => {
                global.note(format_args!("{title}: already there"));
                cell
            }
            None => {
                let mut watch = Watch::new(global, title);
                let cell = cell::run(plan, &device, &sampler, &out.join("models"), &mut watch)?;
                watch.finish(&cell);
                write_finished(&place, plan, &cell)?;
                cell
            }
        };
        results.cells.push(cell);
        write(&results, out)?;
    }
    global.print(&results, table(&results.cells))?;
    global.note(format_args!("report: {}", out.join("report.html").display()));
    Ok(())
}

/// All three files, after every cell: a study that is stopped leaves what it has.
fn write(results: &Results, out: &Path) -> Result<()> {
    results.write(&out.join("results.json"))?;
    results.write_csv(&out.join("results.csv"))?;
    report::write(results, &out.join("report.html"))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Finished {
    plan: CellPlan,
    cell: Cell,
}

/// A finished cell of exactly this plan; anything else is run again.
fn read_finished(place: &Path, plan: &CellPlan) -> Option<Cell> {
    let text = std::fs::read_to_string(place).ok()?;
    let finished: Finished = serde_json::from_str(&text).ok()?;
    (finished.plan == *plan).then_some(finished.cell)
}

fn write_finished(place: &Path, plan: &CellPlan, cell: &Cell) -> Result<()> {
    let finished = Finished { plan: plan.clone(), cell: cell.clone() };
    let text = serde_json::to_string_pretty(&finished).map_err(|e| Error::output(place, e))?;
    files::write_text(place, &text)
}

/// Shows one cell's training, then its evaluation.
struct Watch<'a> {
    global: &'a Global,
    title: String,
    progress: Option<Progress>,
    scored: usize,
}

impl<'a> Watch<'a> {
    fn new(global: &'a Global, title: String) -> Self {
        Watch { global, title, progress: None, scored: 0 }
    }

    fn finish(self, cell: &Cell) {
        let score = cell.headline().value().unwrap_or(f64::NAN);
        let line = format!("{}: {} {score:.2}", self.title, cell.headline_metric.label());
        match self.progress {
            Some(progress) => progress.finish(line),
            None => self.global.note(line),
        }
    }
}

impl Observer for Watch<'_> {
    fn event(&mut self, event: &Event) -> Result<()> {
        if let Event::Step { total, report, .. } = event {
            let progress =
                self.progress.get_or_insert_with(|| Progress::new(self.global, *total, &self.title));
            progress.step(1, format_args!("loss {:.3}", report.loss));
        }
        Ok(())
    }
}

impl CellObserver for Watch<'_> {
    fn evaluated(&mut self, done: usize, total: usize) {
        if self.scored == 0 {
            let label = format!("{}, scoring", self.title);
            self.progress = Some(Progress::new(self.global, total as u64, &label));
        }
        if let Some(progress) = &mut self.progress {
            progress.step((done - self.scored) as u64, "");
        }
        self.scored = done;
    }
}

/// What the results were made on and with.
fn environment(device: &str) -> Vec<(String, String)> {
    let pairs = [
        ("device", device.to_string()),
        ("processor", machine::processor()),
        ("threads", rayon::current_num_threads().to_string()),
        ("system", std::env::consts::OS.to_string()),
        ("wattention", env!("CARGO_PKG_VERSION").to_string()),
        ("command", std::env::args().collect::<Vec<_>>().join(" ")),
    ];
    pairs.map(|(key, value)| (key.to_string(), value)).into()
}
