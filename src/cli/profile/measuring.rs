//! What every profile is asked, and how it is made.

use super::super::bench::options::{Ceiling, Known};
use super::super::global::Global;
use super::super::progress::Progress;
use super::super::values::seconds;
use super::super::{machine, output};
use super::text;
use crate::collective::Group;
use crate::device::repeater::{Launched, Repeater};
use crate::device::{Device, Precision};
use crate::energy::{self, Sampler};
use crate::error::Error;
use crate::files;
use crate::profile::energy::{Energy, Repetition, in_place, replayed};
use crate::profile::measure::{Budget, Measured, measure};
use crate::profile::report::{By, Origin, Profile};
use crate::profile::rows::{Key, grouped};
use crate::profile::timeline::{Meanwhile, Named, merged, trace};
use crate::settings::named;
use crate::table::width;
use crate::trace::Phase;
use crate::units::{Seconds, counted};
use crate::workload::Workload;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

#[derive(clap::Args, Debug)]
pub struct Measuring {
    /// Runs before the counted ones
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,

    /// Seconds of counted runs, with and without tracing in turn; three of each at least
    #[arg(long, value_name = "S", default_value = "5", allow_negative_numbers = true, value_parser = seconds::<Seconds>)]
    seconds: Seconds,

    /// How rows are put together
    #[arg(long, value_name = "WHAT", default_value = "phase", value_parser = named::<By>())]
    by: By,

    #[command(flatten)]
    ceiling: Ceiling,

    /// Write a trace of a few runs for Perfetto (ui.perfetto.dev) or chrome://tracing
    #[arg(long, value_name = "FILE.json")]
    trace: Option<PathBuf>,

    /// Write the profile, for --compare
    #[arg(long, value_name = "FILE.json")]
    save: Option<PathBuf>,

    #[command(flatten)]
    energy: EnergyArgs,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Energy by phase")]
struct EnergyArgs {
    /// How to measure it [default: both where there is a sensor, else none]
    #[arg(long, value_name = "HOW", value_parser = named::<Ways>())]
    energy: Option<Ways>,

    /// Replayed: seconds for which each phase is repeated in a trial
    #[arg(long, value_name = "S", default_value = "2", allow_negative_numbers = true, value_parser = seconds::<Seconds>)]
    replay_seconds: Seconds,

    /// Replayed: trials of each phase
    #[arg(long, value_name = "N", default_value = "3")]
    trials: std::num::NonZeroUsize,

    /// Replayed: seconds of rest before each trial
    #[arg(long, value_name = "S", default_value = "0.5", allow_negative_numbers = true, value_parser = seconds::<Seconds>)]
    cooldown: Seconds,

    /// In place: seconds of runs
    #[arg(long, value_name = "S", default_value = "20", allow_negative_numbers = true, value_parser = seconds::<Seconds>)]
    in_place_seconds: Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ways {
    /// Each phase is repeated.
    Replayed,
    /// What the counter gains over many runs is explained by the time in each phase.
    InPlace,
    Both,
    None,
}

impl Ways {
    fn repeats(self) -> bool {
        matches!(self, Ways::Replayed | Ways::Both)
    }

    fn attributes(self) -> bool {
        matches!(self, Ways::InPlace | Ways::Both)
    }
}

/// A device whose launches can be repeated.
pub struct Stand {
    pub device: Device,
    replay: Rc<Repeater>,
}

impl Measuring {
    /// Checks what can be checked before the work, and opens the device.
    pub fn open(&self, global: &Global, group: &Group) -> anyhow::Result<Stand> {
        for path in self.trace.iter().chain(&self.save).filter(|_| group.is_first()) {
            output::check_file(path)?;
        }
        if !group.is_alone() && !matches!(self.energy.energy, None | Some(Ways::None)) {
            return Err(Error::usage(format!("--energy: {ONE_PROCESS}; leave it out, or start one")).into());
        }
        if self.trace.is_some() && self.trace == self.save {
            return Err(Error::usage("--trace and --save name the same file").into());
        }
        energy::Choice::read()?;
        let replay = Repeater::new(global.open_device()?);
        Ok(Stand { device: Device::new(replay.clone()), replay })
    }

    pub fn by(&self) -> By {
        self.by
    }

    /// Where the profile is to be written.
    pub fn saves(&self) -> Option<&PathBuf> {
        self.save.as_ref()
    }

    /// Profiles `work` on `stand`; `described` says what it is.
    pub fn profile(
        &self,
        work: &mut dyn Workload,
        stand: &Stand,
        mut described: Map<String, Value>,
        global: &Global,
        group: &Group,
    ) -> anyhow::Result<()> {
        let Stand { device, replay } = stand;
        if !group.is_alone() {
            described.insert("world_size".into(), group.size().into());
        }
        described.extend(device.products().map(|products| ("products".to_string(), products.into())));
        let Known { limits, says, .. } = self.ceiling.open(&machine::device_label(device), global)?;
        let no_limits = limits.is_none().then(|| says.trim_start_matches("n/a: ").to_string());
        let mut meter = energy::choose(device)?;
        let no_sensor = meter.read().err().map(|why| why.to_string());
        let sampler = Rc::new(Sampler::start(meter)?);
        let samples = RefCell::new(Vec::new());
        if self.trace.is_some() && no_sensor.is_none() {
            sampler.record_changes();
        }
        let sample = || {
            if self.trace.is_some() {
                samples.borrow_mut().push((Instant::now(), sampler.sample()));
            }
        };
        sample();
        let budget = Budget { warmup: self.warmup, seconds: self.seconds };
        let measured = measure(work, replay, budget, limits.as_ref(), &sampler, &mut || sample())?;
        if let Some(path) = &self.trace {
            let meanwhile = Meanwhile { samples: samples.take(), changes: sampler.stop_changes() };
            let launches: Vec<Launched> = measured.launches().copied().collect();
            let (mut title, mut process) = (text::subject(&described), 1);
            if !group.is_alone() {
                (title, process) = (format!("{title}, rank {}", group.rank()), group.rank());
            }
            let named = Named { title: &title, device: &device.name(), process };
            let mut ours = trace(named, &measured.kept, &launches, &meanwhile);
            if !group.is_alone() {
                ours = merged(group.gather_texts(vec![ours.to_string()])?)?;
            }
            if group.is_first() {
                files::write_text(path, &ours.to_string())?;
                global.note(format_args!("trace: {}", path.display()));
            }
        }
        let energy = match (self.energy.energy, no_sensor) {
            (Some(Ways::None), _) => Energy::default(),
            _ if !group.is_alone() => Energy { missing: vec![ONE_PROCESS.into()], ..Energy::default() },
            (_, Some(why)) => Energy { missing: vec![why], ..Energy::default() },
            (ways, None) => {
                let ways = ways.unwrap_or(Ways::Both);
                self.energy.measure(ways, work, replay, &sampler, &measured, global)?
            }
        };
        let profile = Profile {
            origin: Origin::Measured,
            work: described,
            limits,
            no_limits,
            runs: measured.runs,
            planned: Some(measured.planned),
            conditions: measured.conditions,
            rows: measured.rows,
            energy,
        };
        print(&profile, self.by, self.save.as_ref(), global)
    }
}

/// Why there is no energy by phase.
const ONE_PROCESS: &str = "phases are repeated for their energy by one process";

impl EnergyArgs {
    fn measure(
        &self,
        ways: Ways,
        work: &mut dyn Workload,
        replay: &Rc<Repeater>,
        sampler: &Rc<Sampler>,
        measured: &Measured,
        global: &Global,
    ) -> anyhow::Result<Energy> {
        let mut energy = Energy { sensor: Some(sampler.name()), ..Energy::default() };
        let mut phases: Vec<Phase> = Vec::new();
        for launched in measured.launches() {
            if !phases.contains(&launched.phase) {
                phases.push(launched.phase);
            }
        }
        // First, while nothing that is repeated has moved the weights.
        if ways.attributes() {
            global.note(format_args!("energy in place: {} of runs", self.in_place_seconds));
            match in_place(work, sampler, &phases, self.in_place_seconds)? {
                Ok(found) => energy.in_place = Some(found),
                Err(why) => energy.missing.push(format!("in place: {why}")),
            }
        }
        if ways.repeats() {
            let how = Repetition {
                seconds: self.replay_seconds,
                trials: self.trials.get(),
                cooldown: self.cooldown,
            };
            let trials = (how.trials * (phases.len() + 2)) as u64;
            let mut progress = Progress::new(global, trials, "energy replayed");
            let rows = grouped(&measured.rows, Key::phase);
            let step = crate::stats::quantiles(&measured.runs.untraced_s);
            let step = Seconds(step.map_or(0.0, |q| q.median_s));
            let known = (&measured.steps[..], &rows[..], step);
            let found = replayed(work, replay, sampler, known, how, &mut |what| progress.step(1, what))?;
            progress.finish(format_args!("energy replayed: {}", counted(trials as usize, "trial")));
            match found {
                Ok(found) => energy.replayed = Some(found),
                Err(why) => energy.missing.push(format!("replayed: {why}")),
            }
        }
        Ok(energy)
    }
}

/// Saves and prints a profile.
pub fn print(profile: &Profile, by: By, save: Option<&PathBuf>, global: &Global) -> anyhow::Result<()> {
    if let Some(path) = save.filter(|_| !global.follows) {
        let text = serde_json::to_string(profile)
            .map_err(|e| Error::internal(format!("a profile is not JSON: {e}")))?;
        files::write_text(path, &(text + "\n"))?;
        global.note(format_args!("profile: {}", path.display()));
    }
    global.print(profile, text::profile(profile, by, width()))
}

/// What any work is described by, after what is its own.
pub fn described(own: Value, device: &str, precision: Precision) -> Map<String, Value> {
    let mut map = match own {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    map.insert("device".into(), device.into());
    map.insert("precision".into(), json!(precision));
    map.insert("threads".into(), rayon::current_num_threads().into());
    map.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    map
}
