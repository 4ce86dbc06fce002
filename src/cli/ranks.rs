//! One command by several ranks: those that a launcher started, or that `--devices` starts.

use super::failure;
use super::global::Global;
use crate::collective::{Backend, Group, Launch};
use crate::error::{Error, Result};
use crate::settings::named;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

mod together;

pub use together::Together;

/// Commands that ranks share out, and those of which every process does a part of its own.
const SHARED: [&str; 7] =
    ["bench step", "doctor", "evaluate", "finetune", "generate", "profile step", "study"];

/// What the first rank may have to say before this one ends all of them; mpirun takes its time to end a rank.
const PRECEDENCE: Duration = Duration::from_secs(2);
/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(50);

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Ranks")]
pub struct Ranks {
    /// Start so many ranks on this machine, which share out the work
    #[arg(long, value_name = "N")]
    devices: Option<NonZeroUsize>,

    /// End a rank that has waited so long for another one
    #[arg(long, value_name = "SECONDS", default_value_t = 1800.0, value_parser = super::values::above_zero)]
    ddp_timeout: f64,
}

/// The ranks of a command that sums gradients over them.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Ranks")]
pub struct TrainingRanks {
    #[command(flatten)]
    ranks: Ranks,

    /// Over what ranks exchange gradients and weights: from GPU to GPU by NCCL, or over the hosts' memory, in the order of
    /// the ranks [default: nccl on GPUs, host elsewhere]
    #[arg(long, value_name = "NAME", value_parser = named::<Backend>())]
    ddp_backend: Option<Backend>,
}

/// Fails where a launcher has started several processes of `command`, which all would do the same.
pub fn check(command: &str) -> Result<()> {
    match Launch::read() {
        Ok(launch) if launch.world_size > 1 && !SHARED.contains(&command) => Err(Error::usage(format!(
            "`{command}` is the work of one process, and {} has started {}: start it without",
            launch.launcher, launch.world_size
        ))),
        _ => Ok(()),
    }
}

/// Does `work` as one of the ranks that `ranks` says, or alone.
pub fn run(
    ranks: Option<&TrainingRanks>,
    global: &Global,
    work: impl FnOnce(&Global, Rc<Group>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match ranks {
        Some(ranks) => ranks.run(global, work),
        None => work(global, Rc::new(Group::alone())),
    }
}

impl TrainingRanks {
    /// Fails where a flag would have no use, for `why`: any of them and of `others`, or those about exchanges alone.
    pub fn refuse(&self, any: bool, others: &[(&str, bool)], why: &str) -> Result<()> {
        let own = [
            ("--devices", any && self.ranks.devices.is_some()),
            ("--ddp-backend", self.ddp_backend.is_some()),
        ];
        match own.iter().chain(others).find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::usage(format!("{flag}: {why}; leave it out"))),
            None => Ok(()),
        }
    }

    /// Does `work` as one of the ranks. An error of any rank ends all.
    pub fn run(
        &self,
        global: &Global,
        work: impl FnOnce(&Global, Rc<Group>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.ranks.run_over(self.ddp_backend, global, work)
    }
}

impl Ranks {
    /// Does `work` as one of the ranks. An error of any rank ends all.
    pub fn run(
        &self,
        global: &Global,
        work: impl FnOnce(&Global, Rc<Group>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.run_over(None, global, work)
    }

    /// The same by ranks that exchange what their devices have over `backend`.
    fn run_over(
        &self,
        backend: Option<Backend>,
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
        let group = Group::join(&launch, limit, &|| self.devices.is_some() && child_has_ended())?;
        let group = Rc::new(group.over(backend));
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
                    for _ in 0..PRECEDENCE.as_millis() / LOOK.as_millis() {
                        std::thread::sleep(LOOK);
                        if let Some(code) = group.has_ended() {
                            group.abort(code);
                        }
                    }
                }
                let code = failure::report(&error.context(launch.to_string()));
                group.abort(code)
            }
        }
    }
}

/// Whether a rank that [`start`] has started is there no more.
fn child_has_ended() -> bool {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    children.split_whitespace().any(|child| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, state)| state.trim_start().starts_with('Z'))
    })
}

/// Starts all ranks but the first, which takes the place of this process; the error why that is not possible.
fn start(devices: usize) -> Error {
    let failed =
        |e: std::io::Error| Error::internal(format!("--devices {devices}: ranks cannot be started: {e}"));
    let prepared = std::env::current_exe().and_then(|program| {
        // A port that is free now; the ranks of other runs get others.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok((program, port))
    });
    let (program, port) = match prepared {
        Ok(prepared) => prepared,
        Err(e) => return failed(e),
    };
    let rank = |rank: usize| {
        let mut command = Command::new(&program);
        command
            .args(std::env::args_os().skip(1))
            .env("MASTER_ADDR", "localhost")
            .env("MASTER_PORT", port.to_string());
        for (name, value) in
            [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", devices), ("LOCAL_WORLD_SIZE", devices)]
        {
            command.env(name, value.to_string());
        }
        // No store of a torchrun around this one.
        command.env_remove("TORCHELASTIC_USE_AGENT_STORE");
        command
    };
    for other in 1..devices {
        if let Err(e) = rank(other).stdin(Stdio::null()).spawn() {
            return failed(e);
        }
    }
    failed(rank(0).exec())
}
