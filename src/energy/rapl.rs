//! RAPL: the energy counters of Intel and AMD processors, through Linux's powercap tree.
//!
//! Counted: every package, and its DRAM where that has a counter. Not counted: `core` and `uncore`, which are
//! parts of their package; `psys`, which contains the packages; and what a second driver counts again.
//! Linux kernel documentation, "Power Capping Framework"; Intel SDM volume 3B, section "Platform Specific Power
//! Management Support".

use super::{Calibration, Meter};
use crate::error::{Error, Result};
use crate::units::{Joules, Seconds};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where Linux keeps the counters.
pub(super) const TREE: &str = "/sys/class/powercap";

/// Time to spend on finding the update period, and changes to see.
const POLL: Duration = Duration::from_millis(50);
const CHANGES: usize = 8;

/// The processor packages of this machine with their memory.
///
/// A counter that wraps twice between two readings loses a turn: 65 kJ, the usual range, last minutes.
pub struct Rapl {
    name: String,
    period: Duration,
    counters: Counters,
}

impl Rapl {
    /// Opens the counters under `tree`; fails when there are none or one of them cannot be read.
    pub fn open(tree: &Path) -> Result<Self> {
        let mut counters = Counters { domains: domains(tree)?, micro: 0 };
        let Some(first) = counters.domains.first() else {
            return Err(Error::Device(format!(
                "no sensor: this machine has no powercap counters ({})",
                tree.display()
            )));
        };
        // Hardware updates all domains together, about every millisecond.
        let period = update_period(|| number(&first.file))?;
        counters.update()?;
        counters.micro = 0;
        let labels: Vec<&str> = counters.domains.iter().map(|d| d.label.as_str()).collect();
        let calibration = Calibration { update_period: period.into(), ratio: None };
        let name = format!("RAPL: {}; all that the machine did; {calibration}", labels.join(", "));
        Ok(Rapl { name, period, counters })
    }
}

impl Meter for Rapl {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn read(&mut self) -> Result<Joules> {
        self.counters.update().map(Joules::from_micro)
    }

    fn update_period(&self) -> Seconds {
        self.period.into()
    }
}

/// All counted domains and their sum in microjoules.
struct Counters {
    domains: Vec<Domain>,
    micro: u64,
}

impl Counters {
    /// Reads every counter and gives the sum so far.
    fn update(&mut self) -> Result<u64> {
        for domain in &mut self.domains {
            self.micro += domain.advance()?;
        }
        Ok(self.micro)
    }
}

/// One counter, in microjoules; after `range` it starts at 0 again.
struct Domain {
    label: String,
    file: PathBuf,
    range: u64,
    last: u64,
}

impl Domain {
    fn open(label: String, folder: &Path) -> Result<Self> {
        let file = folder.join("energy_uj");
        Ok(Domain { range: number(&folder.join("max_energy_range_uj"))?, last: number(&file)?, label, file })
    }

    /// Microjoules since the last call.
    fn advance(&mut self) -> Result<u64> {
        let now = number(&self.file)?;
        let last = std::mem::replace(&mut self.last, now);
        Ok(match now >= last {
            true => now - last,
            false => self.range.saturating_sub(last) + now,
        })
    }
}

/// The domains to count, each once.
fn domains(tree: &Path) -> Result<Vec<Domain>> {
    let mut found: Vec<Domain> = Vec::new();
    let mut count = |label: String, zone: &str| -> Result<()> {
        if found.iter().all(|domain| domain.label != label) {
            found.push(Domain::open(label, &tree.join(zone))?);
        }
        Ok(())
    };
    let zones = zones(tree)?;
    for ((_, zone), name) in &zones {
        // `intel-rapl:0` is a package or the platform, `intel-rapl:0:1` a part of it.
        if zone.matches(':').count() != 1 || !name.starts_with("package") {
            continue;
        }
        count(name.clone(), zone)?;
        let part = format!("{zone}:");
        for ((_, inner), inner_name) in &zones {
            if inner.starts_with(&part) && inner_name == "dram" {
                count(format!("{name} DRAM"), inner)?;
            }
        }
    }
    Ok(found)
}

/// Domain names by (length of the driver's name, folder): `intel-rapl` comes before `intel-rapl-mmio`, which has
/// no DRAM.
fn zones(tree: &Path) -> Result<BTreeMap<(usize, String), String>> {
    let entries = match fs::read_dir(tree) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(refused(tree, &e)),
    };
    let mut zones = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|e| refused(tree, &e))?;
        let Ok(zone) = entry.file_name().into_string() else {
            continue;
        };
        let Some((driver, _)) = zone.split_once(':') else {
            continue;
        };
        if driver.starts_with("intel-rapl") {
            let file = entry.path().join("name");
            let name = fs::read_to_string(&file).map_err(|e| refused(&file, &e))?;
            zones.insert((driver.len(), zone), name.trim().to_string());
        }
    }
    Ok(zones)
}

fn number(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).map_err(|e| refused(file, &e))?;
    text.trim().parse().map_err(|_| {
        let what = format!("'{}' is not a number of microjoules", text.trim());
        Error::data(file.display(), what)
    })
}

fn refused(file: &Path, source: &io::Error) -> Error {
    let file = file.display();
    Error::Device(match source.kind() {
        ErrorKind::PermissionDenied => format!(
            "no permission to read {file}: run as root, or allow it with `sudo chmod a+r {file}` for every package"
        ),
        _ => format!("cannot read {file}: {source}"),
    })
}

/// The longest of the first few stretches between two changes of a counter; [`POLL`] of one at rest.
fn update_period(mut read: impl FnMut() -> Result<u64>) -> Result<Duration> {
    let start = Instant::now();
    let mut last = read()?;
    let mut changes = Vec::with_capacity(CHANGES + 1);
    while changes.len() <= CHANGES && start.elapsed() < POLL {
        let now = read()?;
        if now != last {
            changes.push(Instant::now());
            last = now;
        }
    }
    let stretches = changes.windows(2).map(|pair| pair[1] - pair[0]);
    Ok(stretches.max().unwrap_or(POLL))
}

#[cfg(test)]
mod tests;
