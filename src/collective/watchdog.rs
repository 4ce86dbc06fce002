//! A thread that ends this process when the other ranks do not answer: MPI waits for them for ever.

use super::Launch;
use crate::error::{Error, Result};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What an exchange that began is called, and when it did.
type Waiting = Mutex<Option<(&'static str, Instant)>>;

/// The rank that this one waits for, where that is known.
#[derive(Default)]
pub struct Awaited(AtomicUsize);

impl Awaited {
    pub fn set(&self, rank: Option<usize>) {
        self.0.store(rank.map_or(0, |rank| rank + 1), Ordering::Relaxed);
    }

    fn get(&self) -> Option<usize> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

pub struct Watchdog {
    shared: Arc<Shared>,
}

struct Shared {
    /// This rank.
    us: String,
    rank: usize,
    size: usize,
    awaited: Arc<Awaited>,
    waiting: Waiting,
    /// A kind of thing, and its number.
    place: Mutex<(&'static str, u64)>,
}

impl Shared {
    fn awaited(&self) -> String {
        let only = (self.size == 2).then(|| 1 - self.rank);
        self.awaited.get().or(only).map_or("another rank".into(), |rank| format!("rank {rank}"))
    }

    /// Says on stderr that the work ends: `fault` in the exchange `what`, and why.
    fn say(&self, fault: &str, what: &str, why: &str) {
        let Shared { us, place, .. } = self;
        let (kind, number) = *place.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(
            std::io::stderr(),
            "error: {us}: {fault} at {kind} {number} ({what}): {why}; look at its log, and start again (finetune resumes \
             with --resume auto)"
        );
    }
}

impl Watchdog {
    /// Waits of more than `limit` end the process with 69.
    pub fn start(launch: &Launch, limit: Duration) -> Result<Self> {
        let shared = Arc::new(Shared {
            us: launch.to_string(),
            rank: launch.rank,
            size: launch.world_size,
            awaited: Arc::default(),
            waiting: Mutex::new(None),
            place: Mutex::new(("step", 0)),
        });
        let seen = Arc::downgrade(&shared);
        let pause = (limit / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let watch = move || {
            while let Some(shared) = seen.upgrade() {
                let waiting = *shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((what, _)) = waiting.filter(|(_, since)| since.elapsed() > limit) {
                    let who = format!("{} has not answered for {limit:?} (--ddp-timeout)", shared.awaited());
                    shared.say(&who, what, "it died, hangs, or its link is down");
                    // What else runs at a process's end would wait for MPI, which hangs.
                    signal_hook::low_level::exit(Error::Device(String::new()).exit_code());
                }
                drop(shared);
                std::thread::sleep(pause);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
        thread.map_err(|e| Error::DoesNotFit(format!("the watchdog's thread does not start: {e}")))?;
        Ok(Watchdog { shared })
    }

    /// Where a transport says for whom it waits.
    pub fn awaited(&self) -> Arc<Awaited> {
        self.shared.awaited.clone()
    }

    /// Where the work is.
    pub fn at(&self, what: &'static str, number: u64) {
        *self.shared.place.lock().unwrap_or_else(PoisonError::into_inner) = (what, number);
    }

    /// Where the work is, such as `step 7`.
    pub fn place(&self) -> String {
        let (kind, number) = *self.shared.place.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{kind} {number}")
    }

    /// Says on stderr that the work ends: `fault` in the exchange `what`, and why.
    pub fn say(&self, fault: &str, what: &str, why: &str) {
        self.shared.say(fault, what, why);
    }

    /// Watches `work`, which waits for other ranks.
    pub fn watch<R>(&self, what: &'static str, work: impl FnOnce() -> R) -> R {
        let set = |waiting| *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        set(Some((what, Instant::now())));
        let outcome = work();
        set(None);
        outcome
    }
}
