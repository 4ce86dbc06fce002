//! `bench attention`: one attention op after the other, over lists of sizes.

use super::super::global::Global;
use super::super::{machine, output};
use super::options::{Baselines, Ceiling, Formats, Known, Repetition};
use super::report::{Measured, Report, conditions, of_limit, times};
use crate::bench::attention::{Kind, Pass, Row, Setting, Work, attention};
use crate::device::Engine;
use crate::energy::{self, Sampler};
use crate::error::Error;
use crate::files;
use crate::settings::named;
use crate::stats::Quantiles;
use crate::table::Column;
use crate::units::Format;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod chart;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Patterns: window, block-sparse, dense, global, decode
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', default_value = "window,block-sparse,dense", value_parser = named::<Kind>())]
    kind: Vec<Kind>,

    /// Passes: forward, backward, both
    #[arg(long, value_name = "PASS,..", value_delimiter = ',', default_value = "forward,backward", value_parser = named::<Pass>())]
    pass: Vec<Pass>,

    /// Tokens of every input; of decode, keys in its cache
    #[arg(long, value_name = "L,..", value_delimiter = ',', default_value = "1024,2048,4096")]
    lengths: Vec<NonZeroUsize>,

    /// Inputs of a batch
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1")]
    batch_size: Vec<NonZeroUsize>,

    /// Heads
    #[arg(long, value_name = "H,..", value_delimiter = ',', default_value = "12")]
    heads: Vec<NonZeroUsize>,

    /// Channels of a head, 128 at most
    #[arg(long, value_name = "D,..", value_delimiter = ',', default_value = "64")]
    head_size: Vec<NonZeroUsize>,

    /// Keys that a window reaches to each side
    #[arg(long, value_name = "W,..", value_delimiter = ',', default_value = "512")]
    window: Vec<usize>,

    /// Global tokens of a window, and of global attention: the first ones of each input
    #[arg(long, value_name = "G,..", value_delimiter = ',', default_value = "1")]
    globals: Vec<usize>,

    /// Tokens of a block of block-sparse attention
    #[arg(long, value_name = "K,..", value_delimiter = ',', default_value = "64")]
    block_size: Vec<NonZeroUsize>,

    /// Random key blocks of a query block, as BigBird's table draws them
    #[arg(long, value_name = "R", default_value = "3")]
    random_blocks: NonZeroUsize,

    #[command(flatten)]
    formats: Formats,

    /// The kernels of window and block-sparse attention in bf16 [default: WATTENTION_ATTENTION, else mma]
    #[arg(long, value_name = "ENGINE", value_parser = named::<Engine>())]
    engine: Option<Engine>,

    #[command(flatten)]
    repetition: Repetition,

    #[command(flatten)]
    ceiling: Ceiling,

    #[command(flatten)]
    baselines: Baselines,

    /// Write the rows as comma-separated values
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,

    /// Draw throughput against length
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

impl Args {
    /// Every combination of sizes, each once.
    fn works(&self) -> Vec<Work> {
        let mut works: Vec<Work> = Vec::new();
        let sizes = |list: &[NonZeroUsize]| -> Vec<usize> { list.iter().map(|n| n.get()).collect() };
        let (batches, lengths) = (sizes(&self.batch_size), sizes(&self.lengths));
        let (heads, head_sizes, blocks) =
            (sizes(&self.heads), sizes(&self.head_size), sizes(&self.block_size));
        let all = product(&self.kind, &heads);
        let all = product(&all, &head_sizes);
        let all = product(&all, &product(&product(&self.window, &self.globals), &blocks));
        let all = product(&all, &product(&batches, &lengths));
        for ((((kind, heads), head_size), ((window, globals), block_size)), (batch, length)) in all {
            let random_blocks = self.random_blocks.get();
            let work =
                Work { kind, batch, length, heads, head_size, window, globals, block_size, random_blocks };
            if !works.contains(&work.reduced()) {
                works.push(work.reduced());
            }
        }
        works
    }

    /// The passes that `kind` has, each once.
    fn passes(&self, kind: Kind) -> Vec<Pass> {
        let mut passes: Vec<Pass> = Vec::new();
        for &pass in &self.pass {
            if !passes.contains(&pass) && (pass == Pass::Forward || kind.has_backward()) {
                passes.push(pass);
            }
        }
        passes
    }
}

fn product<A: Copy, B: Copy>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b))).collect()
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    for path in args.csv.iter().chain(&args.svg) {
        output::check_file(path)?;
    }
    if let Some(kind) = args.kind.iter().find(|kind| args.passes(**kind).is_empty()) {
        let kind = kind.name();
        let what =
            format!("{kind} has no backward pass, nothing is trained through it: add forward to --pass");
        return Err(Error::usage(what).into());
    }
    let devices = args.formats.open(global)?;
    let label = machine::device_label(&devices[0]);
    let known = args.ceiling.open(&label, global)?;
    let judge = args.baselines.open("attention", &label)?;
    let mut rows: Vec<Row> = Vec::new();
    for device in &devices {
        args.engine.map_or(Ok(()), |engine| device.set_engine(engine))?;
        let flush = args.repetition.flush(device)?;
        let sampler = Sampler::start(energy::open(device))?;
        let setting = Setting {
            device,
            schedule: args.repetition.schedule(),
            flush: flush.as_ref(),
            limits: known.limits.as_ref(),
            sampler: &sampler,
            seed: global.seed,
        };
        for work in args.works() {
            global.detail(format_args!("{} of {} x {}", work.kind.name(), work.batch, work.length));
            rows.extend(attention(&setting, &work, &args.passes(work.kind))?);
        }
    }
    if let Some(path) = &args.svg {
        files::write_text(path, &chart::chart(&rows, &label))?;
    }
    let flushed = args.repetition.flushes();
    let report = Report { device: label, seed: global.seed, flushed, known, rows };
    report.finish(args.csv.as_deref(), judge, global)
}

impl Measured for Row {
    fn name(&self) -> String {
        Row::name(self)
    }

    fn quantiles(&self) -> Quantiles {
        self.quantiles
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn columns(known: &Known) -> Vec<Column<'_, Row>> {
        let mut columns = vec![
            Column::words("kind", |row: &Row| row.kind.name()).key("kind"),
            Column::words("pass", |row: &Row| row.pass.name()).key("pass"),
            Column::words("pattern", |row: &Row| row.pattern.clone()),
            Column::words("format", |row: &Row| row.precision.to_string()).key("precision"),
            Column::size("heads", |row: &Row| format!("{} x {}", row.heads, row.head_size)).rank(2),
            Column::size("batch", |row: &Row| row.batch_size).key("batch_size"),
            Column::size("length", |row: &Row| row.length).key("length"),
            Column::file("heads", |row: &Row| row.heads),
            Column::file("head_size", |row: &Row| row.head_size),
            Column::file("pattern", |row: &Row| row.pattern.clone()),
            Column::file("engine", |row: &Row| row.engine.map_or("", Engine::name)),
        ];
        columns.extend(times(|row: &Row| (row.quantiles, row.runs)));
        columns.extend([
            Column::file("flops", |row: &Row| row.flops),
            Column::file("bytes", |row: &Row| row.bytes),
            Column::file("exponentials", |row: &Row| row.exponentials),
            Column::number("GFLOP/s", Format::Decimals(1), |row: &Row| row.gflops_per_second)
                .key("gflops_per_second"),
            Column::number("tokens/s", Format::Significant, |row: &Row| row.tokens_per_second)
                .key("tokens_per_second"),
        ]);
        columns.extend(of_limit(known, |row: &Row| (row.share_of_limit, row.bound)));
        columns.extend(conditions(|row: &Row| &row.conditions));
        columns
    }
}
