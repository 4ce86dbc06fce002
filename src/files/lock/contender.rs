//! Whoever wants locks: what it has seen of other claims, and which of them it breaks.

use super::{BEATS, Claim, Lock, occupant};
use crate::error::{Error, Result};
use crate::files;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Claims that are found void in one attempt.
const TRIES: usize = 100;

/// How often a lock is looked at while one waits for it.
const PAUSE: Duration = Duration::from_millis(50);

/// What came of an attempt to take a lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    Held(Claim),
}

/// A process that takes locks.
#[derive(Debug)]
pub struct Contender {
    lease: Duration,
    /// The claims of other machines, and since when each has stood still.
    seen: HashMap<PathBuf, (Claim, Instant)>,
}

impl Contender {
    /// Its own claims are void when it has shown no sign of life for `lease`.
    pub fn new(lease: Duration) -> Self {
        Contender { lease, seen: HashMap::new() }
    }

    /// Takes the lock of `dir`, which exists, if it is free or its owner has died; never waits.
    ///
    /// The claim of another machine is found void by an attempt that is made again a lease later.
    pub fn attempt(&mut self, dir: &Path) -> Result<Attempt> {
        let mut last = None;
        for _ in 0..TRIES {
            match occupant(dir)? {
                None => {
                    if let Some(lock) = Lock::claim(dir, self.lease)? {
                        return Ok(Attempt::Taken(lock));
                    }
                }
                Some((file, bytes)) => {
                    let claim = Claim::read(&bytes);
                    if !self.is_void(&file, &claim) {
                        return Ok(Attempt::Held(claim));
                    }
                    last = Some(claim);
                    files::remove(&file)?;
                    self.seen.remove(&file);
                }
            }
        }
        Ok(Attempt::Held(last.unwrap_or_else(|| Claim::read(&[]))))
    }

    /// Whether the owner of `claim`, the content of `file`, has died.
    fn is_void(&mut self, file: &Path, claim: &Claim) -> bool {
        if claim.holder.is_here() {
            return claim.holder.has_ended();
        }
        match self.seen.get(file) {
            Some((seen, since)) if seen == claim => since.elapsed() >= claim.lease(),
            _ => {
                self.seen.insert(file.into(), (claim.clone(), Instant::now()));
                false
            }
        }
    }

    /// As [`Lock::take`].
    pub fn take(&mut self, dir: &Path) -> Result<Lock> {
        let mut first: Option<Claim> = None;
        loop {
            let claim = match self.attempt(dir)? {
                Attempt::Taken(lock) => return Ok(lock),
                Attempt::Held(claim) => claim,
            };
            let lives = first.as_ref().is_some_and(|first| *first != claim);
            if claim.holder.is_here() || lives {
                return Err(refusal(dir, &claim));
            }
            first = Some(claim);
            std::thread::sleep(PAUSE);
        }
    }

    /// Takes a lock that others hold for moments only; an error naming the holder after a lease and a half.
    pub fn wait(&mut self, dir: &Path) -> Result<Lock> {
        let start = Instant::now();
        loop {
            match self.attempt(dir)? {
                Attempt::Taken(lock) => return Ok(lock),
                Attempt::Held(claim)
                    if start.elapsed() > (self.lease.max(claim.lease())) * (BEATS + 3) / BEATS =>
                {
                    return Err(refusal(dir, &claim));
                }
                Attempt::Held(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// What is said to whoever wants what `claim` holds.
pub(super) fn refusal(dir: &Path, claim: &Claim) -> Error {
    Error::output(dir, format!("{} is at work there; wait for it or choose another folder", claim.holder))
}
