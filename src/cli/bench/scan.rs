//! `bench step` and `bench generate`: models, formats and lists of sizes, one row for each combination.

use super::super::choices::check_batch;
use super::super::global::Global;
use super::super::ranks::{self, Together};
use super::super::workload::{Kind, Subject};
use super::super::{machine, output};
use super::base_name;
use super::options::{Baselines, Ceiling, Formats};
use super::row::{KernelRow, Report, Row, Rows, Unmeasured};
use crate::bench::Meters;
use crate::bench::baseline::Entry;
use crate::bench::resident::ResidentPeak;
use crate::bench::workload::{Repeats, measure};
use crate::collective::Group;
use crate::device::{Device, Precision};
use crate::energy::{self, Sampler, of_devices};
use crate::error::{Error, Result};
use crate::files;
use crate::hub::Name;
use crate::models::{self, ModelOptions};
use crate::workload::{Sizes, Workload};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::rc::Rc;

/// What `--help` says below the options.
const ROWS: &str = "\
Lists are separated by commas, and every combination is measured, each with a model of its own. --json
has the keys of one combination at the top, and those of several in `rows`; `unmeasured` says which did
not fit into memory. Resident memory is the process's: of a row after the first it is known where Linux
lets its highest mark start anew.";

#[derive(clap::Args, Debug)]
#[command(after_help = ROWS)]
pub struct Args<K: Kind> {
    /// Model directories in HF layout, repositories in the Hugging Face cache as ORG/NAME[@REVISION], or embedded models
    #[arg(long, value_name = "DIR_OR_NAME,..", value_delimiter = ',', required_unless_present = "config")]
    model: Vec<Name>,

    /// Files config.json alone: weights are drawn at random
    #[arg(long, value_name = "FILE,..", value_delimiter = ',', conflicts_with = "model")]
    config: Vec<PathBuf>,

    #[command(flatten)]
    formats: Formats,

    #[command(flatten)]
    kind: K,

    /// Runs before the counted ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,

    /// Counted runs
    #[arg(long, value_name = "N", default_value = "5")]
    repeat: NonZeroUsize,

    /// Time one more run kernel by kernel
    #[arg(long)]
    kernels: bool,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,

    /// Write the rows as comma-separated values
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
}

/// What one row is of.
#[derive(Clone, PartialEq)]
struct Combination<S> {
    subject: Subject,
    precision: Precision,
    sizes: S,
}

impl<S: Sizes> Combination<S> {
    /// All that decides the work, by which baselines know it.
    fn name(&self, group: &Group) -> String {
        let name = format!("{}, {}", self.sizes.name(self.subject.name()), self.precision);
        if group.is_alone() { name } else { format!("{name}, {} ranks", group.size()) }
    }

    /// Measures it on `device`, which is in its precision.
    fn measure(
        &self,
        options: ModelOptions,
        device: &Device,
        repeats: Repeats,
        meters: Meters,
        group: &Rc<Group>,
        global: &Global,
    ) -> Result<Row<S>> {
        check_batch(self.sizes.batch_size(), self.sizes.lengths())?;
        let options = self.sizes.options(options);
        let loaded = self.subject.load(device, options, global)?;
        // Each rank has examples of its own.
        let mut work = self.sizes.load(loaded, options, global.seed + group.rank() as u64, group)?;
        let before = group.spent();
        let (mut measured, kernels) = measure(&mut work, repeats, meters)?;
        let (energy, devices) = of_devices(measured.energy.clone(), device, group)?;
        let ranks = Together::since(before, group, devices);
        if ranks.is_some() {
            measured.take_energy(energy, work.amount());
        }
        Ok(Row {
            name: self.name(group),
            model: self.subject.name().into(),
            sizes: self.sizes,
            precision: self.precision,
            products: self.sizes.products(device),
            measured,
            kernels: KernelRow::of(kernels),
            ranks,
        })
    }
}

impl<K: Kind> Args<K> {
    /// Every model in every precision with each of the sizes, each once.
    fn combinations(&self, global: &Global) -> Vec<Combination<K::Sizes>> {
        let models = self.model.iter().cloned().map(Subject::Model);
        let configs = self.config.iter().cloned().map(Subject::Config);
        let mut all = Vec::new();
        for subject in models.chain(configs) {
            for precision in self.formats.each(global) {
                for sizes in self.kind.combinations() {
                    let one = Combination { subject: subject.clone(), precision, sizes };
                    if !all.contains(&one) {
                        all.push(one);
                    }
                }
            }
        }
        all
    }
}

/// Measures every combination and prints the rows.
pub fn run<K: Kind>(args: Args<K>, global: &Global) -> anyhow::Result<()> {
    args.kind.check()?;
    ranks::run(args.kind.ranks(), global, |global, group| scan(&args, global, &group))
}

fn scan<K: Kind>(args: &Args<K>, global: &Global, group: &Rc<Group>) -> anyhow::Result<()> {
    args.csv.iter().try_for_each(|path| output::check_file(path))?;
    let repeats = Repeats { warmup: args.warmup, counted: args.repeat.get(), kernels: args.kernels };
    let all = args.combinations(global);
    let device = global.open_device()?;
    let (name, label) = (base_name(&device), machine::device_label(&device));
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open(K::Sizes::NAME, &label)?;
    let sampler = Sampler::start(energy::choose(&device)?)?;
    let names: Vec<String> = all.iter().map(|one| one.name(group)).collect();
    group.agree_on_work(&format!("{names:?} {repeats:?}"), device.uuid().as_deref())?;
    // What cannot be measured is found before anything is.
    for one in &all {
        one.sizes.lengths().check(&models::limits(&one.subject.config()?)?)?;
    }
    for precision in args.formats.each(global) {
        Device::open(&name, precision)?;
    }
    let (mut rows, mut unmeasured) = (Vec::new(), Vec::new());
    for (number, one) in all.iter().enumerate() {
        if all.len() > 1 {
            global.note(format_args!("{} of {}: {}", number + 1, all.len(), one.name(group)));
        }
        let resident = ResidentPeak::start(number == 0);
        let meters = Meters { sampler: &sampler, limits: known.limits.as_ref(), resident: &resident };
        let device = Device::open(&name, one.precision)?;
        match one.measure(args.kind.options(), &device, repeats, meters, group, global) {
            Ok(row) => {
                let warning = row.measured.conditions.warning();
                warning.iter().for_each(|warning| global.warn(format_args!("{}: {warning}", row.name)));
                rows.push(row);
            }
            // It may have fitted on another rank, which cannot go on without this one.
            Err(Error::DoesNotFit(why)) if all.len() > 1 && group.is_alone() => {
                unmeasured.push(Unmeasured { name: one.name(group), why });
            }
            Err(why) => return Err(why.into()),
        }
    }
    if let (true, Some(Unmeasured { name, why })) = (rows.is_empty(), unmeasured.first()) {
        return Err(Error::DoesNotFit(format!("no row fits into memory, not even {name}: {why}")).into());
    }
    if !group.is_first() {
        return Ok(());
    }
    let entry = |row: &Row<K::Sizes>| Entry { name: row.name.clone(), quantiles: row.measured.quantiles };
    let entries = rows.iter().map(entry).collect();
    let rows = match (all.len(), rows.pop()) {
        (1, Some(only)) => Rows::One(Box::new(only)),
        (_, last) => {
            rows.extend(last);
            Rows::Several { rows, unmeasured }
        }
    };
    let report = Report { device: device.name(), threads: rayon::current_num_threads(), known, rows };
    if let Some(path) = &args.csv {
        files::write_text(path, &report.table().csv())?;
    }
    judge.finish(report, entries, global)
}
