//! The most memory that the process held, of one row of a benchmark.

use serde::Serialize;
use std::fs;
use std::io::Write;

/// The highest resident memory since a moment.
///
/// Linux keeps one mark for the whole process and lowers it to what is resident now when it is told to
/// (proc_pid_clear_refs(5)). What the process keeps of earlier rows is part of it.
pub struct ResidentPeak(Result<(), String>);

impl ResidentPeak {
    /// Since now, or, where the system does not lower the mark, since the process began: the same for the first of
    /// all rows, and nothing that later ones may call theirs.
    pub fn start(is_first: bool) -> Self {
        let file = fs::OpenOptions::new().write(true).open("/proc/self/clear_refs");
        let lowered = file.and_then(|mut file| file.write_all(b"5"));
        ResidentPeak(match lowered {
            Err(why) if !is_first => Err(format!(
                "the system does not start its mark anew ({why}); measure this row in a command of its own"
            )),
            _ => Ok(()),
        })
    }

    /// VmHWM of this process.
    pub fn found(&self) -> Resident {
        let found = self.0.clone().and_then(|()| marked().ok_or_else(|| "the system does not say".into()));
        Resident { peak_bytes: found.clone().ok(), peak_bytes_missing: found.err() }
    }
}

/// The process's highest resident memory while a row was measured, its model's loading included.
#[derive(Debug, Clone, Serialize)]
pub struct Resident {
    pub peak_bytes: Option<u64>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes_missing: Option<String>,
}

fn marked() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
