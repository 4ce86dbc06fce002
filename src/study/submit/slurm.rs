//! An array of SLURM. A task that is asked to save before its limit leaves its checkpoint and is put back into the queue.

use super::{Job, quoted};
use crate::error::{Error, Result};
use std::path::Path;

/// Before its limit a task gets SIGUSR1, so many seconds, and SLURM may be a minute late.
const WARNING: u32 = 120;

/// What the task does. A signal ends `wait`, and the program saves before it ends.
const BODY: &str = r#"
"${command[@]}" --cell "$SLURM_ARRAY_TASK_ID" &
worker=$!
asked=0
trap 'asked=1; kill -USR1 "$worker"' USR1
trap 'kill -TERM "$worker"' TERM
code=0
wait "$worker" || code=$?
while kill -0 "$worker" 2>/dev/null; do
    code=0
    wait "$worker" || code=$?
done
# The program leaves with 143 when it has saved because it was asked to.
if ((asked && code == 143)); then
    exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"#;

pub fn file(job: &Job) -> Result<String> {
    let throttle = job.throttle.map_or(String::new(), |most| format!("%{most}"));
    let mut options = vec![
        "job-name=wattention-study".to_string(),
        format!("array={}{throttle}", ranges(&job.cells)),
        format!("chdir={}", path(&job.folder)?),
        format!("output={}/cell-%a.log", path(&job.logs)?),
        "open-mode=append".into(),
        "requeue".into(),
        format!("signal=B:USR1@{WARNING}"),
        "ntasks=1".into(),
    ];
    options.extend((job.gpus > 0).then(|| format!("gres=gpu:{}", job.gpus)));
    options.extend(job.cpus.map(|cpus| format!("cpus-per-task={cpus}")));
    options.extend(job.hours.map(|hours| format!("time={}", (hours * 60.0).ceil() as u64)));
    options.extend(job.partition.as_ref().map(|name| format!("partition={name}")));
    let options: String = options.iter().map(|option| format!("#SBATCH --{option}\n")).collect();
    let words: Vec<String> = job.command.iter().map(|word| quoted(word)).collect();
    Ok(format!(
        "#!/bin/bash\n# {}, one task each.\n{options}\ncommand=({})\n{}",
        job.comment(),
        words.join(" "),
        BODY.trim_start()
    ))
}

/// Numbers in rising order, as `0-3,7`.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |&(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// A path in an option: SLURM reads `%` as a pattern there, and has no quotes that hold everywhere.
fn path(path: &Path) -> Result<String> {
    let text = path.to_string_lossy().into_owned();
    match text.contains(|c: char| c.is_whitespace() || c.is_control() || "%\"'\\".contains(c)) {
        true => Err(Error::usage(format!(
            "{text}: SLURM cannot take a folder whose name has spaces, quotes or %; choose another --output-dir"
        ))),
        false => Ok(text),
    }
}
