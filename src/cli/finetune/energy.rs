//! `energy.json`: what a run has cost so far, all of its attempts together.

use super::super::energy::open;
use super::super::global::Global;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use wattention::device::Device;
use wattention::energy::{
    Activity, Attribution, Books, Efficiency, PaperEfficiency, PhaseEnergy, RunEnergy, Sampler, StepPhases,
    Work, phase_table,
};
use wattention::error::Result;
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
    books: Books,
    /// Asked for by `--energy-per-phase`.
    phases: Option<StepPhases>,
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
        let (phases, books) = (per_phase.then(StepPhases::default), Books::start(&sampler, root));
        let work = Work { samples: 0, tokens: 0 };
        Ok(Energy { sampler, books, phases, work, runtime: Seconds(0.0), began: None })
    }

    /// Goes on with what the attempts before this one cost, or forgets it.
    pub fn go_on(&mut self, resumes: bool, global: &Global) -> Result<()> {
        if !resumes {
            return self.books.begin();
        }
        if let Err(why) = self.books.go_on() {
            let path = self.books.path().display();
            global.warn(format_args!("{path}: {why}; what the run costs is not known"));
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
        if let Some(phases) = &mut self.phases {
            phases.enter(activity, &self.sampler);
        }
        self.books.enter(activity);
    }

    fn take_in(&mut self) {
        if let Some(phases) = &mut self.phases {
            phases.take_in(&self.sampler);
        }
    }

    /// Writes down what the run has cost so far.
    pub fn write(&mut self) -> Result<Report> {
        let here = self.began.map_or(Seconds(0.0), |began| began.elapsed().into());
        let (work, runtime) = (self.work, self.runtime + here);
        let run = self.books.so_far();
        let report = Report {
            training: run.efficiency(Activity::Training, work),
            paper: run.paper(work.samples, runtime),
            phases: self.phases(),
            run,
        };
        self.books.write(&report)?;
        Ok(report)
    }

    fn phases(&self) -> Option<Phases> {
        let found =
            self.phases.as_ref()?.attribution().map(|(phases, attribution)| known(phases, attribution));
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
