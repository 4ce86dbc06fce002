//! A script for GNU parallel, which can reach other machines by ssh (`--sshloginfile`).

use super::{Job, quoted};
use crate::error::Result;

pub fn file(job: &Job) -> Result<String> {
    let (logs, jobs) = (job.logs.to_string_lossy(), job.throttle.unwrap_or(1));
    // Each of the cells at a time has GPUs of its own.
    let gpus = match job.gpus {
        0 => String::new(),
        1 => "CUDA_VISIBLE_DEVICES=$(({%} - 1)) ".into(),
        n => format!("CUDA_VISIBLE_DEVICES=$(seq -s, $((({{%}} - 1) * {n})) $(({{%}} * {n} - 1))) "),
    };
    let limit = job
        .hours
        .map_or(String::new(), |hours| format!("timeout --signal=TERM {}s ", (hours * 3600.0).ceil()));
    let log = format!("{}/cell-{{}}.log", quoted(&logs));
    let task = format!("{gpus}{limit}{} --cell {{}} >>{log} 2>&1", job.shell());
    let cells = job.cells.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    Ok(format!(
        "#!/bin/bash\n\
         # {}. Given again, it runs those that failed.\n\
         set -euo pipefail\n\
         cd {}\n\
         exec parallel --will-cite --jobs {jobs} --retries {} --joblog {} --resume-failed \\\n    {} ::: {cells}\n",
        job.comment(),
        quoted(&job.folder.to_string_lossy()),
        job.retries + 1,
        quoted(&format!("{logs}/parallel.log")),
        quoted(&task),
    ))
}
