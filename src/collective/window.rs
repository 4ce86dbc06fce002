//! Memory that the ranks of one machine have in common: gradients that pass through it pass through no socket.
//!
//! The first rank makes it, with a name in no folder, and the others map it by the first one's entry in /proc. Where one
//! of them cannot, as between containers, none does.

use super::watchdog::Awaited;
use super::{Elements, Lost, Transport, wait_until};
use crate::shape::Stored;
use memmap2::{MmapOptions, MmapRaw};
use rayon::prelude::*;
use std::cell::Cell;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements that are summed at a time: a piece, and what others give for it, stay in a core's caches.
pub const PIECE: usize = 1 << 18;

/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 12;

/// Bytes between counters, so that two of them share no line of a cache.
const LINE: usize = 128;

/// Where the first rank has made the memory: its process, the file's number there, and what the file begins with.
type Place = [u64; 4];

pub struct Window {
    map: MmapRaw,
    rank: usize,
    size: usize,
    /// How often all ranks have waited for each other.
    turn: Cell<u64>,
}

impl Window {
    /// Of all ranks, if all of them can have it.
    pub fn open(transport: &dyn Transport) -> Result<Option<Self>, Lost> {
        let (rank, size) = (transport.rank(), transport.size());
        let bytes = LINE * (1 + size) + size * region(size);
        let mut place = Place::default();
        let made = (rank == 0).then(|| make(bytes).ok()).flatten();
        if let Some((file, name)) = &made {
            place = [u64::from(std::process::id()), file.as_raw_fd() as u64, name[0], name[1]];
        }
        transport.broadcast(bytemuck::cast_slice_mut(&mut place))?;
        let file = if rank == 0 { made.map(|(file, _)| file) } else { open(place, bytes).ok() };
        // The file stays open until the others have opened it, too.
        let map = file.as_ref().and_then(|file| MmapOptions::new().len(bytes).map_raw(file).ok());
        let mut all = vec![0; size];
        transport.all_gather(&[u8::from(map.is_some())], &mut all)?;
        let map = map.filter(|_| all.iter().all(|&has| has == 1));
        Ok(map.map(|map| Window { map, rank, size, turn: Cell::new(0) }))
    }

    /// Puts in each of at most [`PIECE`] values the sum over all ranks, of what each gives as a `T` and in their order, as
    /// a `T`. Every rank sums a part of them for all.
    pub fn sum<T: Stored>(
        &self,
        values: &mut [f32],
        transport: &dyn Transport,
        awaited: &Awaited,
    ) -> Result<(), Lost> {
        let part = |rank: usize| part(values.len(), rank, self.size);
        let others: Vec<(usize, Range<usize>)> =
            (0..self.size).filter(|&rank| rank != self.rank).map(|rank| (rank, part(rank))).collect();
        let own = part(self.rank);
        for (rank, part) in &others {
            // SAFETY: only the other rank reads this block, between the two waits below.
            let block = unsafe { self.block::<T>(self.rank, *rank, part.len()) };
            let from = values[part.clone()].par_chunks(CHUNK);
            block.par_chunks_mut(CHUNK).zip(from).for_each(|(to, from)| copy(to, from, T::narrow));
        }
        self.wait_for_all(transport, awaited)?;
        // SAFETY: the others have written theirs before the wait, and read this rank's sums after the next one.
        let (given, sums) = unsafe {
            let given = |rank| match rank == self.rank {
                true => &[][..],
                false => &*self.block::<T>(rank, self.rank, own.len()),
            };
            let given: Vec<&[T]> = (0..self.size).map(given).collect();
            (given, self.block::<T>(self.rank, self.rank, own.len()))
        };
        let us = self.rank;
        let chunks = values[own].par_chunks_mut(CHUNK).zip(sums.par_chunks_mut(CHUNK)).enumerate();
        chunks.for_each(|(at, (values, sums))| {
            copy(sums, values, T::narrow);
            let mut sum = [0.0; CHUNK];
            let sum = &mut sum[..values.len()];
            for (rank, given) in given.iter().enumerate() {
                let given = if rank == us { &*sums } else { &given[at * CHUNK..] };
                match rank {
                    0 => copy(sum, given, T::wide),
                    _ => sum.iter_mut().zip(given).for_each(|(sum, x)| *sum += x.wide()),
                }
            }
            copy(sums, sum, T::narrow);
            copy(values, sums, T::wide);
        });
        self.wait_for_all(transport, awaited)?;
        for (rank, part) in others {
            // SAFETY: the other rank writes its sums again only after the next wait.
            let block: &[T] = unsafe { self.block(rank, rank, part.len()) };
            let to = values[part].par_chunks_mut(CHUNK);
            to.zip(block.par_chunks(CHUNK)).for_each(|(to, from)| copy(to, from, T::wide));
        }
        Ok(())
    }

    /// Gives every rank what the others have of their parts of `values`.
    pub fn share(
        &self,
        values: &mut impl Elements,
        parts: &[Range<usize>],
        transport: &dyn Transport,
        awaited: &Awaited,
    ) -> Result<super::Result<()>, Lost> {
        let most = PIECE / self.size;
        let longest = parts.iter().map(Range::len).max().unwrap_or(0);
        for (turn, first) in (0..longest).step_by(most).enumerate() {
            let piece = |rank: usize| {
                let Range { start, end } = parts[rank];
                (start + first).min(end)..(start + first + most).min(end)
            };
            // Two blocks of each rank in turn, for another rank may still read the one before; first the one that is free
            // after a sum, whose results another rank may still read, too.
            let block = |rank: usize| (rank, (rank + 1 - turn % 2) % self.size, piece(rank).len());
            let (from, to, len) = block(self.rank);
            // SAFETY: the others read this block after the next wait, and are through with it before the one after that.
            let ours = unsafe { self.block::<f32>(from, to, len) };
            if len > 0
                && let Err(error) = values.read(piece(self.rank).start, ours)
            {
                return Ok(Err(error));
            }
            self.wait_for_all(transport, awaited)?;
            for rank in (0..self.size).filter(|&rank| rank != self.rank && !piece(rank).is_empty()) {
                let (from, to, len) = block(rank);
                // SAFETY: the other rank wrote it before the wait.
                let theirs: &[f32] = unsafe { self.block(from, to, len) };
                if let Err(error) = values.write(piece(rank).start, theirs) {
                    return Ok(Err(error));
                }
            }
        }
        // What is exchanged next may use any block.
        self.wait_for_all(transport, awaited)?;
        Ok(Ok(()))
    }

    /// Waits until every rank has come here as often as this one.
    fn wait_for_all(&self, transport: &dyn Transport, awaited: &Awaited) -> Result<(), Lost> {
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        self.counter(self.rank).store(turn, Ordering::Release);
        for rank in (0..self.size).filter(|&rank| rank != self.rank) {
            let has_come = || self.counter(rank).load(Ordering::Acquire) >= turn;
            if has_come() {
                continue;
            }
            awaited.set(Some(rank));
            let outcome = wait_until(&|| transport.lost(), || has_come().then_some(()));
            awaited.set(None);
            outcome?;
        }
        Ok(())
    }

    fn counter(&self, rank: usize) -> &AtomicU64 {
        // SAFETY: inside the map and aligned; other processes use it as an atomic, too.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(LINE * (1 + rank)).cast()) }
    }

    /// What rank `from` gives rank `to`; to itself, the sums that it has made.
    ///
    /// # Safety
    /// No rank writes the block while another one uses it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn block<T: Stored>(&self, from: usize, to: usize, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= region(self.size) / self.size);
        let at = LINE * (1 + self.size) + from * region(self.size) + to * (region(self.size) / self.size);
        // SAFETY: inside the map, aligned to a line; every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at).cast(), len) }
    }
}

/// Bytes of what a rank gives, a block for each.
fn region(size: usize) -> usize {
    size * (PIECE.div_ceil(size) * size_of::<f32>()).next_multiple_of(LINE)
}

/// The part of `len` elements that a rank sums.
fn part(len: usize, rank: usize, size: usize) -> Range<usize> {
    let each = len.div_ceil(size);
    (rank * each).min(len)..((rank + 1) * each).min(len)
}

fn copy<A: Copy, B>(to: &mut [B], from: &[A], as_: impl Fn(A) -> B) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = as_(*from));
}

/// A file of so many bytes that is nowhere but in memory, and the name that it begins with.
#[cfg(target_os = "linux")]
fn make(bytes: usize) -> io::Result<(File, [u64; 2])> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name ends with a zero, and the number is nobody else's.
    let file = unsafe {
        match libc::memfd_create(c"wattention".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => return Err(io::Error::last_os_error()),
            number => File::from_raw_fd(number),
        }
    };
    file.set_len(bytes as u64)?;
    // Memory that is short is an error here, and would be a signal at the first use.
    // SAFETY: the file is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let name = [(); 2].map(|()| RandomState::new().hash_one(std::process::id()));
    file.write_all_at(bytemuck::cast_slice(&name), 0)?;
    Ok((file, name))
}

#[cfg(not(target_os = "linux"))]
fn make(_: usize) -> io::Result<(File, [u64; 2])> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The file of the first rank, if this process reaches it.
fn open([process, number, name @ ..]: Place, bytes: usize) -> io::Result<File> {
    // Whatever has that number in another container shall not be waited for.
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(format!("/proc/{process}/fd/{number}"))?;
    let about = file.metadata()?;
    let mut found = [0u64; 2];
    if !about.is_file() || about.len() != bytes as u64 {
        return Err(io::ErrorKind::NotFound.into());
    }
    file.read_exact_at(bytemuck::cast_slice_mut(&mut found), 0)?;
    match found == name {
        true => Ok(file),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}
