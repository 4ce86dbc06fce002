//! What training costs when several processes worked on it: the windows between checkpoints, in `energy.jsonl`.

use super::log::Log;
use crate::energy::{Measurement, Sampler, Window};
use crate::error::Result;
use serde_json::{Value, json};
use std::path::Path;

/// Windows over a training run. One spans this process's part; others end at each checkpoint.
pub struct Parts<'a> {
    sampler: &'a Sampler,
    log: Log,
    /// Energy up to the checkpoint that this process went on from, or why it is not known.
    before: Result<f64, String>,
    resumed: bool,
    whole: Window,
    since_checkpoint: Window,
}

/// Energy of the whole run, and what the sensors said in this process's part of it.
pub struct Spent {
    /// Joules, or why they are not known.
    pub energy: Result<f64, String>,
    pub last: Measurement,
}

impl<'a> Parts<'a> {
    /// Starts to measure a run that goes on from `step`, 0 for its beginning.
    pub fn start(sampler: &'a Sampler, path: &Path, step: u64) -> Result<Self> {
        let log = Log::open(path, step)?;
        let before = sum(&Log::read(path), step);
        let (whole, since_checkpoint) = (Window::start(sampler), Window::start(sampler));
        Ok(Parts { sampler, log, before, resumed: step > 0, whole, since_checkpoint })
    }

    /// The state after `step` is being saved: what it took since the last time counts from now on.
    pub fn checkpoint(&mut self, step: u64) -> Result<()> {
        let part = std::mem::replace(&mut self.since_checkpoint, Window::start(self.sampler)).stop();
        let joules = part.energy.map(|energy| energy.0);
        self.log.line(&json!({ "energy_j": joules, "time_s": part.time.0, "note": part.note, "step": step }))
    }

    pub fn stop(self) -> Spent {
        let last = self.whole.stop();
        let here = last.energy.map(|energy| energy.0).ok_or_else(|| last.note.clone());
        let energy = match (here, self.before) {
            (Ok(here), Ok(before)) if self.resumed => Ok(before + here),
            (Ok(_), Err(why)) if self.resumed => {
                Err(format!("training was stopped and went on, and of its first part {why}"))
            }
            (here, _) => here,
        };
        Spent { energy, last }
    }
}

/// Joules of the parts up to `step`, which they must reach.
fn sum(lines: &[Value], step: u64) -> Result<f64, String> {
    if lines.last().and_then(|line| line["step"].as_u64()) != Some(step) {
        return Err("nothing was recorded".into());
    }
    let joules = lines.iter().map(|line| match line["energy_j"].as_f64() {
        Some(joules) => Ok(joules),
        None => Err(line["note"].as_str().unwrap_or("nothing was recorded").to_string()),
    });
    joules.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_where_all_are_known() {
        let part =
            |step: u64, energy: Option<f64>| json!({ "energy_j": energy, "note": "why", "step": step });
        assert_eq!(sum(&[part(2, Some(1.5)), part(4, Some(2.0))], 4), Ok(3.5));
        assert_eq!(sum(&[part(2, None), part(4, Some(2.0))], 4), Err("why".into()));
        // The process ended between a checkpoint and its line.
        assert!(sum(&[part(2, Some(1.5))], 4).is_err());
        assert!(sum(&[], 4).is_err());
    }
}
