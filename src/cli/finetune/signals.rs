//! Signals that ask a run to stop at the next step; the second SIGINT stops it at once.

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// (signal, the one whose exit code tells of it): schedulers warn with SIGUSR1 before they stop a job.
const SIGNALS: [(i32, i32); 3] = [(SIGINT, SIGINT), (SIGTERM, SIGTERM), (SIGUSR1, SIGTERM)];

/// Catches the signals for the rest of the process.
pub struct Signals {
    /// The signal that came, 0 before one has.
    caught: Arc<AtomicUsize>,
    /// Whether nothing is left to save.
    idle: Arc<AtomicBool>,
}

impl Signals {
    pub fn catch() -> io::Result<Self> {
        let signals = Signals { caught: Arc::default(), idle: Arc::default() };
        for (signal, told) in SIGNALS {
            flag::register_conditional_shutdown(signal, 128 + told, signals.idle.clone())?;
            flag::register_usize(signal, signals.caught.clone(), told as usize)?;
        }
        // Schedulers repeat their signals; who presses Ctrl-C again does not want to wait. Asked before it is
        // set, so that the first one does not see itself.
        let again = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, again.clone())?;
        flag::register(SIGINT, again)?;
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
        self.idle.store(true, Ordering::Relaxed);
    }
}

/// A run that is over, and one that has failed, leave nothing to save: mpirun ends a rank by signals.
impl Drop for Signals {
    fn drop(&mut self) {
        self.let_go();
    }
}
