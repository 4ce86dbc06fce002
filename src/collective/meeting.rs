//! How ranks that talk by TCP find each other: all others go to the first, which tells each where the rest are.
//!
//! The first waits at MASTER_ADDR:MASTER_PORT. Where torchrun has a store there, it leaves its address in that instead.

mod store;

use super::Launch;
use super::tcp::{self, Tcp, has_gone};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant, SystemTime};
use store::Store;

/// The first bytes of a rank to the first one.
const MAGIC: &[u8; 8] = b"wattrank";

/// Between two looks at whether somebody has come.
const PAUSE: Duration = Duration::from_millis(5);

/// How long whoever has come may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// The most bytes that a rank says of itself, or the first of all.
const MOST: usize = 1 << 20;

/// What a rank says of itself.
#[derive(Serialize, Deserialize)]
struct Hello {
    version: String,
    job: Option<String>,
    restarts: u64,
    rank: usize,
    size: usize,
    host: String,
    /// Where it waits for the ranks after it.
    port: u16,
}

/// What the first rank answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// Where each rank waits, and what they know each other by.
    Met(Vec<SocketAddr>, u64),
    Refused(String),
}

/// Meets all ranks of `launch` until `limit` is over, or the first one hears that another is `lost`.
pub fn meet(launch: &Launch, limit: Duration, lost: &dyn Fn() -> bool) -> Result<Tcp> {
    let until = Instant::now() + limit.min(Duration::from_secs(1 << 30));
    let (listener, peers) = match launch.rank {
        0 => first(launch, until, lost)?,
        _ => other(launch, until)?,
    };
    drop(listener);
    Tcp::new(launch.rank, peers).map_err(|e| Error::Device(format!("connections between ranks: {e}")))
}

type Met = (TcpListener, Vec<Option<TcpStream>>);

/// The address of MASTER_ADDR and MASTER_PORT; ranks of one machine need no name of it.
fn master(launch: &Launch) -> Result<(String, u16)> {
    let master = launch.master.as_deref().unwrap_or_default();
    let port = master.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match port {
        Some((_, port)) if launch.is_local() => Ok((Ipv4Addr::LOCALHOST.to_string(), port)),
        Some((host, port)) => Ok((host.to_string(), port)),
        None => Err(Error::usage(format!(
            "{} started {} ranks and MASTER_ADDR:MASTER_PORT is '{master}': set them to the first rank's machine and a free \
             port of it; ranks of mpirun and srun need neither in a build with MPI (`cargo install --features mpi`)",
            launch.launcher, launch.world_size
        ))),
    }
}

fn listen(launch: &Launch, port: u16) -> io::Result<TcpListener> {
    let listener = match launch.is_local() {
        true => TcpListener::bind((Ipv4Addr::LOCALHOST, port)),
        // IPv4 comes there, too; a machine may have no IPv6.
        false => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|e| match e.kind() {
            ErrorKind::AddrInUse => Err(e),
            _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        }),
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn first(launch: &Launch, until: Instant, lost: &dyn Fn() -> bool) -> Result<Met> {
    let (host, port) = master(launch)?;
    let taken = |e: io::Error| {
        let what = format!("port {port} (MASTER_PORT) cannot be waited at: {e}");
        Error::Device(format!("{what}; end what has it, or set another MASTER_PORT for all ranks"))
    };
    let listener = listen(launch, if launch.has_store { 0 } else { port }).map_err(taken)?;
    let here = listener.local_addr().map_err(taken)?;
    if launch.has_store {
        let store = Store::open(&host, port, until).map_err(|e| no_store(launch, &e))?;
        store.publish(&key(launch), &host, here.port()).map_err(|e| no_store(launch, &e))?;
    }
    let mut peers: Vec<Option<TcpStream>> = (0..launch.world_size).map(|_| None).collect();
    let mut places = vec![here; launch.world_size];
    while peers[1..].iter().any(Option::is_none) {
        let missing = |peers: &[Option<TcpStream>]| {
            let of: Vec<String> =
                (1..peers.len()).filter(|&r| peers[r].is_none()).map(|r| r.to_string()).collect();
            Error::Device(format!(
                "rank {} did not come to port {}: it ended, or was not there in time (--ddp-timeout); look at its log, and \
                 whether its machine reaches this one",
                of.join(", "),
                here.port()
            ))
        };
        let Some(mut peer) = accept(&listener, until, lost) else { return Err(missing(&peers)) };
        // Whoever else knocks at a port is no rank.
        let Some(hello) = hear::<Hello>(&mut peer, MAGIC) else { continue };
        if (&hello.job, hello.restarts) != (&launch.job, launch.restarts) {
            // A rank of an earlier attempt, or of a later one, which comes again when this one has gone.
            continue;
        }
        // One that came and is there no more was started anew.
        if let Some(place) = peers.get_mut(hello.rank).filter(|place| place.as_ref().is_some_and(has_gone)) {
            *place = None;
        }
        if let Some(why) = unlike(launch, &hello, &peers) {
            let answer = Answer::Refused(why.clone());
            let all = peers.iter_mut().flatten().chain([&mut peer]);
            all.for_each(|peer| drop(say(peer, MAGIC, &answer)));
            return Err(Error::usage(why));
        }
        let ip = peer.peer_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |at| at.ip());
        places[hello.rank] = SocketAddr::new(ip, hello.port);
        peers[hello.rank] = Some(peer);
    }
    let since = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let known_by = since ^ u64::from(std::process::id()) << 48;
    let answer = Answer::Met(places, known_by);
    for (rank, peer) in peers.iter_mut().enumerate().filter_map(|(rank, peer)| Some((rank, peer.as_mut()?))) {
        say(peer, MAGIC, &answer)
            .map_err(|e| Error::Device(format!("rank {rank} has gone while ranks met: {e}")))?;
    }
    Ok((listener, peers))
}

/// Why a rank cannot be one of these.
fn unlike(launch: &Launch, hello: &Hello, peers: &[Option<TcpStream>]) -> Option<String> {
    let Hello { version, rank, size, host, .. } = hello;
    if version != env!("CARGO_PKG_VERSION") {
        let ours = env!("CARGO_PKG_VERSION");
        return Some(format!(
            "rank {rank} on {host} is wattention {version}, and rank 0 on {} is {ours}: start all ranks with the same program",
            launch.host
        ));
    }
    match peers.get(*rank) {
        Some(None) if *size == peers.len() && *rank > 0 => None,
        _ => Some(format!(
            "rank {rank} of {size} on {host} came to rank 0 of {} on {}, which has it already or has no such rank: start \
             each rank once, with one world size",
            peers.len(),
            launch.host
        )),
    }
}

fn other(launch: &Launch, until: Instant) -> Result<Met> {
    let (host, port) = master(launch)?;
    let failed = |e: io::Error| Error::Device(format!("a port to be met at: {e}"));
    let listener = listen(launch, 0).map_err(failed)?;
    let hello = Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        job: launch.job.clone(),
        restarts: launch.restarts,
        rank: launch.rank,
        size: launch.world_size,
        host: launch.host.clone(),
        port: listener.local_addr().map_err(failed)?.port(),
    };
    let parent = parent_id();
    let (first, answer) = loop {
        let found = match launch.has_store {
            true => Store::open(&host, port, until)
                .and_then(|store| store.find(&key(launch), until))
                .map_err(|e| no_store(launch, &e))?,
            false => (host.clone(), port),
        };
        let reached =
            connect(&found, HELLO).and_then(|mut stream| say(&mut stream, MAGIC, &hello).map(|()| stream));
        // It answers when all have come.
        let heard = reached.and_then(|mut stream| {
            stream.set_read_timeout(Some(until.saturating_duration_since(Instant::now()).max(PAUSE)))?;
            Ok(read(&mut stream, MAGIC).map(|answer| (stream, answer)))
        });
        match heard {
            Ok(Some(met)) => break met,
            // The first has not begun to wait, or is one of an earlier attempt that has just ended.
            _ if parent != parent_id() => return Err(unmet(&found, "what started this rank has ended")),
            _ if Instant::now() < until => std::thread::sleep(20 * PAUSE),
            Ok(None) => return Err(unmet(&found, "it does not answer")),
            Err(e) => return Err(unmet(&found, &e.to_string())),
        }
    };
    let (places, known_by) = match answer {
        Answer::Met(places, known_by) => (places, known_by),
        Answer::Refused(why) => return Err(Error::usage(why)),
    };
    let _ = first.set_read_timeout(None);
    let mut peers: Vec<Option<TcpStream>> = (0..launch.world_size).map(|_| None).collect();
    peers[0] = Some(first);
    let lost = |rank: usize, e: io::Error| {
        Error::Device(format!("rank {rank} cannot be reached at {}: {e}", places[rank]))
    };
    let name = known_by.to_le_bytes();
    for (rank, place) in places.iter().enumerate().take(launch.rank).skip(1) {
        let left = until.saturating_duration_since(Instant::now()).max(PAUSE);
        let mut stream = TcpStream::connect_timeout(place, left).map_err(|e| lost(rank, e))?;
        say(&mut stream, &name, &launch.rank).map_err(|e| lost(rank, e))?;
        peers[rank] = Some(stream);
    }
    while let Some(rank) = (launch.rank + 1..launch.world_size).find(|&rank| peers[rank].is_none()) {
        let late = || lost(rank, ErrorKind::TimedOut.into());
        let given_up =
            || peers[0].as_ref().is_some_and(|first| has_gone(first) || tcp::farewell(first).is_some());
        let mut stream = accept(&listener, until, &given_up).ok_or_else(late)?;
        match hear::<usize>(&mut stream, &name).and_then(|rank| peers.get_mut(rank)) {
            Some(place) if place.is_none() => *place = Some(stream),
            _ => {}
        }
    }
    Ok((listener, peers))
}

fn unmet((host, port): &(String, u16), why: &str) -> Error {
    Error::Device(format!(
        "rank 0 was not met at {host}:{port} in time (--ddp-timeout): {why}; look at its log, and whether this machine \
         reaches that one"
    ))
}

fn no_store(launch: &Launch, why: &io::Error) -> Error {
    let at = launch.master.as_deref().unwrap_or_default();
    Error::Device(format!("the store of {} at {at} is of no use: {why}", launch.launcher))
}

/// What the first rank of this attempt leaves its address under.
fn key(launch: &Launch) -> String {
    format!("wattention/{}/{}", launch.restarts, launch.world_size)
}

fn connect((host, port): &(String, u16), limit: Duration) -> io::Result<TcpStream> {
    let mut outcome = Err(ErrorKind::AddrNotAvailable.into());
    for at in (host.as_str(), *port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&at, limit);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The next to come, until it is too late or `given_up`.
fn accept(listener: &TcpListener, until: Instant, given_up: &dyn Fn() -> bool) -> Option<TcpStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => return Some(stream),
            _ if Instant::now() >= until || given_up() => return None,
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn say<T: Serialize>(stream: &mut TcpStream, head: &[u8; 8], what: &T) -> io::Result<()> {
    let text = serde_json::to_vec(what)?;
    stream.write_all(&[&head[..], &(text.len() as u32).to_le_bytes(), &text].concat())
}

/// What whoever has come says, within a time.
fn hear<T: for<'a> Deserialize<'a>>(stream: &mut TcpStream, head: &[u8; 8]) -> Option<T> {
    stream.set_read_timeout(Some(HELLO)).ok()?;
    read(stream, head)
}

fn read<T: for<'a> Deserialize<'a>>(stream: &mut TcpStream, head: &[u8; 8]) -> Option<T> {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).ok()?;
    let length = u32::from_le_bytes([begin[8], begin[9], begin[10], begin[11]]) as usize;
    if begin[..8] != head[..] || length > MOST {
        return None;
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
