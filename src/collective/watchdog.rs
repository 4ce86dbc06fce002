//! A thread that ends this process when the other ranks do not answer: MPI waits for them for ever.

use super::Launch;
use crate::error::{Error, Result};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What an exchange that began is called, and when it did.
type Waiting = Mutex<Option<(&'static str, Instant)>>;

pub struct Watchdog {
    shared: Arc<Shared>,
}

struct Shared {
    waiting: Waiting,
    step: AtomicU64,
}

impl Watchdog {
    /// Waits of more than `limit` end the process with 69.
    pub fn start(launch: &Launch, limit: Duration) -> Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::new(None), step: AtomicU64::new(0) });
        let (seen, who) = (Arc::downgrade(&shared), launch.to_string());
        let pause = (limit / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let watch = move || {
            while let Some(shared) = seen.upgrade() {
                let waiting = *shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((what, _)) = waiting.filter(|(_, since)| since.elapsed() > limit) {
                    let step = shared.step.load(Ordering::Relaxed);
                    let _ = writeln!(
                        std::io::stderr(),
                        "error: {who}: another rank has not answered for {limit:?} at step {step} ({what}): it died, hangs, or \
                         its link is down; look at its log, and resume with --resume auto (--ddp-timeout sets the limit)"
                    );
                    // SAFETY: it takes any number. What else runs at a process's end would wait for MPI, which hangs.
                    unsafe { libc::_exit(Error::Device(String::new()).exit_code()) }
                }
                drop(shared);
                std::thread::sleep(pause);
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
        thread.map_err(|e| Error::DoesNotFit(format!("the watchdog's thread does not start: {e}")))?;
        Ok(Watchdog { shared })
    }

    pub fn at_step(&self, step: u64) {
        self.shared.step.store(step, Ordering::Relaxed);
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
