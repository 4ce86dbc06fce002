//! Joules that were planted come back.

use super::{Repetition, in_place, replayed};
use crate::device::plan::Recording;
use crate::device::repeater::Repeater;
use crate::device::{Call, CpuCall, Device, Gpu, Kernel, Layout};
use crate::energy::{Meter, Sampler};
use crate::error::Result;
use crate::profile::measure::{Budget, measure};
use crate::profile::rows::{Key, grouped};
use crate::trace::{self, Pass};
use crate::units::{Joules, Seconds};
use crate::workload::{Amount, Workload};
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const IDLE: f64 = 20.0;
/// Watts and milliseconds of both kernels.
const HEAD: (f64, u64) = (90.0, 20);
const LOSS: (f64, u64) = (50.0, 30);

/// How often the counter of the machine changes.
const PERIOD: Duration = Duration::from_millis(10);

/// A machine that draws what runs on it says.
struct Machine {
    /// When it was looked at first, and last.
    known: Option<(Instant, Instant)>,
    watts: f64,
    joules: f64,
    /// The energy when its counter changed last.
    counted: f64,
}

static MACHINE: Mutex<Machine> = Mutex::new(Machine { known: None, watts: IDLE, joules: 0.0, counted: 0.0 });

/// What the counter says now; the machine draws `watts` from now on.
fn settle(watts: Option<f64>) -> f64 {
    let mut machine = MACHINE.lock().unwrap();
    let now = Instant::now();
    let (first, last) = machine.known.unwrap_or((now, now));
    let changed = now - Duration::from_nanos(((now - first).as_nanos() % PERIOD.as_nanos()) as u64);
    if changed > last {
        machine.counted = machine.joules + machine.watts * (changed - last).as_secs_f64();
    }
    machine.joules += machine.watts * (now - last).as_secs_f64();
    machine.watts = watts.unwrap_or(machine.watts);
    machine.known = Some((first, now));
    machine.counted
}

fn draw((watts, milliseconds): (f64, u64)) {
    settle(Some(watts));
    thread::sleep(Duration::from_millis(milliseconds));
    settle(Some(IDLE));
}

/// Changes as often as it says: one whose reading were of the moment would be dated too early where a look at it is late.
struct Counter;

impl Meter for Counter {
    fn name(&self) -> String {
        "planted".into()
    }

    fn read(&mut self) -> Result<Joules> {
        Ok(Joules(settle(None)))
    }

    fn update_period(&self) -> Seconds {
        PERIOD.into()
    }
}

const fn kernel(name: &'static str, cpu: fn(&mut CpuCall)) -> Kernel {
    Kernel { name, outputs: &[], inputs: &[], sizes: &[], scalars: &[], cpu, gpu: Gpu::Library }
}

static HEAD_KERNEL: Kernel = kernel("head_kernel", |_| draw(HEAD));
static LOSS_KERNEL: Kernel = kernel("loss_kernel", |_| draw(LOSS));

struct Planted {
    device: Device,
    layout: Rc<Layout>,
    runs: u64,
}

impl Workload for Planted {
    fn run(&mut self) -> Result<()> {
        self.device.begin_step(&self.layout)?;
        {
            let _phase = trace::phase("head");
            self.device.launch(&HEAD_KERNEL, &Call::default())?;
        }
        {
            let _phase = trace::phase("loss");
            // Every second run has it twice: phases that always come together cannot be distinguished.
            for _ in 0..1 + self.runs % 2 {
                self.device.launch(&LOSS_KERNEL, &Call::default())?;
            }
        }
        self.device.end_step()?;
        self.runs += 1;
        // As long as a host is at something else.
        thread::sleep(Duration::from_millis(3 + 7 * (self.runs % 3)));
        Ok(())
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn recordings(&self) -> Vec<&Recording> {
        Vec::new()
    }

    fn plan(&mut self) -> Result<Vec<Recording>> {
        Ok(Vec::new())
    }

    fn amount(&self) -> Amount {
        Amount { samples: 1, tokens: 1 }
    }
}

#[test]
fn planted_joules_come_back_by_both_ways() {
    let replay = Repeater::new(Device::cpu());
    let device = Device::new(replay.clone());
    let mut work = Planted { device, layout: Rc::new(Layout::default()), runs: 0 };
    let budget = Budget { warmup: 1, seconds: Seconds(0.0) };
    let sampler = Rc::new(Sampler::start(Box::new(Counter)).unwrap());
    let measured = measure(&mut work, &replay, budget, None, &sampler, &mut || ()).unwrap();
    let phases = ["head", "loss"].map(|label| trace::Phase { label, pass: Pass::Forward });
    let in_place = in_place(&mut work, &sampler, &phases, Seconds(4.0)).unwrap().unwrap();
    let how = Repetition { seconds: Seconds(0.4), trials: 2, cooldown: Seconds(0.0) };
    let rows = grouped(&measured.rows, Key::phase);
    let known = (&measured.steps[..], &rows[..], Seconds(0.1));
    let replayed = replayed(&mut work, &replay, &sampler, known, how, &mut |_| ()).unwrap().unwrap();
    for (place, (watts, _)) in [HEAD, LOSS].into_iter().enumerate() {
        for (way, phase) in [("replayed", &replayed.phases[place]), ("in place", &in_place.phases[place])] {
            let (got, want) = (phase.energy_j, watts * phase.time_s);
            let name = phase.key.name();
            assert!((got - want).abs() <= 0.05 * want, "{name} {way}: {got} J, not {want} J");
            assert!(phase.resolved, "{name} {way}");
        }
    }
    let idle = (replayed.idle_before_w + replayed.idle_after_w) / 2.0;
    assert!((idle - IDLE).abs() < 0.05 * IDLE, "{idle} W");
    let above = replayed.phases[0].above_idle_j.unwrap() / replayed.phases[0].time_s;
    assert!((above - (HEAD.0 - IDLE)).abs() < 0.06 * HEAD.0, "{above} W");
    let host = replayed.phases.last().unwrap();
    assert!(host.key.is_host() && (host.power_w - IDLE).abs() < 0.1 * IDLE, "nothing is launched: {host:?}");
    // In place every joule has its place: the residual is what the fit leaves.
    assert!(in_place.residual_j.abs() < 0.02 * in_place.step.energy_j, "{in_place:?}");
    let rest = &in_place.rest;
    assert!((rest.power_w - IDLE).abs() < 0.2 * IDLE, "{rest:?}");
}
