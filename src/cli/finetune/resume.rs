//! Where a run goes on.

use super::super::global::Global;
use super::run_dir::RunDir;
use std::path::Path;
use wattention::error::{Error, Result};
use wattention::train::checkpoint::{self, Checkpoint, Settings};

/// The checkpoint that `wanted` asks for: `auto` is the newest complete one, if there is one.
///
/// One of a run with other settings, another model or other data is refused.
pub fn find(
    run_dir: &RunDir,
    wanted: &Path,
    settings: &Settings,
    device: &str,
    global: &Global,
) -> Result<Option<Checkpoint>> {
    let found = match wanted == Path::new("auto") {
        true => newest(run_dir, global)?,
        false => Some(named(run_dir, wanted)?),
    };
    let Some(checkpoint) = found else {
        match run_dir.settings()? {
            Some(then) => settings.check(&then, &format!("the run in {}", run_dir.root().display()))?,
            None => run_dir.check_empty()?,
        }
        global.note("nothing to go on from: the run starts at the beginning");
        return Ok(None);
    };
    settings.check(&checkpoint.manifest.settings, &checkpoint.dir.display().to_string())?;
    global.note(format_args!("going on from {}", checkpoint.dir.display()));
    let (version, now) = (&checkpoint.manifest.version, env!("CARGO_PKG_VERSION"));
    for (what, then, now) in
        [("wattention", version.as_str(), now), ("device", &checkpoint.manifest.device, device)]
    {
        if then != now {
            global.warn(format_args!(
                "{what} was {then} and is {now}: the result may differ in its last bits from a run in one go"
            ));
        }
    }
    Ok(Some(checkpoint))
}

fn newest(run_dir: &RunDir, global: &Global) -> Result<Option<Checkpoint>> {
    let found = checkpoint::newest(run_dir.root())?;
    for why in &found.passed_over {
        global.warn(format_args!("passed over a checkpoint: {why}"));
    }
    Ok(found.checkpoint)
}

fn named(run_dir: &RunDir, path: &Path) -> Result<Checkpoint> {
    let checkpoint = checkpoint::open(path)?;
    let parent = |path: &Path| path.canonicalize().ok()?.parent().map(Path::to_path_buf);
    match parent(path) == run_dir.root().canonicalize().ok() {
        true => Ok(checkpoint),
        false => Err(Error::usage(format!(
            "--resume {}: not a checkpoint of --output-dir {}; to start a new run from its weights, give it as --model",
            path.display(),
            run_dir.root().display()
        ))),
    }
}
