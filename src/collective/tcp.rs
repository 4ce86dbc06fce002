//! TCP between ranks: every two have a connection, over which each sends what is its own part of an exchange.
//!
//! A message is its length and its bytes. A length that no message has says that the sender ends: with which code, and
//! which other rank it has lost.

use super::watchdog::Awaited;
use super::{Lost, Transport};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// In place of a length.
const ENDS: u64 = u64::MAX;

/// What a socket takes at once, whether or not the other side reads.
const SMALL: usize = 1 << 13;

/// How it is noticed that a rank has gone.
const CLOSED: &str = "it has closed its connection";

/// How long a rank that ends tries to say so.
const FAREWELL: Duration = Duration::from_millis(200);

pub struct Tcp {
    rank: usize,
    /// By rank; none of this rank itself.
    peers: Vec<Option<TcpStream>>,
    awaited: Arc<Awaited>,
}

impl Tcp {
    pub fn new(rank: usize, peers: Vec<Option<TcpStream>>) -> io::Result<Self> {
        for peer in peers.iter().flatten() {
            peer.set_nodelay(true)?;
            peer.set_read_timeout(None)?;
        }
        Ok(Tcp { rank, peers, awaited: Arc::default() })
    }

    /// Tells `awaited` from now on which rank is waited for.
    pub fn telling(self, awaited: Arc<Awaited>) -> Self {
        Tcp { awaited, ..self }
    }

    /// Sends `ours(r)` to every rank r and puts what it sends in `theirs`, in blocks of one size.
    fn swap<'a>(&self, ours: impl Fn(usize) -> &'a [u8] + Sync, theirs: &mut [u8]) -> Result<(), Lost> {
        let size = self.peers.len();
        let block = theirs.len() / size;
        theirs[self.rank * block..][..block].copy_from_slice(ours(self.rank));
        // In the k-th turn every rank sends to the k-th after it and hears from the k-th before it.
        let send = || (1..size).map(|k| (self.rank + k) % size).try_for_each(|to| self.send(to, ours(to)));
        let mut receive = || {
            let mut from = (1..size).map(|k| (self.rank + size - k) % size);
            from.try_for_each(|from| self.receive(from, &mut theirs[from * block..][..block]))
        };
        if block <= SMALL {
            let sent = send();
            // A rank that has ended said why, which is more than that it cannot be written to.
            return receive().and(sent);
        }
        std::thread::scope(|scope| {
            let sender = scope.spawn(send);
            let received = receive();
            if received.is_err() {
                // Whom it still sends to may wait for this rank, which reads no more.
                self.peers.iter().flatten().for_each(|peer| drop(peer.shutdown(Shutdown::Both)));
            }
            let sent = sender.join().unwrap_or(Err(Lost::Ended(70)));
            received.and(sent)
        })
    }

    fn peer(&self, rank: usize) -> Result<&TcpStream, Lost> {
        self.peers[rank].as_ref().ok_or_else(|| Lost::Gone(rank, "it is this rank".into()))
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<(), Lost> {
        let mut peer = self.peer(to)?;
        let gone = |e: io::Error| Lost::Gone(to, e.to_string());
        peer.write_all(&(bytes.len() as u64).to_le_bytes()).map_err(gone)?;
        peer.write_all(bytes).map_err(gone)
    }

    fn receive(&self, from: usize, bytes: &mut [u8]) -> Result<(), Lost> {
        self.awaited.set(Some(from));
        let received = self.read(from, bytes);
        self.awaited.set(None);
        received
    }

    fn read(&self, from: usize, bytes: &mut [u8]) -> Result<(), Lost> {
        let mut peer = self.peer(from)?;
        let gone = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => Lost::Gone(from, CLOSED.into()),
            _ => Lost::Gone(from, e.to_string()),
        };
        let mut length = [0; 8];
        peer.read_exact(&mut length).map_err(gone)?;
        match u64::from_le_bytes(length) {
            ENDS => {
                let mut farewell = [0; 8];
                peer.read_exact(&mut farewell).map_err(gone)?;
                Err(end(farewell))
            }
            length if length == bytes.len() as u64 => peer.read_exact(bytes).map_err(gone),
            length => {
                let what = format!("it sends {length} bytes where {} were to come", bytes.len());
                Err(Lost::Gone(from, what))
            }
        }
    }
}

/// Why `peer` has ended all, where it has said so and nothing else before.
pub fn farewell(peer: &TcpStream) -> Option<Lost> {
    let mut bytes = [0; 16];
    peer.set_nonblocking(true).ok()?;
    let seen = peer.peek(&mut bytes);
    peer.set_nonblocking(false).ok()?;
    let (head, tail) = bytes.split_at(8);
    let has_ended = seen.ok()? == bytes.len() && head == ENDS.to_le_bytes();
    has_ended.then_some(end(tail.try_into().ok()?))
}

/// Whether the other side has closed the connection, and said nothing that is still to be read.
pub fn has_gone(peer: &TcpStream) -> bool {
    let closed = peer.set_nonblocking(true).and_then(|()| peer.peek(&mut [0]));
    peer.set_nonblocking(false).is_err() || matches!(closed, Ok(0))
}

/// What a rank says that ends: its code, and one more than the rank that it has lost.
fn ending(code: i32, lost: Option<usize>) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&ENDS.to_le_bytes());
    bytes[8..12].copy_from_slice(&code.to_le_bytes());
    bytes[12..].copy_from_slice(&lost.map_or(0, |rank| rank as u32 + 1).to_le_bytes());
    bytes
}

fn end([a, b, c, d, lost @ ..]: [u8; 8]) -> Lost {
    match u32::from_le_bytes(lost) {
        0 => Lost::Ended(i32::from_le_bytes([a, b, c, d])),
        rank => Lost::Gone(rank as usize - 1, "another rank has lost it".into()),
    }
}

impl Transport for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.peers.len()
    }

    fn all_to_all(&self, ours: &[u8], theirs: &mut [u8]) -> Result<(), Lost> {
        let block = theirs.len() / self.peers.len();
        self.swap(|to| &ours[to * block..][..block], theirs)
    }

    fn all_gather(&self, ours: &[u8], all: &mut [u8]) -> Result<(), Lost> {
        self.swap(|_| ours, all)
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), Lost> {
        match self.rank {
            0 => (1..self.peers.len()).try_for_each(|to| self.send(to, bytes)),
            _ => self.receive(0, bytes),
        }
    }

    fn lost(&self) -> Option<Lost> {
        let mut gone = None;
        for (rank, peer) in self.peers.iter().enumerate() {
            let Some(peer) = peer else { continue };
            match farewell(peer) {
                // It said why, which is more than that somebody is there no more.
                Some(Lost::Ended(code)) => return Some(Lost::Ended(code)),
                Some(lost) => gone = Some(lost),
                None if has_gone(peer) => gone = gone.or(Some(Lost::Gone(rank, CLOSED.into()))),
                None => {}
            }
        }
        gone
    }

    fn abort(&self, code: i32, lost: Option<usize>) -> ! {
        for mut peer in self.peers.iter().flatten() {
            let _ = peer.set_write_timeout(Some(FAREWELL));
            let _ = peer.write_all(&ending(code, lost));
            let _ = peer.shutdown(Shutdown::Write);
        }
        std::process::exit(code)
    }
}
