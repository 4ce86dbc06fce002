//! What the ranks of a run share, beside its steps.

use super::super::ranks::TrainingRanks;
use crate::collective::Group;
use crate::device::Device;
use crate::error::Result;
use crate::train::{self, Options, RankLayout};
use serde::Deserialize;
use std::path::Path;

#[derive(clap::Args, Debug)]
pub struct Sharing {
    #[command(flatten)]
    pub ranks: TrainingRanks,

    /// 1 keeps of the optimizer's state one part on each rank, which takes less memory
    #[arg(long, value_name = "0|1", default_value_t = 0, help_heading = "Ranks", value_parser = clap::value_parser!(u8).range(0..=1))]
    zero_stage: u8,
}

impl Sharing {
    /// What a rank of `group` has on `device`.
    pub fn layout(&self, options: &Options, device: &Device, group: &Group) -> RankLayout {
        let communication_data_type = options.communication_data_type;
        train::Sharing { zero_stage: self.zero_stage, communication_data_type }.layout(device, group)
    }
}

/// How many ranks a step's accumulation is counted over: those that the run began with, whoever resumes it.
pub fn of_step(group: &Group, dir: &Path, resumes: bool) -> Result<usize> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        ranks: Option<usize>,
    }
    let mut text = match group.is_first() && resumes {
        true => std::fs::read(dir.join("config.json")).unwrap_or_default(),
        false => Vec::new(),
    };
    group.broadcast(&mut text);
    Ok(match serde_json::from_slice::<Config>(&text) {
        Ok(config) => config.ranks.unwrap_or(1),
        Err(_) => group.size(),
    })
}
