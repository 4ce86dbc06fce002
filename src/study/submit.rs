//! Job files: how engines that place work on machines run the cells of a study, each as one process of its own.
//!
//! Every file runs `study --cell INDEX` in the folder where it was written, with one log a cell, which is added to when
//! the cell starts again. What keeps two processes out of one cell is the cell's lock, not the engine.

mod hyperqueue;
mod kubernetes;
mod parallel;
mod ray;
mod slurm;

use crate::error::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What places the cells on machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Slurm,
    Ray,
    Hyperqueue,
    Kubernetes,
    /// GNU parallel.
    Parallel,
}

/// Cells that are run alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub title: String,
    /// The program and its arguments, but for `--cell`.
    pub command: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where the cells' logs go.
    pub logs: PathBuf,
    /// The numbers of the cells, and how many the study has.
    pub cells: Vec<usize>,
    pub of: usize,
    /// Cells at a time.
    pub throttle: Option<usize>,
    /// For each cell.
    pub gpus: usize,
    pub cpus: Option<usize>,
    pub hours: Option<f64>,
    /// How often a cell that failed is started again.
    pub retries: usize,
    pub partition: Option<String>,
    /// Where a Kubernetes job runs.
    pub place: Option<Place>,
}

/// A container and the volume that the study's folder is on.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub image: String,
    pub claim: String,
}

impl Engine {
    pub fn file_name(self) -> &'static str {
        match self {
            Engine::Slurm => "study.sbatch",
            Engine::Ray => "study-ray.py",
            Engine::Hyperqueue => "study-hyperqueue.py",
            Engine::Kubernetes => "study-kubernetes.json",
            Engine::Parallel => "study-parallel.sh",
        }
    }

    /// The shell's command that starts the job file at `path`.
    pub fn command(self, path: &str) -> String {
        let path = quoted(path);
        match self {
            Engine::Slurm => format!("sbatch {path}"),
            Engine::Ray | Engine::Hyperqueue => format!("python3 {path}"),
            Engine::Kubernetes => format!("kubectl create -f {path}"),
            Engine::Parallel => format!("bash {path}"),
        }
    }
}

/// The text of the job file.
pub fn file(engine: Engine, job: &Job) -> Result<String> {
    match engine {
        Engine::Slurm => slurm::file(job),
        Engine::Ray => ray::file(job),
        Engine::Hyperqueue => hyperqueue::file(job),
        Engine::Kubernetes => kubernetes::file(job),
        Engine::Parallel => parallel::file(job),
    }
}

impl Job {
    /// The title as a comment has it: on one line.
    fn comment(&self) -> String {
        let title: String = self.title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{} of {} cells of \"{title}\"", self.cells.len(), self.of)
    }

    /// What every script in Python knows of the job.
    fn constants(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("COMMAND", json!(self.command)),
            ("CELLS", json!(self.cells)),
            ("FOLDER", json!(self.folder)),
            ("LOGS", json!(self.logs)),
            ("CPUS", json!(self.cpus.unwrap_or(1))),
            ("GPUS", json!(self.gpus)),
        ]
    }

    /// The command in words of the shell.
    fn shell(&self) -> String {
        self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A script in Python: what the job is as constants, `more` of them, then what is done with them.
fn python(job: &Job, imports: &str, more: &[(&str, Value)], body: &str) -> String {
    let constants: String = job
        .constants()
        .iter()
        .chain(more)
        .map(|(name, value)| format!("{name} = {}\n", literal(value)))
        .collect();
    format!("# {}.\n{imports}\n{constants}{body}", job.comment())
}

/// JSON is Python but for the names of three values.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        other => other.to_string(),
    }
}

/// `word` as one word of the shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
