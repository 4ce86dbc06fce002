//! What a launcher says of the ranks that it started, by its environment variables.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;

/// Who started the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// No launcher: one process.
    None,
    Torchrun,
    /// `mpirun` of Open MPI.
    Mpirun,
    /// `srun` of SLURM.
    Srun,
    /// Kubeflow's PyTorchJob.
    Kubernetes,
}

/// This rank among all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Launch {
    pub launcher: Launcher,
    pub rank: usize,
    pub world_size: usize,
    /// Among the ranks of this machine; the GPU that it takes.
    pub local_rank: usize,
    pub local_size: usize,
    pub host: String,
    /// Where ranks of different machines meet, where the launcher says so.
    pub master: Option<String>,
    /// Whether torchrun has its store there.
    pub has_store: bool,
    /// The launcher's name of the job.
    pub job: Option<String>,
    /// How often the launcher has started the ranks anew.
    pub restarts: u64,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Launcher::None => "no launcher",
            Launcher::Torchrun => "torchrun",
            Launcher::Mpirun => "mpirun",
            Launcher::Srun => "srun",
            Launcher::Kubernetes => "PyTorchJob",
        })
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {} on {}", self.rank, self.world_size, self.host)
    }
}

/// Where a launcher says what.
struct Names {
    launcher: Launcher,
    rank: &'static str,
    world_size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
    job: &'static str,
    restarts: &'static str,
}

/// In the order of who is asked first. `mpirun` before `srun`: within a job of SLURM, all ranks of `mpirun` have the
/// variables of the job's script, too. SLURM's are those of a step, which a script without `srun` has not.
const LAUNCHERS: [Names; 4] = [
    Names {
        launcher: Launcher::Torchrun,
        rank: "RANK",
        world_size: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        local_size: "LOCAL_WORLD_SIZE",
        job: "TORCHELASTIC_RUN_ID",
        restarts: "TORCHELASTIC_RESTART_COUNT",
    },
    Names {
        launcher: Launcher::Mpirun,
        rank: "OMPI_COMM_WORLD_RANK",
        world_size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
        job: "OMPI_MCA_ess_base_jobid",
        restarts: "",
    },
    Names {
        launcher: Launcher::Srun,
        rank: "SLURM_PROCID",
        world_size: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_size: "",
        job: "SLURM_JOB_ID",
        restarts: "SLURM_RESTART_COUNT",
    },
    // Its pods have one rank each, and say nothing of those of a machine.
    Names {
        launcher: Launcher::Kubernetes,
        rank: "RANK",
        world_size: "WORLD_SIZE",
        local_rank: "",
        local_size: "",
        job: "",
        restarts: "",
    },
];

impl Launch {
    /// One process.
    pub fn alone() -> Self {
        Launch {
            launcher: Launcher::None,
            rank: 0,
            world_size: 1,
            local_rank: 0,
            local_size: 1,
            host: host(),
            master: None,
            has_store: false,
            job: None,
            restarts: 0,
        }
    }

    /// What this process's environment says.
    pub fn read() -> Result<Self> {
        Launch::read_from(&|name| std::env::var(name).ok())
    }

    /// What the variables say. Fails with 2 for those that contradict each other.
    pub fn read_from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !name.is_empty() && !value.is_empty());
        let is_pod = variable("KUBERNETES_PORT").is_some() && variable("LOCAL_RANK").is_none();
        let names = LAUNCHERS.iter().find(|names| match names.launcher {
            Launcher::Torchrun if is_pod => false,
            Launcher::Kubernetes if !is_pod => false,
            // SLURM's rank alone is that of a job's script.
            Launcher::Srun => variable(names.world_size).is_some(),
            _ => variable(names.rank).is_some() || variable(names.world_size).is_some(),
        });
        let Some(names) = names else { return Ok(Launch::alone()) };
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
                let what = format!("{name} is '{text}', which is no number");
                Error::usage(format!("{what}: unset it, or let {} set it", names.launcher))
            }),
        };
        let needed = |name: &str, beside: &str| {
            number(name)?.ok_or_else(|| {
                let what = format!("{beside} is set and {name} is not");
                Error::usage(format!("{what}: unset it, or let {} set both", names.launcher))
            })
        };
        let (rank, world_size) = match variable(names.rank) {
            Some(_) => (needed(names.rank, "")?, needed(names.world_size, names.rank)?),
            None => (needed(names.rank, names.world_size)?, 0),
        };
        let within = |what: &str, rank: usize, of: &str, size: usize| match rank < size {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "{what} is {rank} and {of} is {size}: ranks are 0 to {of} - 1; unset them, or let {} set them",
                names.launcher
            ))),
        };
        within(names.rank, rank, names.world_size, world_size)?;
        let local_rank = number(names.local_rank)?;
        let local_size = match (number(names.local_size)?, names.launcher) {
            (Some(size), _) => size,
            (None, Launcher::Srun) => tasks_of_node(&variable).unwrap_or(1 + local_rank.unwrap_or(0)),
            (None, _) => 1 + local_rank.unwrap_or(0),
        };
        let local_rank = local_rank.unwrap_or(0);
        within(names.local_rank, local_rank, names.local_size, local_size)?;
        if local_size > world_size {
            return Err(Error::usage(format!(
                "{} is {local_size} and {} is {world_size}: a machine cannot have more ranks than there are; let {} set \
                 them",
                names.local_size, names.world_size, names.launcher
            )));
        }
        let master = variable("MASTER_ADDR").map(|host| match variable("MASTER_PORT") {
            Some(port) => format!("{host}:{port}"),
            None => host,
        });
        Ok(Launch {
            launcher: names.launcher,
            rank,
            world_size,
            local_rank,
            local_size,
            host: host(),
            master,
            has_store: variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True"),
            job: variable(names.job),
            restarts: number(names.restarts)?.unwrap_or(0) as u64,
        })
    }

    /// Whether all ranks are on this machine.
    pub fn is_local(&self) -> bool {
        self.local_size == self.world_size
    }

    /// The threads that this rank computes with on a machine with `cores`.
    pub fn threads(&self, cores: usize) -> usize {
        (cores / self.local_size).max(1)
    }
}

/// Ranks on this node, of SLURM's list such as `2(x3),1`.
fn tasks_of_node(variable: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    let node: usize = variable("SLURM_NODEID")?.parse().ok()?;
    let list = variable("SLURM_STEP_TASKS_PER_NODE")?;
    let counts = list.split(',').flat_map(|part| {
        let (count, times) = part.split_once("(x").unwrap_or((part, "1)"));
        let times = times.trim_end_matches(')').parse().unwrap_or(1);
        std::iter::repeat_n(count.parse::<usize>().ok(), times)
    });
    counts.into_iter().nth(node)?
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this machine".into() } else { name.trim().into() }
}
