//! The flags about which of a run's numbers there are, and who else gets them.

use clap::ValueEnum;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Reporting")]
pub struct Reporting {
    /// Who else gets what metrics.jsonl holds
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ReportTo::None)]
    report_to: ReportTo,

    /// Folder of TensorBoard's event files, which asks for them [default: RUN/runs]
    #[arg(long, value_name = "DIR", alias = "logging-dir")]
    tensorboard_dir: Option<PathBuf>,

    /// Grams of CO2 for a kilowatt-hour of your electricity: the model card then has the emissions of measured energy
    #[arg(long, value_name = "G", value_parser = grams)]
    pub carbon_intensity: Option<f64>,

    /// Divide the energy of the steps by phase; on a GPU steps then run launch by launch, which is slower
    #[arg(long)]
    pub energy_per_phase: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportTo {
    /// metrics.jsonl alone
    None,
    /// TensorBoard, by event files
    Tensorboard,
}

fn grams(text: &str) -> Result<f64, String> {
    let grams: Option<f64> = text.parse().ok().filter(|grams: &f64| grams.is_finite() && *grams >= 0.0);
    grams.ok_or_else(|| "give grams of CO2 for a kilowatt-hour, such as 380".into())
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
