//! `study submit`: the file by which an engine places a study's cells on machines that share its folder.

use super::super::global::Global;
use super::super::values::above_zero;
use super::Definition;
use crate::error::{Error, Result};
use crate::files;
use crate::settings::named;
use crate::study::folder::{Folder, State};
use crate::study::submit::{Engine, Job, Place, file};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Write the job file by which an engine runs the cells that are left, each as `study --cell`
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    definition: Definition,

    /// What places the cells: slurm, ray, hyperqueue, kubernetes or parallel (GNU)
    #[arg(long, value_name = "NAME", value_parser = named::<Engine>())]
    engine: Engine,

    /// The job file [default: in the output directory]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Cells at a time [default: as many as the engine has room for; parallel: 1]
    #[arg(long, value_name = "N")]
    throttle: Option<NonZeroUsize>,

    /// GPUs for a cell [default: 0 with --device cpu or sim, 1 with cuda, else 1 if the study names a GPU]
    #[arg(long, value_name = "N")]
    gpus: Option<usize>,

    /// Processor cores for a cell [default: --threads, if given]
    #[arg(long, value_name = "N")]
    cpus: Option<NonZeroUsize>,

    /// Time limit of a cell; SLURM asks it to save two minutes before, and starts it again
    #[arg(long, value_name = "X", value_parser = above_zero, allow_negative_numbers = true)]
    hours: Option<f64>,

    /// How often a cell that failed is started again
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: usize,

    /// SLURM's partition
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,

    /// The container image of a Kubernetes job
    #[arg(long, value_name = "IMAGE", required_if_eq("engine", "kubernetes"))]
    image: Option<String>,

    /// The persistent volume claim that a Kubernetes job has the study's folder on
    #[arg(long, value_name = "NAME", required_if_eq("engine", "kubernetes"))]
    volume_claim: Option<String>,

    /// The program on the machines [default: this one; kubernetes: wattention]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    file: PathBuf,
    /// What starts the job.
    command: String,
    /// The numbers of the cells that it runs.
    cells: Vec<usize>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let job = args.job(global)?;
    let out = absolute(&args.definition.output_dir)?;
    let path = match &args.file {
        Some(path) => absolute(path)?,
        None => out.join(args.engine.file_name()),
    };
    for dir in [files::folder_of(&path), &job.logs] {
        files::create_dir(dir)?;
    }
    files::write_text(&path, &file(args.engine, &job)?)?;
    let command = args.engine.command(&path.to_string_lossy());
    let text = format!("{} of {} cells left: {command}", job.cells.len(), job.of);
    global.print(&Report { file: path, command, cells: job.cells }, text)
}

impl Args {
    fn job(&self, global: &Global) -> Result<Job> {
        let defined = self.definition.read(global)?;
        let folder = Folder::new(&self.definition.output_dir);
        let left = |index: &usize| folder.state(&defined.study.cells[*index]) != State::Finished;
        let of = defined.study.cells.len();
        let cells: Vec<usize> = (0..of).filter(left).collect();
        if cells.is_empty() {
            return Err(Error::usage(format!(
                "all {of} cells of the study are finished: nothing is left to submit"
            )));
        }
        let gpus = self.gpus.unwrap_or(match global.device.as_deref() {
            Some("cpu" | "sim" | "plan") => 0,
            None | Some("auto") => usize::from(defined.grid.gpu.is_some()),
            Some(_) => 1,
        });
        let place = match (&self.image, &self.volume_claim) {
            (Some(image), Some(claim)) => Some(Place { image: image.clone(), claim: claim.clone() }),
            _ => None,
        };
        Ok(Job {
            title: defined.study.title.clone(),
            command: self.command(global)?,
            folder: absolute(Path::new("."))?,
            logs: absolute(&self.definition.output_dir)?.join("logs"),
            cells,
            of,
            throttle: self.throttle.map(NonZeroUsize::get),
            gpus,
            cpus: self.cpus.map(NonZeroUsize::get).or(global.threads.map(usize::from)),
            hours: self.hours,
            retries: self.retries,
            partition: self.partition.clone(),
            place,
        })
    }

    /// The program and its arguments, but for the cell: what was asked for here, by names that hold in any folder.
    fn command(&self, global: &Global) -> Result<Vec<String>> {
        let program = match (&self.program, self.engine) {
            (Some(program), _) => program.clone(),
            (None, Engine::Kubernetes) => "wattention".into(),
            (None, _) => std::env::current_exe()
                .map_err(|e| Error::internal(format!("the program's own path: {e}")))?,
        };
        let definition = &self.definition;
        let mut command = vec![program.to_string_lossy().into_owned(), "study".into()];
        let mut flag = |name: &str, value: String| command.extend([format!("--{name}"), value]);
        let mut path = |name: &str, path: &Path| -> Result<()> {
            flag(name, absolute(path)?.to_string_lossy().into_owned());
            Ok(())
        };
        path("output-dir", &definition.output_dir)?;
        let paths = [
            ("config", &definition.config),
            ("models-dir", &definition.models_dir),
            ("data-dir", &definition.data_dir),
        ];
        for (name, value) in paths {
            if let Some(value) = value {
                path(name, value)?;
            }
        }
        if definition.config.is_none() {
            flag("preset", definition.preset.clone());
        }
        if let Some(memory) = definition.memory {
            flag("memory", memory.0.to_string());
        }
        flag("precision", global.precision.name().into());
        flag("seed", global.seed.to_string());
        if let Some(device) = &global.device {
            flag("device", device.clone());
        }
        if let Some(threads) = global.threads {
            flag("threads", threads.to_string());
        }
        Ok(command)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::read(path, &e))
}
