//! What `bench step` and `bench generate` share: lists of sizes, one row for each combination, and its report.

use super::super::choices::{check_batch, check_lengths};
use super::super::global::Global;
use super::super::{machine, output};
use super::options::{Baselines, Ceiling, Formats};
use super::table::csv;
use super::{Subject, base_name};
use std::path::{Path, PathBuf};
use wattention::bench::Meters;
use wattention::bench::baseline::Entry;
use wattention::bench::resident::ResidentPeak;
use wattention::device::{Device, Precision};
use wattention::energy::{self, Sampler};
use wattention::error::Error;
use wattention::files;
use wattention::models;
use wattention::train::Lengths;

mod report;

use report::{Named, Report, Rows, Unmeasured};
pub use report::{Row, absent_or, peak, seconds, times};

/// What `--help` says below the options.
pub const ROWS: &str = "\
Lists are separated by commas, and every combination is measured, each with a model of its own. --json
has the keys of one combination at the top, and those of several in `rows`; `unmeasured` says which did
not fit into memory. Resident memory is the process's: of a row after the first it is known where Linux
lets its highest mark start anew.";

/// The lists and files of any scan.
#[derive(clap::Args, Debug)]
pub struct Scan {
    /// Model directories in HF layout, or names of repositories in the Hugging Face cache: ORG/NAME[@REVISION]
    #[arg(long, value_name = "DIR_OR_NAME,..", value_delimiter = ',', required_unless_present = "config")]
    model: Vec<PathBuf>,

    /// Files config.json alone: weights are drawn at random
    #[arg(long, value_name = "FILE,..", value_delimiter = ',', conflicts_with = "model")]
    config: Vec<PathBuf>,

    #[command(flatten)]
    formats: Formats,

    /// Time one more run kernel by kernel
    #[arg(long)]
    pub kernels: bool,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,

    /// Write the rows as comma-separated values
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
}

/// The sizes of one row.
pub trait Sizes: Copy + PartialEq {
    type Row: Row;
    /// The subcommand that measures it.
    const BENCH: &'static str;

    /// What decides the work, by which baselines know it.
    fn name(&self, model: &Path, precision: Precision) -> String;
    fn batch_size(&self) -> usize;
    /// Tokens that the model must have positions for.
    fn lengths(&self) -> Lengths;
    /// Measures `subject` on `device`, which is in the row's precision.
    fn measure(
        &self,
        subject: &Subject,
        device: &Device,
        meters: Meters,
        global: &Global,
    ) -> anyhow::Result<Self::Row>;
}

#[derive(Clone, PartialEq)]
struct Combination<S> {
    subject: Subject,
    precision: Precision,
    sizes: S,
}

impl Scan {
    /// Every model in every precision with each of `sizes`, each once.
    fn combinations<S: Sizes>(&self, sizes: &[S], global: &Global) -> Vec<Combination<S>> {
        let of_name = |name: &PathBuf| Subject { model: Some(name.clone()), config: None };
        let of_file = |file: &PathBuf| Subject { model: None, config: Some(file.clone()) };
        let mut all: Vec<Combination<S>> = Vec::new();
        for subject in self.model.iter().map(of_name).chain(self.config.iter().map(of_file)) {
            for precision in self.formats.each(global) {
                for &sizes in sizes {
                    let one = Combination { subject: subject.clone(), precision, sizes };
                    if !all.contains(&one) {
                        all.push(one);
                    }
                }
            }
        }
        all
    }

    /// Measures every combination and prints the rows.
    pub fn run<S: Sizes>(&self, sizes: &[S], global: &Global) -> anyhow::Result<()> {
        self.csv.iter().try_for_each(|path| output::check_file(path))?;
        let all = self.combinations(sizes, global);
        let device = global.open_device()?;
        let (name, label) = (base_name(&device), machine::device_label(&device));
        let known = self.ceiling.open(&label, global)?;
        let judge = self.baselines.open(S::BENCH, &label)?;
        let sampler = Sampler::start(energy::choose(&device)?)?;
        // What cannot be measured is found before anything is.
        for one in &all {
            check_lengths(one.sizes.lengths(), &models::limits(&one.subject.config()?.1)?)?;
        }
        for precision in self.formats.each(global) {
            Device::open(&name, precision)?;
        }
        let (mut rows, mut unmeasured) = (Vec::new(), Vec::new());
        for (number, Combination { subject, precision, sizes }) in all.iter().enumerate() {
            let row = sizes.name(subject.name()?, *precision);
            if all.len() > 1 {
                global.note(format_args!("{} of {}: {row}", number + 1, all.len()));
            }
            let resident = ResidentPeak::start(number == 0);
            let meters = Meters { sampler: &sampler, limits: known.limits.as_ref(), resident: &resident };
            let device = Device::open(&name, *precision)?;
            let outcome = check_batch(sizes.batch_size(), sizes.lengths()).map_err(Into::into);
            match outcome.and_then(|()| sizes.measure(subject, &device, meters, global)) {
                Ok(measured) => rows.push(Named { name: row, row: measured }),
                Err(why) => match why.downcast_ref() {
                    Some(Error::DoesNotFit(what)) if all.len() > 1 => {
                        unmeasured.push(Unmeasured { name: row, why: what.clone() });
                    }
                    _ => return Err(why),
                },
            }
        }
        if let (true, Some(Unmeasured { name, why })) = (rows.is_empty(), unmeasured.first()) {
            return Err(Error::DoesNotFit(format!("no row fits into memory, not even {name}: {why}")).into());
        }
        if let Some(path) = &self.csv {
            let fields: Vec<_> = rows.iter().map(|named| named.row.fields()).collect();
            files::write_text(path, &csv(&fields))?;
        }
        let entry =
            |named: &Named<S::Row>| Entry { name: named.name.clone(), quantiles: named.row.quantiles() };
        let entries = rows.iter().map(entry).collect();
        let rows = match (all.len(), rows.pop()) {
            (1, Some(only)) => Rows::One(Box::new(only)),
            (_, last) => {
                rows.extend(last);
                Rows::Several { rows, unmeasured }
            }
        };
        let report = Report { device: device.name(), threads: rayon::current_num_threads(), known, rows };
        judge.finish(report, entries, global)
    }
}
