//! An indexed job of Kubernetes, in JSON. Its index is the cell, so it has all cells; finished ones end at once.

use super::{Job, Place};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// How long a pod that has to go may save.
const GRACE: u32 = 120;

pub fn file(job: &Job) -> Result<String> {
    let Some(Place { image, claim }) = &job.place else {
        return Err(Error::usage("a Kubernetes job needs --image and --volume-claim"));
    };
    let folder = job.logs.parent().unwrap_or(&job.folder);
    let mut limits = Map::new();
    if job.gpus > 0 {
        limits.insert("nvidia.com/gpu".into(), job.gpus.to_string().into());
    }
    if let Some(cpus) = job.cpus {
        limits.insert("cpu".into(), cpus.to_string().into());
    }
    // Kubernetes puts the index of the pod in place of the last word.
    let words = |word: &String| Value::from(word.replace("$(", "$$("));
    let command: Vec<Value> =
        job.command.iter().map(words).chain(["--cell", "$(JOB_COMPLETION_INDEX)"].map(Value::from)).collect();
    let container = json!({
        "name": "cell",
        "image": image,
        "command": command,
        "workingDir": folder,
        "resources": { "limits": limits },
        "volumeMounts": [{ "name": "study", "mountPath": folder }],
    });
    let mut spec = json!({
        "completionMode": "Indexed",
        "completions": job.of,
        "parallelism": job.throttle.unwrap_or(job.of),
        "backoffLimitPerIndex": job.retries,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": GRACE,
                "containers": [container],
                "volumes": [{ "name": "study", "persistentVolumeClaim": { "claimName": claim } }],
            },
        },
    });
    if let (Some(hours), Some(pod)) = (job.hours, spec.pointer_mut("/template/spec")) {
        pod["activeDeadlineSeconds"] = json!((hours * 3600.0).ceil() as u64);
    }
    let file = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": "wattention-study-",
            "annotations": { "wattention/title": job.title },
        },
        "spec": spec,
    });
    let text =
        serde_json::to_string_pretty(&file).map_err(|e| Error::internal(format!("a job is no JSON: {e}")))?;
    Ok(text + "\n")
}
