//! `energy.json`: what a run has cost so far, over all processes that worked on it.

use super::Means;
use super::observer::{Message, Observer};
use crate::collective::Group;
use crate::device::Device;
use crate::energy::{
    Activity, Attribution, DeviceEnergy, Efficiency, Ledger, PaperEfficiency, PhaseEnergy, RunEnergy,
    Sampler, StepPhases, Work, of_devices, phase_table,
};
use crate::error::Result;
use crate::files;
use crate::trace;
use crate::train::TrainerState;
use crate::units::{Joules, Seconds};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

/// What `energy.json` says.
#[derive(Serialize)]
pub struct EnergyReport {
    /// Of the devices of all ranks together.
    #[serde(flatten)]
    pub run: RunEnergy,
    /// What each device took in this attempt; none of one process.
    #[serde(skip)]
    pub devices: Vec<DeviceEnergy>,
    /// Cost of the steps per sample and per token, source and target.
    pub training: Efficiency,
    pub paper: Option<PaperEfficiency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phases: Option<Phases>,
}

/// The steps of this attempt by phase, on the first rank's device.
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

/// A ledger with what earlier attempts at the same run booked.
pub(super) struct Books<'a> {
    sampler: &'a Sampler,
    device: &'a Device,
    group: Rc<Group>,
    ledger: Ledger,
    /// What the devices of all ranks had taken when these last met.
    met: Option<(RunEnergy, Vec<DeviceEnergy>)>,
    path: PathBuf,
    earlier: Option<RunEnergy>,
    /// Why it is not known what earlier attempts took.
    lost: Option<String>,
    /// Where the steps are divided by phase.
    phases: Option<StepPhases>,
    /// Samples and tokens of the steps, by earlier attempts too.
    work: Work,
    /// Time of training with its evaluations and checkpoints before this attempt.
    runtime: Seconds,
    /// When training began in this attempt, while it lasts.
    began: Option<Instant>,
}

impl<'a> Books<'a> {
    /// Starts the books of a run in `root`; what is there is read when this is known to resume it.
    pub fn start(means: &Means<'a>, per_phase: bool, root: &Path) -> Self {
        Books {
            sampler: means.sampler,
            device: means.device,
            group: means.group.clone(),
            ledger: Ledger::start(means.sampler),
            met: None,
            path: root.join("energy.json"),
            earlier: None,
            lost: None,
            phases: per_phase.then(StepPhases::default),
            work: Work { samples: 0, tokens: 0 },
            runtime: Seconds(0.0),
            began: None,
        }
    }

    /// Forgets what another run left.
    pub fn begin(&mut self) -> Result<()> {
        files::remove(&self.path)
    }

    /// Adds to what the attempts before this one took. Where that cannot be read, the run's energy is not known, and
    /// a warning says why.
    pub fn resume(&mut self, observer: &mut dyn Observer) {
        let text = fs::read_to_string(&self.path).map_err(|e| e.to_string());
        match text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string())) {
            Ok(earlier) => self.earlier = Some(earlier),
            Err(why) => {
                let path = self.path.display();
                observer.message(Message::Warning(format!("{path}: {why}; what the run costs is not known")));
                self.lost = Some(format!("what earlier attempts took is not known: {why}"));
            }
        }
    }

    /// Training begins at `state`.
    pub fn trains(&mut self, state: &TrainerState) {
        self.work = Work { samples: state.samples, tokens: state.tokens };
        (self.runtime, self.began) = (state.times.total(), Some(Instant::now()));
    }

    /// A step over so many samples and tokens is done; none where it changed no weight.
    pub fn stepped(&mut self, samples: u64, tokens: u64) {
        self.work.samples += samples;
        self.work.tokens += tokens;
        if let Some(phases) = &mut self.phases {
            phases.take_in(self.sampler);
        }
    }

    /// Training came to its end, after so much work in `runtime`.
    pub fn trained(&mut self, work: Work, runtime: Seconds) {
        (self.work, self.runtime, self.began) = (work, runtime, None);
    }

    pub fn enter(&mut self, activity: Activity) {
        if let Some(phases) = &mut self.phases {
            phases.enter(activity, self.sampler);
        }
        self.ledger.enter(activity);
    }

    pub fn phases(&self) -> Option<&StepPhases> {
        self.phases.as_ref()
    }

    /// All ranks are here at once: what the devices of all have taken until now is what is written next.
    pub fn meet(&mut self) -> Result<()> {
        self.met = Some(of_devices(self.ledger.so_far(), self.device, &self.group)?);
        Ok(())
    }

    /// All that was booked until now, by earlier attempts too, and what each device took in this one. What the devices of
    /// other ranks took is known from where all met.
    fn so_far(&mut self) -> (RunEnergy, Vec<DeviceEnergy>) {
        let (attempt, devices) = match &self.met {
            Some((all, devices)) if !self.group.is_alone() => (all.clone(), devices.clone()),
            _ => (self.ledger.so_far(), Vec::new()),
        };
        let run = match &self.earlier {
            Some(earlier) => attempt.after(earlier),
            None => attempt,
        };
        match &self.lost {
            Some(why) => (run.without(why), devices),
            None => (run, devices),
        }
    }

    /// Writes down what the run has cost so far; several ranks have met for it.
    pub fn write(&mut self) -> Result<EnergyReport> {
        let here = self.began.map_or(Seconds(0.0), |began| began.elapsed().into());
        let (work, runtime) = (self.work, self.runtime + here);
        let (run, devices) = self.so_far();
        let report = EnergyReport {
            devices,
            training: run.efficiency(Activity::Training, work),
            paper: run.paper(work.samples, runtime),
            phases: self.phases.as_ref().map(Phases::of),
            run,
        };
        files::write_json(&self.path, &report)?;
        Ok(report)
    }
}

impl Phases {
    fn of(steps: &StepPhases) -> Self {
        match steps.attribution() {
            Ok((names, attribution)) => Phases::known(names, attribution),
            Err(why) => Phases::Unknown { why },
        }
    }

    /// The largest first, and what is outside all phases last.
    fn known(names: &[trace::Phase], attribution: Attribution) -> Self {
        let Attribution { phases, rest, total, residual } = attribution;
        let named = names.iter().zip(phases);
        let mut all: Vec<PhaseEnergy> = named
            .map(|(name, share)| PhaseEnergy { phase: name.label.into(), pass: Some(name.pass), share })
            .collect();
        all.sort_by(|a, b| b.share.energy.0.total_cmp(&a.share.energy.0));
        all.push(PhaseEnergy { phase: "rest".into(), pass: None, share: rest });
        Phases::Known { total, residual, phases: all }
    }
}

impl EnergyReport {
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
                if self.devices.len() > 1 {
                    text += "\nby phase, on the first rank's device:";
                }
                text += &format!("\n{}", phase_table(phases, *total, *residual));
            }
            Some(Phases::Unknown { why }) => text += &format!("\nenergy by phase: n/a: {why}"),
            None => {}
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::energy::Meter;
    use crate::run::Observer;
    use crate::train;
    use std::thread;
    use std::time::Duration;

    /// 40 W, counted every 100 us.
    struct Lamp(Instant);

    impl Meter for Lamp {
        fn name(&self) -> String {
            "a lamp".into()
        }

        fn read(&mut self) -> Result<Joules> {
            Ok(Joules((self.0.elapsed().as_secs_f64() * 1e4).floor() * 0.004))
        }

        fn update_period(&self) -> Seconds {
            Seconds(1e-4)
        }
    }

    /// Keeps the warnings.
    #[derive(Default)]
    struct Warnings(Vec<String>);

    impl train::Observer for Warnings {
        fn event(&mut self, _: &train::Event) -> Result<()> {
            Ok(())
        }
    }

    impl Observer for Warnings {
        fn message(&mut self, message: Message) {
            if let Message::Warning(what) = message {
                self.0.push(what);
            }
        }
    }

    /// Works on the run for a while, as one process would.
    fn attempt(root: &Path, resumes: bool) -> (RunEnergy, Vec<String>) {
        let sampler = Sampler::start(Box::new(Lamp(Instant::now()))).unwrap();
        let device = Device::cpu();
        let mut books = Books::start(&Means::new(&device, &sampler), false, root);
        let mut warnings = Warnings::default();
        match resumes {
            true => books.resume(&mut warnings),
            false => books.begin().unwrap(),
        }
        books.enter(Activity::Training);
        thread::sleep(Duration::from_millis(20));
        books.enter(Activity::Rest);
        (books.write().unwrap().run, warnings.0)
    }

    #[test]
    fn attempts_at_one_run_add_up_and_those_at_another_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = attempt(dir.path(), false);
        let (both, warnings) = attempt(dir.path(), true);
        assert_eq!((warnings.len(), both.attempts), (0, 2));
        let (one, two) = (first.time(Activity::Training), both.time(Activity::Training));
        assert!(two.0 >= one.0 + 0.02, "{one} then {two}");
        assert!(both.energy(Activity::Training).unwrap().0 > first.energy(Activity::Training).unwrap().0);
        let (anew, _) = attempt(dir.path(), false);
        assert_eq!(anew.attempts, 1);
    }

    #[test]
    fn what_cannot_be_read_is_never_taken_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        attempt(dir.path(), false);
        fs::write(dir.path().join("energy.json"), "{").unwrap();
        let (run, warnings) = attempt(dir.path(), true);
        assert_eq!(warnings.len(), 1);
        assert_eq!(run.whole.energy, None);
        assert!(run.whole.note.contains("earlier attempts"), "{}", run.whole.note);
        assert!(run.energy(Activity::Training).unwrap_err().contains("earlier attempts"));
    }
}
