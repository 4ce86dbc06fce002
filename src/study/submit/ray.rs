//! A script for Ray, which runs on the cluster of `RAY_ADDRESS`, or on this machine.

use super::Job;
use crate::error::Result;
use serde_json::json;

const BODY: &str = r#"
import ray


@ray.remote(num_cpus=CPUS, num_gpus=GPUS, max_retries=RETRIES, retry_exceptions=True)
def run(cell):
    with open(f"{LOGS}/cell-{cell}.log", "ab") as log:
        done = subprocess.run(
            [*COMMAND, "--cell", str(cell)], cwd=FOLDER, stdout=log, stderr=log, timeout=SECONDS
        )
    if done.returncode != 0:
        raise RuntimeError(f"cell {cell} ended with {done.returncode}")


def main():
    ray.init()
    left, running, failed = list(CELLS), [], []
    while left or running:
        while left and len(running) < THROTTLE:
            running.append(run.remote(left.pop(0)))
        done, running = ray.wait(running)
        for one in done:
            try:
                ray.get(one)
            except Exception as error:
                failed.append(str(error).strip().splitlines()[-1])
    sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
"#;

pub fn file(job: &Job) -> Result<String> {
    let more = [
        ("RETRIES", json!(job.retries)),
        ("THROTTLE", json!(job.throttle.unwrap_or(job.cells.len()))),
        ("SECONDS", json!(job.hours.map(|hours| hours * 3600.0))),
    ];
    Ok(super::python(job, "import subprocess\nimport sys\n", &more, BODY))
}
