//! One process at a time in a folder, on one machine or on several that share it.
//!
//! The lock is a folder with one file in it, which is named after the claim. A claim is prepared beside it and takes its
//! place by one rename, which the system refuses while the folder there is not empty. The claim of an owner that has
//! died is broken by removing that one file, which is not there any more if the lock has changed hands meanwhile. Both
//! are atomic on a network's file systems too, where `flock` may be missing or hold on one machine only.
//!
//! An owner shows that it lives by changing a number in its claim. Of a process of the same machine the system says
//! whether it lives; a claim of another machine is broken when its number has stood still for a lease, by the clock of
//! whoever waits: clocks of two machines are never compared.

mod contender;
mod holder;

pub use contender::{Attempt, Contender};
pub use holder::{Claim, Holder};

use super::TEMPORARY;
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// The name of the lock in its folder.
pub const NAME: &str = "run.lock";

/// How long a machine may be silent before its claims are void, unless another time is asked for.
pub const LEASE: Duration = Duration::from_secs(60);

/// Signs of life in a lease.
const BEATS: u32 = 6;

/// How the one file in a lock begins.
const OWNER: &str = "owner-";

/// Holds a folder until it is dropped, or until its process or its machine dies.
#[derive(Debug)]
pub struct Lock {
    owned: Arc<Owned>,
    beating: Option<JoinHandle<()>>,
}

/// What the owner and its beating thread share.
#[derive(Debug)]
struct Owned {
    /// The folder that is locked.
    dir: PathBuf,
    /// The one file in the lock.
    file: PathBuf,
    claim: Claim,
    state: Mutex<State>,
    /// Woken when the lock is given back.
    ends: Condvar,
}

#[derive(Debug)]
struct State {
    beat: u64,
    /// When the last beat was written.
    at: Instant,
    /// Why the last beat could not be written.
    trouble: Option<String>,
    is_lost: bool,
    ends: bool,
}

impl Lock {
    /// Takes `dir`, which exists; an error naming the process that holds it otherwise.
    ///
    /// A claim of another machine is watched, for a lease at most, until it shows whether its owner lives.
    pub fn take(dir: &Path) -> Result<Self> {
        Contender::new(LEASE).take(dir)
    }

    /// Fails if the lock was lost: another process may be at work in the folder.
    pub fn check(&self) -> Result<()> {
        self.owned.check()
    }

    /// Makes a claim where the lock is free; none where another process was faster.
    fn claim(dir: &Path, lease: Duration) -> Result<Option<Self>> {
        let (place, claim) = (dir.join(NAME), Claim::new(lease));
        let name = format!("{OWNER}{}", unique());
        let prepared = dir.join(format!("{TEMPORARY}{name}"));
        let written = fs::create_dir(&prepared).and_then(|()| {
            let mut file = File::create_new(prepared.join(&name))?;
            file.write_all(claim.text(0).as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = written {
            let _ = fs::remove_dir_all(&prepared);
            return match error.kind() {
                // Whoever holds the lock has swept up what was being prepared.
                ErrorKind::NotFound if dir.is_dir() => Ok(None),
                _ => Err(Error::output(&place, error)),
            };
        }
        let renamed = fs::rename(&prepared, &place);
        let file = place.join(&name);
        // The answer of a server may be lost: what counts is what is there.
        if !file.exists() {
            let _ = fs::remove_dir_all(&prepared);
            return match renamed.map_err(|error| (error.kind(), error)) {
                // The prepared folder goes away when whoever holds the lock sweeps up.
                Ok(())
                | Err((ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists | ErrorKind::NotFound, _)) => {
                    Ok(None)
                }
                Err((_, error)) => Err(Error::output(&place, error)),
            };
        }
        let state = State { beat: 0, at: Instant::now(), trouble: None, is_lost: false, ends: false };
        let owned = Owned { dir: dir.into(), file, claim, state: Mutex::new(state), ends: Condvar::new() };
        let mut lock = Lock { owned: Arc::new(owned), beating: None };
        let owned = lock.owned.clone();
        let beating = std::thread::Builder::new().name("lock".into()).spawn(move || owned.keep());
        lock.beating = Some(beating.map_err(|e| Error::output(&place, e))?);
        Ok(Some(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let was_lost = {
            let mut state = self.owned.state();
            state.ends = true;
            state.is_lost
        };
        self.owned.ends.notify_all();
        if let Some(beating) = self.beating.take() {
            let _ = beating.join();
        }
        if !was_lost {
            // What cannot be removed now is broken by whoever comes next.
            let _ = fs::remove_file(&self.owned.file);
            let _ = fs::remove_dir(self.owned.dir.join(NAME));
        }
    }
}

impl Owned {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Beats until the lock is given back or lost.
    fn keep(&self) {
        let pause = self.claim.lease() / BEATS;
        let mut state = self.state();
        while !state.ends && !state.is_lost {
            let woken = self.ends.wait_timeout(state, pause);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            if !state.ends {
                self.beat(&mut state);
            }
        }
    }

    /// Changes the number in the claim.
    fn beat(&self, state: &mut State) {
        let text = self.claim.text(state.beat + 1);
        // Opened each time, so that other machines see the change, and that it is seen here whether the claim is there.
        let written = File::options().write(true).open(&self.file).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_data()
        });
        match written {
            Ok(()) => (state.beat, state.at, state.trouble) = (state.beat + 1, Instant::now(), None),
            Err(e) if e.kind() == ErrorKind::NotFound => state.is_lost = true,
            Err(e) => state.trouble = Some(e.to_string()),
        }
    }

    fn check(&self) -> Result<()> {
        let mut state = self.state();
        // This process itself may have been stopped for a while.
        if state.at.elapsed() > self.claim.lease() / 2 && !state.is_lost {
            self.beat(&mut state);
        }
        if state.is_lost {
            let what = "another process has taken the folder over, for this one showed no sign of life for a lease; \
                        give the command again";
            return Err(Error::output(&self.dir, what));
        }
        match &state.trouble {
            Some(trouble) if state.at.elapsed() > self.claim.lease() / 2 => {
                let what = format!("its lock could not be renewed for {:.0?}: {trouble}", state.at.elapsed());
                Err(Error::output(&self.dir, what))
            }
            _ => Ok(()),
        }
    }
}

/// The file of whoever holds the lock of `dir`, and its content; none where it is free.
fn occupant(dir: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let place = dir.join(NAME);
    let failed = |e: io::Error| Error::output(&place, e);
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotADirectory => {
            // No lock of this program.
            return fs::remove_file(&place).map_err(failed).map(|()| None);
        }
        Err(e) => return Err(failed(e)),
    };
    for entry in entries {
        // On a network's file system a folder can go away while it is read.
        let Ok(entry) = entry else { return Ok(None) };
        if entry.file_name().to_string_lossy().starts_with(OWNER) {
            let file = entry.path();
            return match fs::read(&file) {
                Ok(bytes) => Ok(Some((file, bytes))),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(failed(e)),
            };
        }
    }
    Ok(None)
}

/// Who is at work in `dir`, as far as this machine can know without waiting.
pub fn holder(dir: &Path) -> Option<Claim> {
    let (_, bytes) = occupant(dir).ok()??;
    Some(Claim::read(&bytes)).filter(|claim| !claim.holder.has_ended())
}

/// A name that no other process has, on any machine.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let text = format!("{:?} {count} {:?}", Holder::this(), SystemTime::now());
    blake3::hash(text.as_bytes()).to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests;
