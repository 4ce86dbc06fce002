//! `energy.json`: what a run has cost so far, all of its attempts together.

use super::super::energy::open;
use super::super::global::Global;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wattention::device::Device;
use wattention::energy::{
    Activity, Attribution, Efficiency, Increments, Ledger, PaperEfficiency, PhaseEnergy, RunEnergy, Sampler,
    Work, phase_table,
};
use wattention::error::{Error, Result};
use wattention::files;
use wattention::trace;
use wattention::train::{Summary, TrainerState};
use wattention::units::{Joules, Seconds};

/// What a run directory and `--json` say.
#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    run: RunEnergy,
    /// The steps; of the tokens, source and target.
    training: Efficiency,
    paper: Option<PaperEfficiency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<Phases>,
}

/// The steps of this attempt by phase.
#[derive(Serialize)]
#[serde(untagged)]
enum Phases {
    Known {
        #[serde(rename = "total_j")]
        total: Joules,
        #[serde(rename = "residual_j")]
        residual: Joules,
        phases: Vec<PhaseEnergy>,
    },
    Unknown {
        why: String,
    },
}

/// The books of a run.
pub struct Energy {
    sampler: Sampler,
    ledger: Ledger,
    /// Asked for by `--energy-per-phase`; or why it had to be given up.
    increments: Option<Result<Increments, String>>,
    path: PathBuf,
    earlier: Option<RunEnergy>,
    /// Done in steps, by earlier attempts too.
    work: Work,
    /// Of training with its evaluations and checkpoints: before this attempt and, once it has begun, in it.
    runtime: Seconds,
    began: Option<Instant>,
}

impl Energy {
    /// Starts the books of a run in `root`; what an earlier run left is read when this is known to go on with it.
    pub fn start(device: &Device, per_phase: bool, root: &Path) -> Result<Self> {
        let sampler = open(device)?;
        let increments = per_phase.then(|| Ok(Increments::default()));
        let (ledger, path) = (Ledger::start(&sampler), root.join("energy.json"));
        let work = Work { samples: 0, tokens: 0 };
        let runtime = Seconds(0.0);
        Ok(Energy { sampler, ledger, increments, path, earlier: None, work, runtime, began: None })
    }

    /// Goes on with what the attempts before this one cost, or forgets it.
    pub fn go_on(&mut self, resumes: bool, global: &Global) -> Result<()> {
        if !resumes {
            return match fs::remove_file(&self.path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::output(&self.path, e)),
                _ => Ok(()),
            };
        }
        let text = fs::read_to_string(&self.path).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string())) {
            Ok(earlier) => self.earlier = Some(earlier),
            Err(why) => {
                let path = self.path.display();
                global.warn(format_args!("{path}: {why}; what earlier attempts cost is not counted"));
            }
        }
        Ok(())
    }

    /// Training begins, where `state` stands.
    pub fn trains(&mut self, state: &TrainerState) {
        self.work = Work { samples: state.samples, tokens: state.tokens };
        (self.runtime, self.began) = (state.times.total(), Some(Instant::now()));
    }

    /// A step over so many samples and tokens is done: what is known of its energy is taken in.
    pub fn stepped(&mut self, samples: u64, tokens: u64) {
        self.work.samples += samples;
        self.work.tokens += tokens;
        self.take_in();
    }

    /// Training came to its end.
    pub fn trained(&mut self, summary: &Summary) {
        self.work = Work { samples: summary.samples, tokens: summary.tokens };
        (self.runtime, self.began) = (summary.times.total(), None);
    }

    pub fn enter(&mut self, activity: Activity) {
        let is_of_steps = |activity| matches!(activity, Activity::Training | Activity::Data);
        let training = self.increments.is_some() && trace::is_timing();
        if activity == Activity::Training && self.increments.is_some() && !training {
            self.sampler.record_changes();
            trace::start_timeline();
        } else if training && !is_of_steps(activity) {
            self.take_in();
            // What happens until the next step is no part of the steps.
            if let Some(Ok(increments)) = &mut self.increments {
                increments.cut();
            }
            trace::stop_timeline();
            self.sampler.stop_changes();
        }
        self.ledger.enter(activity);
    }

    fn take_in(&mut self) {
        if let Some(Ok(increments)) = &mut self.increments {
            let taken = increments.add(self.sampler.take_changes(), trace::take_timeline());
            if let Err(why) = taken {
                self.increments = Some(Err(why.to_string()));
            }
        }
    }

    /// Writes down what the run has cost so far.
    pub fn write(&mut self) -> Result<Report> {
        let here = self.began.map_or(Seconds(0.0), |began| began.elapsed().into());
        let (work, runtime) = (self.work, self.runtime + here);
        let attempt = self.ledger.so_far();
        let run = match &self.earlier {
            Some(earlier) => attempt.after(earlier),
            None => attempt,
        };
        let report = Report {
            training: run.efficiency(Activity::Training, work),
            paper: run.paper(work.samples, runtime),
            phases: self.phases(),
            run,
        };
        let text = serde_json::to_string_pretty(&report)
            .map_err(|e| Error::internal(format!("the run's energy is not JSON: {e}")))?;
        files::write_text(&self.path, &(text + "\n"))?;
        Ok(report)
    }

    fn phases(&self) -> Option<Phases> {
        let increments = self.increments.as_ref()?;
        let found = increments.as_ref().map_err(String::clone).and_then(|increments| {
            let (phases, attribution) = increments.attribution().map_err(|e| e.to_string())?;
            Ok(known(phases, attribution))
        });
        Some(found.unwrap_or_else(|why| Phases::Unknown { why }))
    }
}

/// The largest first, and what is outside all phases last.
fn known(names: &[trace::Phase], attribution: Attribution) -> Phases {
    let Attribution { phases, rest, total, residual } = attribution;
    let named = names.iter().zip(phases);
    let mut all: Vec<PhaseEnergy> = named
        .map(|(name, share)| PhaseEnergy { phase: name.label.into(), pass: Some(name.pass), share })
        .collect();
    all.sort_by(|a, b| b.share.energy.0.total_cmp(&a.share.energy.0));
    all.push(PhaseEnergy { phase: "rest".into(), pass: None, share: rest });
    Phases::Known { total, residual, phases: all }
}

impl Report {
    /// A short table, or one line that says why there is none.
    pub fn text(&self) -> String {
        let mut text = self.run.table();
        if self.run.whole.energy.is_none() {
            return text;
        }
        text += &format!("\ntraining: {}", self.training.text("token"));
        if let Some(paper) = &self.paper {
            text += &format!("\n{}", paper.text());
        }
        match &self.phases {
            Some(Phases::Known { total, residual, phases }) => {
                text += &format!("\n{}", phase_table(phases, *total, *residual));
            }
            Some(Phases::Unknown { why }) => text += &format!("\nenergy by phase: n/a: {why}"),
            None => {}
        }
        text
    }
}
