//! Signals that ask a run to stop: at the next step at first, at once when they come again.

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// (signal, the one whose exit code tells of it): schedulers warn with SIGUSR1 before they stop a job.
const SIGNALS: [(i32, i32); 3] = [(SIGINT, SIGINT), (SIGTERM, SIGTERM), (SIGUSR1, SIGTERM)];

/// Catches the signals for the rest of the process.
#[derive(Clone)]
pub struct Signals {
    /// The signal that came, 0 before one has.
    caught: Arc<AtomicUsize>,
    /// Whether the next SIGINT or SIGTERM ends the process at once.
    at_once: Arc<AtomicBool>,
}

impl Signals {
    pub fn catch() -> io::Result<Self> {
        let signals = Signals { caught: Arc::default(), at_once: Arc::default() };
        for (signal, told) in SIGNALS {
            // A warning may be repeated; only who asks again to stop wants it now.
            if signal != SIGUSR1 {
                // Registered first: it must not see what the same signal sets below.
                flag::register_conditional_shutdown(signal, 128 + told, signals.at_once.clone())?;
                flag::register(signal, signals.at_once.clone())?;
            }
            flag::register_usize(signal, signals.caught.clone(), told as usize)?;
        }
        Ok(signals)
    }

    /// The signal that asks the run to stop, if one has come.
    pub fn caught(&self) -> Option<i32> {
        match self.caught.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Nothing is left to save: the next signal ends the process at once.
    pub fn let_go(&self) {
        self.at_once.store(true, Ordering::Relaxed);
    }
}
