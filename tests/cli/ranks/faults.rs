//! Ranks of a run that are stopped, die or hang.

use super::*;

const LONG: &str = "--max-steps 100000 --eval-steps 0 --no-predict --per-device-train-batch-size 1";

/// A long run by two ranks that has made some steps.
fn training(dir: &Path, flags: &str) -> Child {
    let mut mpirun = run(dir, 2, &format!("{LONG} {flags}"));
    let mut child = mpirun.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let steps = || fs::read_to_string(dir.join("run/metrics.jsonl")).map_or(0, |text| text.lines().count());
    let until = Instant::now() + Duration::from_secs(120);
    // The checkpoint of step 20 is written while steps go on.
    while steps() < 25 || (flags.contains("--save-steps 20") && !dir.join("run/latest").exists()) {
        assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_signal_to_any_rank_saves_once() {
    if !has_ranks() {
        return;
    }
    for rank in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let child = training(dir.path(), "--save-steps 0");
        kill("TERM", &ranks_of(&child)[rank]);
        let ended = ended(child, 60);
        assert_eq!(ended.code, Some(143), "{}", ended.err);
        let steps = events(&dir.path().join("run")).len();
        let left = names_in(&dir.path().join("run"));
        let want = [&format!("checkpoint-{steps}"), "config.json", "energy.json", "latest", "metrics.jsonl"];
        assert_eq!(left, want, "rank {rank}");
    }
}

#[test]
fn a_rank_that_dies_or_hangs_ends_all_and_the_run_goes_on() {
    if !has_ranks() {
        return;
    }
    for (signal, rank, seconds) in [("KILL", 1, 30), ("KILL", 0, 30), ("STOP", 1, 60)] {
        let dir = tempfile::tempdir().unwrap();
        let child = training(dir.path(), "--save-steps 20 --ddp-timeout 3");
        let ranks = ranks_of(&child);
        kill(signal, &ranks[rank]);
        if signal == "STOP" {
            // What is stopped cannot be ended by mpirun either, until it goes on.
            let of = ranks[rank].clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_secs(12));
                let _ = Command::new("kill").args(["-CONT", &of]).stderr(Stdio::null()).status();
            });
        }
        let ended = ended(child, seconds);
        // It may be back before the system has ended what it killed.
        let until = Instant::now() + Duration::from_secs(30);
        while ranks.iter().any(|rank| lives(rank)) {
            assert!(Instant::now() < until, "{signal}: a rank does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!matches!(ended.code, Some(0)), "{signal}: {:?}", ended.code);
        if signal == "STOP" {
            for part in ["error: rank 0 of 2 on ", "at step ", "has not answered"] {
                assert!(ended.err.contains(part), "{}", ended.err);
            }
        }
        let log = dir.path().join("resumed.log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let mut resumed = run(dir.path(), 2, &format!("{LONG} --save-steps 20 --resume auto"));
        resumed.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut child = resumed.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !said().contains("resuming from") {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
        kill("TERM", &ranks_of(&child)[0]);
        assert_eq!(super::ended(child, 60).code, Some(143), "{}", said());
    }
}
