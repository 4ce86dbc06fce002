//! The flags about which of a run's numbers there are, and who else gets them.

use super::super::values::above_zero;
use crate::settings::named;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Reporting")]
pub struct Reporting {
    /// What else gets the metrics of metrics.jsonl: tensorboard, as event files
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = named::<ReportTo>())]
    report_to: ReportTo,

    /// Folder of TensorBoard's event files, which asks for them [default: RUN/runs]
    #[arg(long, value_name = "DIR", alias = "logging-dir")]
    tensorboard_dir: Option<PathBuf>,

    /// Grams of CO2 for a kilowatt-hour of your electricity: the model card then has the emissions of measured energy
    #[arg(long, value_name = "G", value_parser = above_zero, allow_negative_numbers = true)]
    pub carbon_intensity: Option<f64>,

    /// Divide the energy of the steps by phase; on a GPU steps then run launch by launch, which is slower
    #[arg(long)]
    pub energy_per_phase: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReportTo {
    None,
    /// TensorBoard reads event files.
    Tensorboard,
}

impl Reporting {
    /// The folder of TensorBoard's event files of a run in `root`, if they are wanted.
    pub fn tensorboard(&self, root: &Path) -> Option<PathBuf> {
        match (&self.tensorboard_dir, self.report_to) {
            (Some(dir), _) => Some(dir.clone()),
            (None, ReportTo::Tensorboard) => Some(root.join("runs")),
            (None, ReportTo::None) => None,
        }
    }
}
