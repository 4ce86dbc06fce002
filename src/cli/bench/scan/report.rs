//! Rows of a scan for people, for programs and for files.

use super::super::KernelRow;
use super::super::options::Known;
use super::super::table::table;
use serde::Serialize;
use std::fmt;
use wattention::bench::resident::Resident;
use wattention::stats::Quantiles;
use wattention::units::{Bytes, Seconds};

/// What was measured of one combination.
pub trait Row: Serialize {
    fn quantiles(&self) -> Quantiles;
    fn kernels(&self) -> &[KernelRow];
    /// Of a table: titles and what stands below them, [`WORDS`] first.
    fn cells(&self) -> Vec<(&'static str, String)>;
    /// Of a file: names and values.
    fn fields(&self) -> Vec<(&'static str, String)>;
    /// The lines of the only one.
    fn lines(&self, f: &mut fmt::Formatter<'_>, known: &Known, threads: usize) -> fmt::Result;
}

/// Columns of a table that are words.
const WORDS: usize = 2;

#[derive(Serialize)]
pub struct Named<R> {
    pub name: String,
    #[serde(flatten)]
    pub row: R,
}

/// A combination that did not fit into memory.
#[derive(Serialize)]
pub struct Unmeasured {
    pub name: String,
    pub why: String,
}

#[derive(Serialize)]
pub struct Report<R> {
    pub device: String,
    pub threads: usize,
    #[serde(flatten)]
    pub known: Known,
    #[serde(flatten)]
    pub rows: Rows<R>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Rows<R> {
    /// The one combination that was asked for.
    One(Box<Named<R>>),
    Several {
        rows: Vec<Named<R>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unmeasured: Vec<Unmeasured>,
    },
}

impl<R: Row> fmt::Display for Report<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, unmeasured) = match &self.rows {
            Rows::One(only) => {
                only.row.lines(f, &self.known, self.threads)?;
                return only.row.kernels().iter().try_for_each(|kernel| write!(f, "\n{kernel}"));
            }
            Rows::Several { rows, unmeasured } => (rows, unmeasured),
        };
        write!(f, "{}, {} threads", self.device, self.threads)?;
        let cells: Vec<_> = rows.iter().map(|named| named.row.cells()).collect();
        let header: Vec<&str> = cells[0].iter().map(|(title, _)| *title).collect();
        let cells: Vec<Vec<String>> =
            cells.into_iter().map(|row| row.into_iter().map(|(_, cell)| cell).collect()).collect();
        table(f, &header, &cells, WORDS)?;
        write!(f, "\n{}", self.known)?;
        for Unmeasured { name, why } in unmeasured {
            write!(f, "\nn/a: {name}: {why}")?;
        }
        for Named { name, row } in rows.iter().filter(|named| !named.row.kernels().is_empty()) {
            write!(f, "\n\n{name}")?;
            row.kernels().iter().try_for_each(|kernel| write!(f, "\n{kernel}"))?;
        }
        Ok(())
    }
}

/// Median and spread, as cells of a table.
pub fn times(q: &Quantiles) -> [(&'static str, String); 2] {
    let spread = format!("{} to {}", Seconds(q.p20_s), Seconds(q.p80_s));
    [("median", Seconds(q.median_s).to_string()), ("20 % to 80 %", spread)]
}

/// The same with the extremes, as fields of a file.
pub fn seconds(q: &Quantiles, runs: usize) -> [(&'static str, String); 6] {
    [
        ("runs", runs.to_string()),
        ("min_s", q.min_s.to_string()),
        ("p20_s", q.p20_s.to_string()),
        ("median_s", q.median_s.to_string()),
        ("p80_s", q.p80_s.to_string()),
        ("max_s", q.max_s.to_string()),
    ]
}

/// A number, or that there is none.
pub fn absent_or(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "n/a".into(), |value| value.to_string())
}

/// Resident memory at most.
pub fn peak(resident: &Resident) -> String {
    absent_or(resident.peak_bytes.map(Bytes))
}
