//! What the devices of all ranks do together: this process begins it and waits for it.

use super::{Group, LOOK, Lost, Result, Transport, wait_until};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

/// How long a fault of the devices may take to show as the rank that caused it.
const NAMED: Duration = Duration::from_millis(500);

/// Over what ranks exchange gradients and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// From GPU to GPU, by NVIDIA's library.
    Nccl,
    /// Over the memory of the hosts.
    Host,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Nccl => "NCCL",
            Backend::Host => "the hosts' memory",
        })
    }
}

/// A part of what devices do together, on this rank's device.
pub trait Begun {
    /// Gives the device its part; it is not waited for here.
    fn begin(&self) -> Result<()>;

    /// Whether the device is through with it.
    fn is_done(&self) -> Result<bool>;

    /// Ends it half-way.
    fn give_up(&self);
}

impl Group {
    /// Over what gradients and weights are to be exchanged, where that was asked for.
    pub fn backend(&self) -> Option<Backend> {
        self.backend
    }

    /// The same group, which exchanges gradients and weights over `backend`.
    pub fn over(mut self, backend: Option<Backend>) -> Self {
        self.backend = backend;
        self
    }

    /// Waits until the devices of all ranks have done `what`. A rank that goes meanwhile ends all, as in any exchange.
    pub fn by_devices(&self, what: &'static str, part: &dyn Begun) -> Result<()> {
        self.finished(what, self.exchange(what, |transport| with_others(transport, part)), part)
    }

    /// The same where the devices do more than exchange: it is not counted as time in exchanges.
    pub fn with_devices(&self, what: &'static str, part: &dyn Begun) -> Result<()> {
        self.finished(what, self.watched(what, |transport| with_others(transport, part)), part)
    }

    /// How it went; a rank without others does its part here.
    fn finished(&self, what: &'static str, outcome: Option<Result<()>>, part: &dyn Begun) -> Result<()> {
        let alone = || together(&|| None, part).unwrap_or(Ok(()));
        outcome.unwrap_or_else(alone).map_err(|error| match (error, &self.watchdog) {
            (Error::Device(why), Some(watchdog)) => {
                Error::Device(format!("at {} ({what}): {why}", watchdog.place()))
            }
            (error, _) => error,
        })
    }
}

/// A part of what all ranks' devices do; it is given up where another rank has gone.
fn with_others(transport: &dyn Transport, part: &dyn Begun) -> Result<Result<()>, Lost> {
    let outcome = together(&|| transport.lost(), part);
    if outcome.is_err() {
        part.give_up();
    }
    outcome
}

fn together(lost: &dyn Fn() -> Option<Lost>, part: &dyn Begun) -> Result<Result<()>, Lost> {
    let mut outcome = part.begin();
    if outcome.is_ok() {
        let ended = || match part.is_done() {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        outcome = wait_until(lost, ended)?;
    }
    if outcome.is_ok() {
        return Ok(outcome);
    }
    // What the devices say of a rank that has gone does not name it.
    let since = Instant::now();
    while since.elapsed() < NAMED {
        lost().map_or(Ok(()), Err)?;
        std::thread::sleep(LOOK);
    }
    part.give_up();
    Ok(outcome)
}
