//! Who holds a lock, and whether that process still lives.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A process, so that it can be told from every other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// 0 where it is not known.
    pub process: u32,
    pub host: String,
    /// Changes with every start of the machine; empty where the system has none.
    boot: String,
    /// Among which processes the number counts: containers count their own.
    namespace: String,
    /// Other users' processes may be hidden.
    user: Option<u32>,
    /// In ticks of the system, for numbers are used again.
    started: Option<u64>,
}

/// What the file of a lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    #[serde(flatten)]
    pub holder: Holder,
    lease_milliseconds: u64,
    /// Digits, as many whatever the number, so that it can be changed in place.
    pub(super) beat: String,
}

impl Holder {
    /// This process.
    pub fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let host = match read("/proc/sys/kernel/hostname") {
            host if host.is_empty() => "this machine".to_string(),
            host => host,
        };
        let process = std::process::id();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Holder {
            process,
            host,
            boot: read("/proc/sys/kernel/random/boot_id"),
            namespace: namespace.to_string_lossy().into_owned(),
            user: fs::metadata("/proc/self").ok().map(|of| of.uid()),
            started: started(process),
        }
    }

    /// Whether the system here says if the process lives.
    pub fn is_here(&self) -> bool {
        let this = Holder::this();
        let place = |of: &Holder| (of.host.clone(), of.boot.clone(), of.namespace.clone(), of.user);
        this.started.is_some() && !this.boot.is_empty() && place(self) == place(&this)
    }

    /// Whether the process is known to have ended.
    pub fn has_ended(&self) -> bool {
        self.is_here() && started(self.process) != self.started
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            0 => f.write_str("another process"),
            process => write!(f, "process {process} on {}", self.host),
        }
    }
}

impl Claim {
    /// The claim of this process.
    pub(super) fn new(lease: Duration) -> Self {
        let lease_milliseconds = lease.as_millis() as u64;
        Claim { holder: Holder::this(), lease_milliseconds, beat: digits(0) }
    }

    /// What `bytes` say; whoever wrote something else is unknown.
    pub(super) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| Claim {
            holder: Holder {
                process: 0,
                host: String::new(),
                boot: String::new(),
                namespace: String::new(),
                user: None,
                started: None,
            },
            lease_milliseconds: super::LEASE.as_millis() as u64,
            beat: String::from_utf8_lossy(bytes).into_owned(),
        })
    }

    /// The time without a beat after which the claim is void.
    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_milliseconds)
    }

    /// The file's content at a beat, of the same length at every one.
    pub(super) fn text(&self, beat: u64) -> String {
        let claim = Claim { beat: digits(beat), ..self.clone() };
        serde_json::to_string(&claim).unwrap_or_default() + "\n"
    }
}

fn digits(beat: u64) -> String {
    format!("{beat:020}")
}

/// When a process that lives was started.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    // The name in parentheses may be anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    match fields.next()? {
        // It has ended, and its parent has not asked for its exit code yet.
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}
