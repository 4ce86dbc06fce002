//! What watching costs: processor time of the thread that looks at the sensors.

use super::{Gpu, library, open};
use std::env;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use wattention::energy::{Sampler, Window};

/// Says that this process is the one below.
const ALONE: &str = "WATTENTION_TEST_ALONE";

/// Seconds on a processor of this process's threads that watch (proc_pid_schedstat: nanoseconds, first of three);
/// none where the system does not tell.
fn watching() -> Option<f64> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let of = |folder: std::path::PathBuf| -> Option<f64> {
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        let text = fs::read_to_string(folder.join("schedstat")).ok()?;
        (name.trim() == "energy").then(|| text.split(' ').next()?.parse::<f64>().ok()).flatten()
    };
    let all: Vec<f64> = threads.filter_map(|thread| of(thread.ok()?.path())).collect();
    assert!(all.len() <= 1, "other tests watch as well");
    all.first().map(|nanoseconds| nanoseconds / 1e9)
}

#[test]
fn a_sampler_takes_less_than_a_hundredth_of_a_core() {
    let Some(library) = library() else { return };
    if env::var_os(ALONE).is_none() {
        // In a process of its own: other tests have samplers, too.
        let mut alone = Command::new(env::current_exe().unwrap());
        alone.args([
            "--exact",
            "energy::cost::a_sampler_takes_less_than_a_hundredth_of_a_core",
            "--nocapture",
        ]);
        let output = alone.env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{text}");
        return assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let sampler = Sampler::start(Box::new(open(library, Gpu::Steady).unwrap())).unwrap();
    let window = Window::start(&sampler);
    thread::sleep(Duration::from_millis(200));
    let (start, Some(before)) = (Instant::now(), watching()) else {
        return println!("skipped: the system does not tell the time of a thread");
    };
    thread::sleep(Duration::from_secs(3));
    let (after, seconds) = (watching().unwrap(), start.elapsed().as_secs_f64());
    let share = (after - before) / seconds;
    println!("{:.3} % of a core", 100.0 * share);
    assert!(after > before && share < 0.01, "{after} s less {before} s in {seconds} s");
    let note = window.stop().note;
    assert!(note.contains("counter every ") && note.contains("counter/integrated "), "{note}");
}
