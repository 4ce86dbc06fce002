//! A script for HyperQueue's Python interface.

use super::Job;
use crate::error::{Error, Result};

const BODY: &str = r#"
from hyperqueue import Client, Job
from hyperqueue.ffi.protocol import ResourceRequest


def job():
    # A task that fails leaves the others alone.
    job = Job(max_fails=None)
    for cell in CELLS:
        log = f"{LOGS}/cell-{cell}.log"
        job.program(
            ["bash", "-c", 'exec "$@" >>"$0" 2>&1', log, *COMMAND, "--cell", str(cell)],
            cwd=FOLDER,
            stdout=None,
            stderr=None,
            resources=ResourceRequest(cpus=CPUS, resources={"gpus/nvidia": GPUS} if GPUS else {}),
            name=f"cell-{cell}",
        )
    return job


if __name__ == "__main__":
    client = Client(os.environ.get("HQ_SERVER_DIR"))
    client.wait_for_jobs([client.submit(job())])
"#;

pub fn file(job: &Job) -> Result<String> {
    if job.throttle.is_some() || job.hours.is_some() {
        let what = "HyperQueue starts as many cells as its workers have room for: leave out --throttle and --hours, \
                    and say by --cpus and --gpus what a cell takes";
        return Err(Error::usage(what));
    }
    Ok(super::python(job, "import os\n", &[], BODY))
}
