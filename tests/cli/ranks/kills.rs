//! Random kills of a random rank, under a launcher that starts the ranks anew.

use super::*;
use rand_mt::Mt64;

/// `WATTENTION_TEST_KILLS` asks for more.
const KILLS: usize = 5;

/// The step of the newest checkpoint that is whole.
fn newest(run: &Path) -> u64 {
    let latest = fs::read_to_string(run.join("latest")).unwrap_or_default();
    latest.trim().strip_prefix("checkpoint-").map_or(0, |step| step.parse().unwrap())
}

/// Nobody hangs, no checkpoint is lost, and the run comes to the end of one that nobody killed.
#[test]
fn random_kills_change_nothing() {
    if !has_ranks() {
        return;
    }
    let wanted = std::env::var("WATTENTION_TEST_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let flags = "--max-steps 40 --save-steps 4 --eval-steps 10 --save-total-limit 2 --per-device-train-batch-size 1 \
                 --global-batch-size 4 --ddp-timeout 20 --no-predict";
    let whole = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    ran(&mut run(whole.path(), 2, flags)).succeeds();
    let once = begun.elapsed().as_millis() as u64;
    let mut random = Mt64::new(7);
    let mut upto = |most: u64| random.next_u64() % most;
    let (mut killed, mut attempts) = (0, 0);
    while killed < wanted {
        let dir = tempfile::tempdir().unwrap();
        let mut before = 0;
        loop {
            attempts += 1;
            let ranks = 2 + upto(2) as usize;
            let mut launched = run(dir.path(), ranks, &format!("{flags} --resume auto"));
            let mut child = launched.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            if killed < wanted {
                std::thread::sleep(Duration::from_millis(upto(once)));
                let there = ranks_of(&child);
                // A launcher may have started none yet; and a rank may have ended by itself.
                let which = upto(there.len().max(1) as u64) as usize;
                if let Some(rank) = there.get(which).filter(|rank| lives(rank))
                    && child.try_wait().unwrap().is_none()
                {
                    let _ = Command::new("kill").args(["-KILL", rank]).stderr(Stdio::null()).status();
                    killed += 1;
                }
            }
            let ended = ended(child, 60);
            let now = newest(&dir.path().join("run"));
            assert!(
                now >= before,
                "attempt {attempts}: checkpoint {before} is lost, {now} is left: {}",
                ended.err
            );
            before = now;
            if ended.code == Some(0) {
                break;
            }
            assert!(attempts < 20 * (wanted + 1), "it does not come to an end: {}", ended.err);
        }
        same_run(whole.path(), dir.path());
    }
    println!("{killed} kills in {attempts} attempts");
}
