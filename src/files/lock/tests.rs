use super::*;
use std::sync::atomic::AtomicUsize;

/// The claim of a process of another machine in `dir`, which `lease` binds.
fn elsewhere(dir: &Path, lease: Duration) -> PathBuf {
    let mut claim = Claim::new(lease);
    claim.holder.host = "elsewhere".into();
    fs::create_dir(dir.join(NAME)).unwrap();
    let file = dir.join(NAME).join(format!("{OWNER}elsewhere"));
    fs::write(&file, claim.text(0)).unwrap();
    file
}

fn held(attempt: Attempt) -> Claim {
    match attempt {
        Attempt::Held(claim) => claim,
        Attempt::Taken(_) => panic!("the lock was taken"),
    }
}

#[test]
fn a_second_one_is_refused_by_the_name_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    let refusal = Lock::take(dir.path()).unwrap_err();
    assert_eq!(refusal.exit_code(), 74);
    assert!(refusal.to_string().contains(&format!("process {}", std::process::id())), "{refusal}");
    assert_eq!(holder(dir.path()).unwrap().holder, Holder::this());
    drop(lock);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(holder(dir.path()).is_none());
    Lock::take(dir.path()).unwrap();
}

#[test]
fn what_is_left_behind_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NAME), "process 1 on a machine with a longer name\n").unwrap();
    drop(Lock::take(dir.path()).unwrap());
    // A process of this machine that has ended, and one whose number another process has now.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    for (process, started) in [(child.id(), Some(1)), (std::process::id(), Some(1))] {
        let mut claim = Claim::new(LEASE);
        let text = serde_json::to_value(&claim.holder).unwrap();
        let mut text: serde_json::Map<_, _> = text.as_object().unwrap().clone();
        text.insert("process".into(), process.into());
        text.insert("started".into(), started.into());
        claim.holder = serde_json::from_value(text.into()).unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        fs::write(dir.path().join(NAME).join("owner-x"), claim.text(0)).unwrap();
        assert!(holder(dir.path()).is_none());
        drop(Lock::take(dir.path()).unwrap());
    }
}

#[test]
fn another_machine_that_beats_is_left_alone_and_one_that_is_silent_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let lease = Duration::from_millis(300);
    let file = elsewhere(dir.path(), lease);
    // An hour in the future or in the past: clocks are not compared.
    let mut contender = Contender::new(LEASE);
    for (beat, hour) in [(1, 3600), (2, -3600i64)] {
        let claim = held(contender.attempt(dir.path()).unwrap());
        assert_eq!(claim.holder.host, "elsewhere");
        fs::write(&file, claim.text(beat)).unwrap();
        let now = SystemTime::now();
        let time = match hour > 0 {
            true => now + Duration::from_secs(3600),
            false => now - Duration::from_secs(3600),
        };
        File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    }
    let start = Instant::now();
    held(contender.attempt(dir.path()).unwrap());
    let lock = contender.wait(dir.path()).unwrap();
    assert!(start.elapsed() >= lease, "{:?}", start.elapsed());
    assert!(!file.exists());
    lock.check().unwrap();
}

#[test]
fn a_machine_that_lives_is_told_at_its_first_beat() {
    let dir = tempfile::tempdir().unwrap();
    let file = elsewhere(dir.path(), Duration::from_secs(3600));
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| Lock::take(dir.path()).unwrap_err());
        std::thread::sleep(Duration::from_millis(200));
        let claim = Claim::read(&fs::read(&file).unwrap());
        fs::write(&file, claim.text(7)).unwrap();
        let refusal = taking.join().unwrap();
        assert!(refusal.to_string().contains("on elsewhere"), "{refusal}");
    });
}

#[test]
fn an_owner_beats_and_learns_that_it_was_taken_for_dead() {
    let dir = tempfile::tempdir().unwrap();
    let mut contender = Contender::new(Duration::from_millis(120));
    let Attempt::Taken(lock) = contender.attempt(dir.path()).unwrap() else { panic!("it was free") };
    let beat = || Claim::read(&fs::read(&lock.owned.file).unwrap()).beat;
    let first = beat();
    let until = Instant::now() + Duration::from_secs(20);
    while beat() == first {
        assert!(Instant::now() < until, "no beat");
        std::thread::sleep(Duration::from_millis(5));
    }
    lock.check().unwrap();
    // Another machine removes the claim and makes its own.
    fs::remove_file(&lock.owned.file).unwrap();
    let other = elsewhere_beside(dir.path());
    let error = loop {
        match lock.check() {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < until, "it does not learn it"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(error.exit_code(), 74);
    drop(lock);
    assert!(other.exists(), "the lock of another was removed");
}

fn elsewhere_beside(dir: &Path) -> PathBuf {
    let _ = fs::remove_dir(dir.join(NAME));
    elsewhere(dir, LEASE)
}

/// Many threads over many rounds: never two at once, and no round without an owner.
#[test]
fn of_many_that_contend_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut contender = Contender::new(LEASE);
                for _ in 0..20 {
                    let lock = contender.wait(dir.path()).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    taken.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(lock);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 160);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn whoever_sweeps_up_disturbs_no_claim() {
    let dir = tempfile::tempdir().unwrap();
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sweeper = scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                crate::files::remove_leftovers(dir.path()).unwrap();
            }
        });
        // A claim that is swept up is made again.
        let claims = (0..300).map(|_| Lock::claim(dir.path(), LEASE).map(drop)).collect::<Result<Vec<()>>>();
        ends.store(true, Ordering::Relaxed);
        sweeper.join().unwrap();
        claims.unwrap();
    });
}
