//! Energy of a GPU by NVML: against a stand-in for its library whose GPUs draw a known power.

mod cost;
mod runs;

use crate::support::scalar::assert_near;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use wattention::disturbance::{Conditions, Throttle};
use wattention::energy::{Identity, Measurement, Meter, NoSensor, Nvml, Sampler, Window};
use wattention::error::Error;
use wattention::units::{Bytes, Watts};

/// What every GPU draws, whatever its counter says.
const WATTS: f64 = 80.0;

/// The GPUs of tests/energy/nvml.c.
#[derive(Clone, Copy)]
enum Gpu {
    Steady,
    NoCounter,
    Forbidden,
    Lost,
    Backwards,
    Stalled,
    NoPower,
    Part,
    Noisy,
    FalseCounter,
    /// As `Lost`, for another test: it is lost once.
    Vanishing,
    Scripted,
    Hesitant,
    /// Two other processes compute on it.
    Shared,
    /// Two other processes have it, and rest.
    Resting,
    /// As `Shared`, seen from a container that knows no process numbers outside of it.
    Hidden,
    Hot,
}

/// What the scripted two draw, again and again: watts, and for how many seconds.
const SCRIPT: [(f64, f64); 4] = [(420.0, 0.06), (250.0, 0.045), (610.0, 0.08), (95.0, 0.025)];

/// Builds the library once; none where there is no C compiler.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("energy");
        std::fs::create_dir_all(&folder).unwrap();
        let unfinished = folder.join(format!("libnvidia-ml.so.{}", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/energy/nvml.c");
        let mut command = Command::new("cc");
        command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]);
        let script: Vec<String> = SCRIPT.map(|(watts, seconds)| format!("{{{watts}, {seconds}}}")).into();
        command.arg(&unfinished).arg(format!("-DSCRIPT={}", script.join(", ")));
        let output = command.arg(source).arg("-lm").output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let whole = folder.join("libnvidia-ml.so.1");
        std::fs::rename(unfinished, &whole).unwrap();
        Some(whole)
    });
    if built.is_none() || !cfg!(target_os = "linux") {
        println!("skipped: no C compiler");
        return None;
    }
    built.as_deref()
}

fn identity(gpu: Gpu) -> Identity {
    Identity { uuid: format!("00000000-0000-0000-0000-{:012}", gpu as u8) }
}

fn open(library: &Path, gpu: Gpu) -> Result<Nvml, Error> {
    Nvml::open_in(library, &identity(gpu))
}

/// A window of half a second: 25 values of the counter.
fn measure(library: &Path, gpu: Gpu) -> Measurement {
    let sampler = Sampler::start(Box::new(open(library, gpu).unwrap())).unwrap();
    let window = Window::start(&sampler);
    thread::sleep(Duration::from_millis(500));
    window.stop()
}

#[test]
fn a_window_has_the_energy_that_was_drawn_and_what_the_sensors_said() {
    let Some(library) = library() else { return };
    let measured = measure(library, Gpu::Steady);
    let drawn = WATTS * measured.time.0;
    // Each end is off by less than one of the counter's steps of 20 ms.
    let step = 0.02 / measured.time.0;
    assert_near(measured.energy.unwrap().0, drawn, step);
    assert_near(measured.integrated.unwrap().0, drawn, 0.1);
    assert_eq!(measured.peak_power, Some(Watts(WATTS)));
    assert_eq!((measured.utilisation, measured.clock), (Some(0.75), Some(1500.0)));
    assert_eq!(measured.memory_peak, Some(Bytes(1 << 28)));
    assert_eq!((measured.temperature_peak, measured.throttled), (Some(61.0), Some(0.0)));
    let paper = measured.paper.unwrap();
    assert_eq!(paper.power, Watts(WATTS));
    assert_eq!(paper.energy.0, drawn);
    assert!(measured.note.contains("Fake GPU 0"), "{}", measured.note);
}

#[test]
fn the_counter_is_calibrated_before_it_is_trusted() {
    let Some(library) = library() else { return };
    for (gpu, ratio) in [(Gpu::Steady, 1.0), (Gpu::FalseCounter, 0.5)] {
        let meter = open(library, gpu).unwrap();
        let period = meter.update_period().0;
        assert!((0.015..0.06).contains(&period), "it moves every 20 ms, not {period} s");
        let calibration = meter.calibration();
        assert_eq!(calibration.update_period.0, period);
        assert_near(calibration.ratio.unwrap(), ratio, 0.2);
        let name = meter.name();
        assert!(name.contains("counter every ") && name.contains("counter/integrated "), "{name}");
    }
}

#[test]
fn noise_of_the_power_sensor_does_not_reach_the_energy() {
    let Some(library) = library() else { return };
    let measured = measure(library, Gpu::Noisy);
    assert_near(measured.energy.unwrap().0, WATTS * measured.time.0, 0.02 / measured.time.0);
    assert!(measured.peak_power.unwrap() > Watts(WATTS));
    assert_eq!(measured.throttled, Some(1.0));
}

#[test]
fn what_else_happens_on_a_gpu_is_known_and_disturbs() {
    let Some(library) = library() else { return };
    let quiet = Conditions { processor_share: Some(1.0), ..Conditions::default() };
    // Those of the window, and why they are a disturbance.
    let of = |gpu| {
        let found = measure(library, gpu).judge(quiet.clone());
        (found.gpu.unwrap(), found.disturbed)
    };
    let (steady, none) = of(Gpu::Steady);
    assert_eq!((steady.clock_mhz, steady.max_clock_mhz), (Some(1500.0), Some(1980.0)));
    assert_eq!(
        (steady.power_limit_w, steady.default_power_limit_w),
        (Some(Watts(700.0)), Some(Watts(700.0)))
    );
    assert_eq!((steady.other_processes, none), (Some(0), None), "this process is no other");
    let (shared, why) = of(Gpu::Shared);
    assert_eq!(shared.other_processes, Some(2));
    assert_near(shared.others_utilisation.unwrap(), 0.4, 1e-9);
    assert!(why.unwrap().contains("40.0 %"));
    let (resting, none) = of(Gpu::Resting);
    assert_eq!((resting.other_processes, resting.others_utilisation, none), (Some(2), Some(0.0), None));
    let (hidden, why) = of(Gpu::Hidden);
    assert_eq!((hidden.other_processes, hidden.others_utilisation), (Some(2), None));
    assert!(why.unwrap().contains("2 other processes"));
    let (capped, why) = of(Gpu::Noisy);
    assert_eq!((capped.power_limit_w, capped.throttled_by[&Throttle::PowerCap]), (Some(Watts(400.0)), 1.0));
    assert!(why.unwrap().contains("power limit"));
    let (hot, why) = of(Gpu::Hot);
    assert_eq!(hot.throttled_by.into_iter().collect::<Vec<_>>(), [(Throttle::Heat, 1.0)]);
    assert!(why.unwrap().starts_with("heat held"));
}

#[test]
fn a_counter_without_a_power_sensor_counts_and_says_so() {
    let Some(library) = library() else { return };
    let measured = measure(library, Gpu::NoPower);
    assert!(measured.energy.is_some());
    assert_eq!((measured.integrated, measured.paper), (None, None));
    // The counter's own: a step of 20 ms more or less in the half second.
    assert_near(measured.peak_power.unwrap().0, WATTS, 0.2);
    assert!(measured.note.contains("no power sensor"), "{}", measured.note);
}

#[test]
fn a_part_of_a_gpu_is_measured_with_the_whole_and_says_so() {
    let Some(library) = library() else { return };
    let measured = measure(library, Gpu::Part);
    assert!(measured.energy.is_some());
    assert!(measured.note.contains("this instance is a part"), "{}", measured.note);
    // Whose energy counts once, however many ranks have parts of it.
    let counted = |gpu| Nvml::counted_in(library, &identity(gpu)).unwrap();
    assert_eq!(counted(Gpu::Part), identity(Gpu::Steady).uuid);
    assert_eq!(counted(Gpu::NoPower), identity(Gpu::NoPower).uuid);
}

#[test]
fn a_sensor_that_cannot_be_opened_gives_its_reason() {
    let Some(library) = library() else { return };
    for (gpu, why) in [
        (Gpu::NoCounter, "this GPU does not support it"),
        (Gpu::Forbidden, "no permission"),
        (Gpu::Stalled, "did not move"),
    ] {
        match open(library, gpu) {
            Ok(meter) => panic!("{} was opened", meter.name()),
            Err(error) => assert!(error.to_string().contains(why), "{error}"),
        }
    }
    let missing = open(Path::new("/nowhere/libnvidia-ml.so.1"), Gpu::Steady).err().unwrap();
    assert!(missing.to_string().contains("NVIDIA's driver"), "{missing}");
    let stranger = Identity { uuid: "ffffffff-0000-0000-0000-000000000000".into() };
    assert!(Nvml::open_in(library, &stranger).is_err());
}

#[test]
fn a_sensor_that_fails_meanwhile_leaves_the_time_and_the_reason() {
    let Some(library) = library() else { return };
    for (gpu, why) in [(Gpu::Lost, "the GPU is lost"), (Gpu::Backwards, "went backwards")] {
        let measured = measure(library, gpu);
        assert_eq!((measured.energy, measured.power()), (None, None));
        assert!(measured.note.contains(why), "{}", measured.note);
        assert!(measured.time.0 > 0.4);
    }
}

#[test]
fn without_a_sensor_there_is_the_reason() {
    let sampler = Sampler::start(Box::new(NoSensor::new("no sensor: none".into()))).unwrap();
    let measured = Window::start(&sampler).stop();
    assert_eq!((measured.energy, measured.note.as_str()), (None, "no sensor: none"));
}
