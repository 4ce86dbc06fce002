//! The flags about which of a run's numbers there are, and who else is told of them.

use super::tensorboard::Board;
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use wattention::error::Result;

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Reporting")]
pub struct Reporting {
    /// Who else is told what metrics.jsonl holds
    #[arg(long, value_name = "NAME", value_enum, default_value_t = ReportTo::None)]
    report_to: ReportTo,

    /// Folder of TensorBoard's event files, which asks for them [default: RUN/runs]
    #[arg(long, value_name = "DIR", alias = "logging-dir")]
    tensorboard_dir: Option<PathBuf>,

    /// Divide the energy of the steps by phase; on a GPU steps then run launch by launch, which is slower
    #[arg(long)]
    pub energy_per_phase: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportTo {
    /// Nobody
    None,
    /// TensorBoard, by event files
    Tensorboard,
}

impl Reporting {
    /// The event file of a run in `root`, which removes those of a run that it replaces.
    pub fn open(&self, root: &Path, resumes: bool) -> Result<Option<Board>> {
        let own = root.join("runs");
        if !resumes {
            Board::clear(&own)?;
        }
        match (&self.tensorboard_dir, self.report_to) {
            (Some(dir), _) => Board::open(dir).map(Some),
            (None, ReportTo::Tensorboard) => Board::open(&own).map(Some),
            (None, ReportTo::None) => Ok(None),
        }
    }
}
