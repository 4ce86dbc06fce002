//! The store of keys and values that torchrun's agent has at MASTER_ADDR:MASTER_PORT, as far as one address needs it.
//!
//! PyTorch's `TCPStore`: a client says a magic number; a command is a byte, and texts follow their lengths, 64 bits, in
//! the machine's order of bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const MAGIC: u32 = 0x3C85_F7CE;
const VALIDATE: u8 = 0;
const SET: u8 = 1;
const GET: u8 = 3;
const CHECK: u8 = 5;
/// The answer to [`CHECK`].
const READY: u8 = 0;

const PAUSE: Duration = Duration::from_millis(50);

pub struct Store(TcpStream);

impl Store {
    pub fn open(host: &str, port: u16, until: Instant) -> io::Result<Self> {
        let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
        let stream = super::connect(&(host.to_string(), port), left)?;
        stream.set_read_timeout(Some(left))?;
        let mut store = Store(stream);
        store.0.write_all(&[&[VALIDATE][..], &MAGIC.to_ne_bytes()].concat())?;
        Ok(store)
    }

    /// Leaves under `key` that this process waits at `port`; `host` is the store's.
    pub fn publish(mut self, key: &str, host: &str, port: u16) -> io::Result<()> {
        // Whoever reaches the store over no network is on its machine, which others know by its name.
        let here = match self.0.local_addr()?.ip() {
            ip if ip.is_loopback() => host.to_string(),
            ip => ip.to_string(),
        };
        self.0.write_all(&[&[SET][..], &text(key), &text(&format!("{here} {port}"))].concat())
    }

    /// Host and port under `key`, as soon as they are there.
    pub fn find(mut self, key: &str, until: Instant) -> io::Result<(String, u16)> {
        loop {
            self.0.write_all(&[&[CHECK][..], &1u64.to_ne_bytes(), &text(key)].concat())?;
            let mut answer = [0];
            self.0.read_exact(&mut answer)?;
            if answer == [READY] {
                break;
            }
            if Instant::now() >= until {
                return Err(io::Error::new(ErrorKind::TimedOut, "rank 0 has left no address there in time"));
            }
            std::thread::sleep(PAUSE);
        }
        self.0.write_all(&[&[GET][..], &text(key)].concat())?;
        let mut length = [0; 8];
        self.0.read_exact(&mut length)?;
        let mut value = String::new();
        self.0.take(u64::from_ne_bytes(length)).read_to_string(&mut value)?;
        let found =
            value.split_once(' ').and_then(|(host, port)| Some((host.to_string(), port.parse().ok()?)));
        found.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("'{value}' is no address")))
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_ne_bytes()[..], text.as_bytes()].concat()
}
