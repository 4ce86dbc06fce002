//! Several processes that train one model: which of them this is, and what they exchange.
//!
//! A [`Group`] is one process (every exchange is then nothing) or the ranks that a launcher started, which talk by MPI or
//! TCP, and on one machine exchange gradients in memory that they share. Sums add the ranks' parts in the order of the
//! ranks, so that the same number of ranks gives the same bits, on all of them and over any of these. Where the ranks'
//! devices exchange what is in their memory themselves, a group brings them together and watches over them.

mod devices;
mod launch;
mod meeting;
pub mod memory;
#[cfg(feature = "mpi")]
mod mpi;
pub mod scale;
mod sum;
mod tcp;
mod watchdog;
mod window;

pub use devices::{Backend, Begun};
pub use launch::{Launch, Launcher};
pub use sum::{BUCKET, CommunicationType};

use crate::error::Error;
use crate::units::Seconds;
use bytemuck::Pod;
use std::cell::{Cell, OnceCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watchdog::Watchdog;
use window::Window;

/// Whether the program was built with MPI.
pub const MPI: bool = cfg!(feature = "mpi");

/// Bytes that are broadcast at a time.
const PIECE: usize = 1 << 26;

/// Between two looks at whether another rank is still there.
const LOOK: Duration = Duration::from_millis(10);

/// A wait this short is worth a processor of its own, and a longer one is looked at this often.
const SHORT: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_micros(20);

type Result<T, E = Error> = std::result::Result<T, E>;

/// What moves bytes between ranks. Every rank makes the same calls in the same order.
trait Transport {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;

    /// Block r of `theirs` is this rank's block of what rank r sends; blocks are of one size.
    fn all_to_all(&self, ours: &[u8], theirs: &mut [u8]) -> Result<(), Lost>;

    /// Block r of `all` is what rank r sends; blocks are of one size.
    fn all_gather(&self, ours: &[u8], all: &mut [u8]) -> Result<(), Lost>;

    /// `bytes` are those of rank 0.
    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), Lost>;

    /// Whether another rank has ended all or gone, where it is known without waiting.
    fn lost(&self) -> Option<Lost> {
        None
    }

    /// Ends all ranks with `code`; `lost` is the rank that has gone, where that is why.
    fn abort(&self, code: i32, lost: Option<usize>) -> !;
}

/// Why an exchange did not come about.
#[derive(Debug)]
enum Lost {
    /// Another rank has ended all with this code, and said why.
    Ended(i32),
    /// A rank is there no more, and how that was noticed.
    Gone(usize, String),
}

/// Elements that ranks exchange, wherever they lie.
pub trait Elements {
    fn count(&self) -> usize;

    /// Copies those from `first` on.
    fn read(&self, first: usize, to: &mut [f32]) -> Result<()>;

    /// Replaces those from `first` on.
    fn write(&mut self, first: usize, from: &[f32]) -> Result<()>;
}

/// The processes that work on one run.
pub struct Group {
    transport: Option<Box<dyn Transport>>,
    watchdog: Option<Watchdog>,
    backend: Option<Backend>,
    /// Memory of all ranks, once one was looked for; there is none where they are on several machines.
    window: OnceCell<Option<Window>>,
    spent: Cell<Duration>,
    /// Whether this rank came to its end: a rank that is dropped before that ends all others, too.
    is_done: AtomicBool,
}

impl Group {
    /// One process.
    pub fn alone() -> Self {
        Group {
            transport: None,
            watchdog: None,
            backend: None,
            window: OnceCell::from(None),
            spent: Cell::default(),
            is_done: AtomicBool::new(true),
        }
    }

    /// Meets the other ranks of `launch`; each wait for them ends this process after `limit`. `lost` says whether it is known
    /// that one of them will not come.
    pub fn join(launch: &Launch, limit: Duration, lost: &dyn Fn() -> bool) -> Result<Self> {
        if launch.world_size == 1 {
            return Ok(Group::alone());
        }
        let watchdog = Watchdog::start(launch, limit)?;
        let transport = match MPI && matches!(launch.launcher, Launcher::Mpirun | Launcher::Srun) {
            true => watchdog.watch("meeting", mpi)?,
            false => Box::new(meeting::meet(launch, limit, lost)?.telling(watchdog.awaited())),
        };
        let group = Group {
            transport: Some(transport),
            watchdog: Some(watchdog),
            backend: None,
            window: if launch.is_local() { OnceCell::new() } else { OnceCell::from(None) },
            spent: Cell::default(),
            is_done: AtomicBool::new(false),
        };
        if (group.rank(), group.size()) != (launch.rank, launch.world_size) {
            group.finish();
            return Err(Error::Device(format!(
                "{} says rank {} of {}, and MPI says rank {} of {}: start the program with the mpirun of the MPI that it \
                 was built with",
                launch.launcher,
                launch.rank,
                launch.world_size,
                group.rank(),
                group.size()
            )));
        }
        Ok(group)
    }

    pub fn rank(&self) -> usize {
        self.transport.as_ref().map_or(0, |transport| transport.rank())
    }

    pub fn size(&self) -> usize {
        self.transport.as_ref().map_or(1, |transport| transport.size())
    }

    pub fn is_alone(&self) -> bool {
        self.transport.is_none()
    }

    /// Whether this rank writes what the run writes.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// What errors say of where the work is: the step or example of this number.
    pub fn at(&self, what: &'static str, number: u64) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.at(what, number);
        }
    }

    /// Time that this rank has spent in exchanges, waits for other ranks included.
    pub fn spent(&self) -> Seconds {
        self.spent.get().into()
    }

    /// What every rank gives, in the order of the ranks.
    pub fn gather<T: Pod>(&self, ours: &[T]) -> Vec<Vec<T>> {
        let gathered = self.exchange("exchange of results", |transport| {
            let bytes: &[u8] = bytemuck::cast_slice(ours);
            let mut lengths = vec![0u64; transport.size()];
            transport
                .all_gather(&(bytes.len() as u64).to_ne_bytes(), bytemuck::cast_slice_mut(&mut lengths))?;
            let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
            let mut padded = bytes.to_vec();
            padded.resize(longest, 0);
            let mut all = vec![0u8; longest * transport.size()];
            if longest > 0 {
                transport.all_gather(&padded, &mut all)?;
            }
            let of_rank = |rank: usize| {
                let bytes = &all[rank * longest..][..lengths[rank] as usize];
                bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
            };
            Ok((0..transport.size()).map(of_rank).collect())
        });
        gathered.unwrap_or_else(|| vec![ours.to_vec()])
    }

    /// Gives all ranks what `bytes` are on the first.
    pub fn broadcast(&self, bytes: &mut Vec<u8>) {
        self.exchange("broadcast", |transport| {
            let mut length = (bytes.len() as u64).to_ne_bytes();
            transport.broadcast(&mut length)?;
            bytes.resize(u64::from_ne_bytes(length) as usize, 0);
            bytes.chunks_mut(PIECE).try_for_each(|piece| transport.broadcast(piece))
        });
    }

    /// Gives all ranks what `values` are on the first; all have as many.
    pub fn broadcast_values(&self, values: &mut [f32]) {
        self.exchange("broadcast", |transport| {
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
            bytes.chunks_mut(PIECE).try_for_each(|piece| transport.broadcast(piece))
        });
    }

    /// The texts of all ranks, one rank's after the other's.
    pub fn gather_texts(&self, ours: Vec<String>) -> Result<Vec<String>> {
        if self.is_alone() {
            return Ok(ours);
        }
        let not_json = |e: serde_json::Error| Error::internal(format!("texts of ranks are not JSON: {e}"));
        let mut all = Vec::new();
        for texts in self.gather(&serde_json::to_vec(&ours).map_err(not_json)?) {
            all.extend(serde_json::from_slice::<Vec<String>>(&texts).map_err(not_json)?);
        }
        Ok(all)
    }

    /// The texts of the first rank.
    pub fn texts_of_first(&self, ours: Vec<String>) -> Result<Vec<String>> {
        self.gather_texts(if self.is_first() { ours } else { Vec::new() })
    }

    /// The greatest of the ranks' numbers.
    pub fn most(&self, ours: i64) -> i64 {
        self.gather(&[ours]).into_iter().flatten().max().unwrap_or(ours)
    }

    /// The signal that any rank was sent, on all of them at once.
    pub fn asked(&self, ours: Option<i32>) -> Option<i32> {
        if self.is_alone() {
            return ours;
        }
        match self.most(ours.map_or(-1, i64::from)) {
            -1 => None,
            signal => Some(signal as i32),
        }
    }

    /// Waits until all ranks have come here.
    pub fn wait_for_all(&self) {
        self.gather::<u8>(&[]);
    }

    /// Fails, on every rank, unless all are about to do the same with the same program, each on its own `gpu`.
    pub fn agree_on_work(&self, settings: &str, gpu: Option<&str>) -> Result<()> {
        self.agree("version of wattention", env!("CARGO_PKG_VERSION"))?;
        self.agree("settings, model or data", settings)?;
        self.apart("GPU", gpu)
    }

    /// Fails, on every rank, unless `what` is the same on all of them.
    pub fn agree(&self, name: &str, what: &str) -> Result<()> {
        let all = self.gather(what.as_bytes());
        let said = |rank: usize| String::from_utf8_lossy(&all[rank]).into_owned();
        match (1..all.len()).find(|&rank| all[rank] != all[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::usage(format!(
                "rank {rank} differs from rank 0 in its {name}: {} there, {} here on rank 0; start all ranks with the same \
                 program, command and files",
                shown(&said(rank)),
                shown(&said(0))
            ))),
        }
    }

    /// Fails, on every rank, if two of them have the same `what`, where they have one.
    pub fn apart(&self, name: &str, what: Option<&str>) -> Result<()> {
        let all = self.gather(what.unwrap_or_default().as_bytes());
        for (rank, this) in all.iter().enumerate().filter(|(_, this)| !this.is_empty()) {
            if let Some(other) = all[..rank].iter().position(|other| other == this) {
                return Err(Error::Device(format!(
                    "ranks {other} and {rank} have the same {name} ({}): start one rank a {name}, or name them by \
                     CUDA_VISIBLE_DEVICES",
                    shown(&String::from_utf8_lossy(this))
                )));
            }
        }
        Ok(())
    }

    /// Says that this rank came to its end, so that its going ends no other.
    pub fn finish(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }

    /// Ends all ranks with `code`.
    pub fn abort(&self, code: i32) -> ! {
        match &self.transport {
            Some(transport) => transport.abort(code, None),
            None => std::process::exit(code),
        }
    }

    /// The code with which another rank has ended all, having said why.
    pub fn has_ended(&self) -> Option<i32> {
        match self.transport.as_ref()?.lost()? {
            Lost::Ended(code) => Some(code),
            Lost::Gone(..) => None,
        }
    }

    /// An exchange with the other ranks, which is timed and watched.
    fn exchange<R>(
        &self,
        what: &'static str,
        work: impl FnOnce(&dyn Transport) -> Result<R, Lost>,
    ) -> Option<R> {
        let start = Instant::now();
        let outcome = self.watched(what, work);
        self.spent.set(self.spent.get() + start.elapsed());
        outcome
    }

    /// Work that needs the other ranks, which is watched. Without one of them no rank goes on.
    fn watched<R>(
        &self,
        what: &'static str,
        work: impl FnOnce(&dyn Transport) -> Result<R, Lost>,
    ) -> Option<R> {
        let (Some(transport), Some(watchdog)) = (&self.transport, &self.watchdog) else { return None };
        match watchdog.watch(what, || work(&**transport)) {
            Ok(outcome) => Some(outcome),
            Err(Lost::Ended(code)) => transport.abort(code, None),
            Err(Lost::Gone(rank, why)) => {
                watchdog.say(
                    &format!("rank {rank} has gone"),
                    what,
                    &format!("{why}; it died, or its link is down"),
                );
                transport.abort(Error::Device(String::new()).exit_code(), Some(rank))
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The others would wait for this one for ever.
        if !*self.is_done.get_mut() {
            self.abort(70);
        }
    }
}

/// What `look` finds, as soon as it finds something, unless `lost` finds another rank gone before.
fn wait_until<R>(lost: &dyn Fn() -> Option<Lost>, mut look: impl FnMut() -> Option<R>) -> Result<R, Lost> {
    let start = Instant::now();
    let mut looked = start;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        match start.elapsed() < SHORT {
            true => std::thread::yield_now(),
            false => std::thread::sleep(PAUSE),
        }
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            lost().map_or(Ok(()), Err)?;
        }
    }
}

/// The head of what may be long.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(feature = "mpi")]
fn mpi() -> Result<Box<dyn Transport>> {
    Ok(Box::new(mpi::Mpi::start()?))
}

#[cfg(not(feature = "mpi"))]
fn mpi() -> Result<Box<dyn Transport>> {
    Err(Error::internal("this program was built without MPI"))
}

#[cfg(test)]
pub(crate) mod tests;
