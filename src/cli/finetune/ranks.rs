//! One run by several ranks: those that a launcher started, or that `--devices` starts.

use super::super::failure;
use super::super::global::Global;
use crate::collective::{Group, Launch, MPI};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::train::Shard;
use crate::units::{Joules, Seconds};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// What another rank may have to say before this one ends all of them.
const PRECEDENCE: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Ranks")]
pub struct Ranks {
    /// Start so many ranks on this machine, by mpirun, that share out every step
    #[arg(long, value_name = "N")]
    devices: Option<NonZeroUsize>,

    /// 1 keeps of the optimizer's state one part on each rank, which takes less memory and gives the same bits
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    zero_stage: u8,

    /// End a rank that has waited so long for another one
    #[arg(long, value_name = "SECONDS", default_value_t = 1800.0, value_parser = super::super::values::above_zero)]
    ddp_timeout: f64,
}

impl Ranks {
    /// The part of the optimizer's state that a rank of `group` has.
    pub fn shard(&self, group: &Group) -> Shard {
        match self.zero_stage {
            0 => Shard::ALL,
            _ => Shard { rank: group.rank(), size: group.size() },
        }
    }

    /// Does `work` as one of the ranks. An error of any rank ends all.
    pub fn run(
        &self,
        global: &Global,
        work: impl FnOnce(&Global, Rc<Group>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let launch = Launch::read()?;
        match self.devices.map(NonZeroUsize::get) {
            Some(devices) if devices > 1 && launch.world_size == 1 => return Err(start(devices).into()),
            Some(devices) if launch.world_size > 1 && devices != launch.local_size => {
                let what = format!(
                    "--devices {devices}: {} has started {} ranks here",
                    launch.launcher, launch.local_size
                );
                return Err(Error::usage(format!("{what}; leave --devices out")).into());
            }
            _ => {}
        }
        if launch.world_size == 1 {
            return work(global, Rc::new(Group::alone()));
        }
        let limit = Duration::try_from_secs_f64(self.ddp_timeout).unwrap_or(Duration::MAX);
        let group = Rc::new(Group::join(&launch, limit)?);
        let device = match global.device.as_deref() {
            Some("cuda") => Some(format!("cuda:{}", launch.local_rank)),
            _ => global.device.clone(),
        };
        let global = Global { device, follows: !group.is_first(), ..global.clone() };
        match work(&global, group.clone()) {
            Ok(()) => {
                group.finish();
                Ok(())
            }
            Err(error) if matches!(error.downcast_ref(), Some(Error::Interrupted(_))) => {
                group.finish();
                Err(error)
            }
            Err(error) => {
                if !group.is_first() {
                    // What is wrong on all ranks is told by the first.
                    std::thread::sleep(PRECEDENCE);
                }
                let code = failure::report(&error.context(launch.to_string()));
                group.abort(code)
            }
        }
    }
}

/// Puts `mpirun` with so many of this program in place of this process; the error why that is not possible.
fn start(devices: usize) -> Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return Error::internal(format!("the program's own path: {e}")),
    };
    if !MPI {
        return Error::Device(format!(
            "--devices {devices}: this program was built without MPI; build it with `cargo install --features mpi`"
        ));
    }
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--bind-to", "none", "--oversubscribe", "-n", &devices.to_string()]).arg(program);
    mpirun.args(std::env::args_os().skip(1));
    // A rank that is asked to stop saves first: mpirun waits so many seconds before SIGTERM, and again before SIGKILL.
    mpirun.env("OMPI_MCA_odls_base_sigkill_timeout", "10");
    if std::fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0) {
        mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    }
    let error = mpirun.exec();
    Error::Device(format!(
        "--devices {devices} needs mpirun of Open MPI: {error}; install it (Debian: openmpi-bin)"
    ))
}

/// What the ranks of a run came to together, in this attempt.
#[derive(Serialize)]
pub struct Together {
    world_size: usize,
    /// Seconds that the first rank has spent in exchanges with the others, waits for them included.
    exchange_runtime: Seconds,
    /// Of all devices; absent where that of any is.
    energy_j: Option<Joules>,
    devices: Vec<Spent>,
}

/// What a device took, whichever of its ranks counted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Spent {
    host: String,
    /// A GPU by its UUID; the counters of a processor are those of its machine.
    device: String,
    ranks: Vec<usize>,
    energy_j: Option<Joules>,
}

impl Together {
    /// None of one process. `energy` is what this rank has counted.
    pub fn of(group: &Group, device: &Device, energy: Option<Joules>) -> Result<Option<Self>> {
        if group.is_alone() {
            return Ok(None);
        }
        let spent = Spent {
            host: Launch::read()?.host,
            device: device.uuid().unwrap_or_else(|| device.name()),
            ranks: vec![group.rank()],
            energy_j: energy,
        };
        let not_json = |e: serde_json::Error| Error::internal(format!("what ranks spent is not JSON: {e}"));
        let all = group.gather_texts(vec![serde_json::to_string(&spent).map_err(not_json)?])?;
        let all: Vec<Spent> =
            all.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>().map_err(not_json)?;
        let devices = by_device(all);
        Ok(Some(Together {
            world_size: group.size(),
            exchange_runtime: group.spent(),
            energy_j: devices.iter().map(|of| of.energy_j).sum(),
            devices,
        }))
    }
}

/// Ranks of one device have counted the same joules, the one that was there the longest all of them.
fn by_device(all: Vec<Spent>) -> Vec<Spent> {
    let mut devices: Vec<Spent> = Vec::new();
    for spent in all {
        match devices.iter_mut().find(|of| (&of.host, &of.device) == (&spent.host, &spent.device)) {
            None => devices.push(spent),
            Some(of) => {
                of.ranks.extend(spent.ranks);
                let more = |(a, b): (Joules, Joules)| if a > b { a } else { b };
                of.energy_j = of.energy_j.zip(spent.energy_j).map(more).or(of.energy_j).or(spent.energy_j);
            }
        }
    }
    devices
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_counted_once_however_many_ranks_have_it() {
        let spent = |host: &str, device: &str, rank: usize, joules: Option<f64>| Spent {
            host: host.into(),
            device: device.into(),
            ranks: vec![rank],
            energy_j: joules.map(Joules),
        };
        let all = vec![
            spent("a", "cpu", 0, Some(5.0)),
            spent("a", "cpu", 1, Some(7.0)),
            spent("b", "cpu", 2, Some(11.0)),
            spent("b", "GPU-1", 3, None),
        ];
        let devices = by_device(all);
        let of: Vec<_> = devices.iter().map(|of| (of.ranks.clone(), of.energy_j.map(|j| j.0))).collect();
        assert_eq!(of, [(vec![0, 1], Some(7.0)), (vec![2], Some(11.0)), (vec![3], None)]);
        assert_eq!(devices.iter().map(|of| of.energy_j).sum::<Option<Joules>>(), None);
    }
}
