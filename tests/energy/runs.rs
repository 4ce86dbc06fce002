//! Whole runs under the stand-in: the books of what a run did, and its energy by phase.

use super::{Gpu, SCRIPT, library, open};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use wattention::energy::{Activity, Attribution, Ledger, Sampler, attribute, intervals};
use wattention::units::Joules;

/// The script's phases but for the last, which is the rest, from `start` on: (phase, start, end).
fn slices(start: Instant, seconds: f64) -> Vec<(usize, Instant, Instant)> {
    // The same moment by both clocks; the script has run since 1970.
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - start.elapsed();
    let cycle: f64 = SCRIPT.iter().map(|(_, seconds)| seconds).sum();
    let mut at = -(since_1970.as_secs_f64() % cycle);
    let moment = |seconds: f64| start + Duration::from_secs_f64(seconds.max(0.0));
    let mut slices = Vec::new();
    while at < seconds {
        for (phase, (_, seconds)) in SCRIPT.iter().enumerate() {
            if phase + 1 < SCRIPT.len() && at + seconds > 0.0 {
                slices.push((phase, moment(at), moment(at + seconds)));
            }
            at += seconds;
        }
    }
    slices
}

/// The energy by phase of a few seconds of the script.
fn attributed(gpu: Gpu) -> Option<Attribution> {
    const SECONDS: f64 = 6.0;
    let sampler = Sampler::start(Box::new(open(library()?, gpu).unwrap())).unwrap();
    sampler.record_changes();
    let start = Instant::now();
    let mut changes = Vec::new();
    while start.elapsed().as_secs_f64() < SECONDS {
        thread::sleep(Duration::from_millis(500));
        changes.extend(sampler.take_changes());
    }
    changes.extend(sampler.stop_changes());
    let phases = SCRIPT.len() - 1;
    Some(attribute(&intervals(&changes, &slices(start, SECONDS + 2.0), phases), phases).unwrap())
}

#[test]
fn the_energy_by_phase_is_the_scripts() {
    // Both at once: most of it is waiting.
    let threads = [Gpu::Scripted, Gpu::Hesitant].map(|gpu| thread::spawn(move || attributed(gpu)));
    for found in threads.map(|thread| thread.join().unwrap()) {
        let Some(found) = found else { return };
        for (share, (watts, _)) in found.phases.iter().zip(SCRIPT) {
            let truth = watts * share.time.0;
            let (off, stated) = ((share.energy.0 - truth).abs(), share.standard_error.0);
            assert!(share.resolved && off <= 4.0 * stated + 0.01 * truth, "{share:?}, not {truth} J");
            // A busy machine looks late at the counter; its stated error says so.
            assert!(off <= 0.05 * truth || stated > 0.02 * truth, "{share:?}, not {truth} J");
        }
        assert!(found.residual.0.abs() <= 0.05 * found.total.0, "{found:?}");
    }
}

#[test]
fn a_gpu_that_is_lost_leaves_what_was_known_and_the_run_goes_on() {
    let Some(library) = library() else { return };
    let sampler = Sampler::start(Box::new(open(library, Gpu::Vanishing).unwrap())).unwrap();
    sampler.record_changes();
    let mut ledger = Ledger::start(&sampler);
    // It is lost 0.4 s after it was opened, which took a part of them.
    ledger.enter(Activity::Training);
    thread::sleep(Duration::from_millis(500));
    ledger.enter(Activity::Evaluation);
    thread::sleep(Duration::from_millis(50));
    let run = ledger.so_far();
    for activity in [Activity::Training, Activity::Evaluation] {
        let why = run.energy(activity).unwrap_err();
        assert!(why.contains("the GPU is lost"), "{why}");
        assert!(run.time(activity).0 > 0.04);
    }
    assert_eq!(run.whole.energy, None);
    assert!(run.table().starts_with("energy: n/a: ") && run.table().contains("is lost"), "{}", run.table());
    let changes = sampler.stop_changes();
    assert!(
        changes.is_sorted_by(|a, b| a.1 < b.1) && changes.iter().all(|(_, energy)| *energy < Joules(60.0))
    );
}
