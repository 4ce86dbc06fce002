//! What the benchmarks of single ops have in common: their columns, their report, and how it is kept and judged.

use super::super::global::Global;
use super::options::{Judge, Known};
use crate::bench::baseline::Entry;
use crate::disturbance::Conditions;
use crate::error::Result;
use crate::files;
use crate::limits::Bound;
use crate::reading::Reading;
use crate::stats::Quantiles;
use crate::table::{Column, Table, Value, width};
use crate::units::{Format, Quantity, Seconds};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// One measured row.
pub trait Measured: Serialize + Sized {
    /// All that decides its work.
    fn name(&self) -> String;
    fn quantiles(&self) -> Quantiles;
    /// What makes it a poor measurement.
    fn warnings(&self) -> &[String];
    fn columns(known: &Known) -> Vec<Column<'_, Self>>;
}

#[derive(Serialize)]
pub struct Report<R> {
    pub device: String,
    pub seed: u64,
    /// Whether the caches were cleared between runs.
    pub flushed: bool,
    #[serde(flatten)]
    pub known: Known,
    pub rows: Vec<R>,
}

impl<R: Measured> Report<R> {
    fn table(&self) -> Table {
        Table::new(&R::columns(&self.known), &self.rows)
    }

    /// Writes the rows to `csv`, warns of those that are poorly measured, prints and judges them.
    pub fn finish(self, csv: Option<&Path>, judge: Judge, global: &Global) -> anyhow::Result<()> {
        for row in &self.rows {
            row.warnings().iter().for_each(|warning| global.warn(format_args!("{}: {warning}", row.name())));
        }
        csv.map_or(Ok(()), |path| -> Result<()> { files::write_text(path, &self.table().csv()) })?;
        let entry = |row: &R| Entry { name: row.name(), quantiles: row.quantiles() };
        let entries = self.rows.iter().map(entry).collect();
        judge.finish(self, entries, global)
    }
}

impl<R: Measured> fmt::Display for Report<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caches = if self.flushed { "cleared" } else { "warm" };
        let table = self.table();
        write!(f, "{}, caches {caches} between runs\n{}", self.device, table.text(width()))?;
        self.known.notes(&table).iter().try_for_each(|note| write!(f, "\n{note}"))
    }
}

/// The time of runs and their number: for people the median and the spread, in files also the extremes.
pub fn times<'a, R: 'a>(of: impl Fn(&R) -> (Quantiles, usize) + Copy + 'a) -> Vec<Column<'a, R>> {
    let spread = |q: Quantiles| format!("{} to {}", Seconds(q.p20_s), Seconds(q.p80_s));
    vec![
        Column::number("median", Format::Each(Quantity::Time), move |row| of(row).0.median_s).key("median_s"),
        Column::size("20 % to 80 %", move |row| spread(of(row).0)).rank(1),
        Column::size("runs", move |row| of(row).1).key("runs").rank(3),
        Column::file("min_s", move |row| of(row).0.min_s),
        Column::file("p20_s", move |row| of(row).0.p20_s),
        Column::file("p80_s", move |row| of(row).0.p80_s),
        Column::file("max_s", move |row| of(row).0.max_s),
    ]
}

/// Whether a row was measured on a disturbed machine: a word for people, the reason in files.
pub fn conditions<'a, R: 'a>(of: impl Fn(&R) -> &Conditions + Copy + 'a) -> Vec<Column<'a, R>> {
    vec![
        Column::words("machine", move |row| of(row).disturbed.as_ref().map(|_| "disturbed")),
        Column::file("processor_share", move |row| {
            Reading::or_why(of(row).processor_share, "the system does not count what threads wait for")
        }),
        Column::file("disturbed", move |row| of(row).disturbed.clone().unwrap_or_default()),
    ]
}

/// How near a row is to the limits, and which of them bounds it.
pub fn of_limit<'a, R: 'a>(
    known: &'a Known,
    of: impl Fn(&R) -> (Option<f64>, Option<Bound>) + Copy + 'a,
) -> Vec<Column<'a, R>> {
    vec![
        Column::number("of limit", Format::Percent, move |row| known.share(of(row).0)).key("share_of_limit"),
        Column::words("by", move |row| of(row).1.map(Bound::name)),
        Column::file("bound", move |row| match of(row).1 {
            Some(bound) => Value::from(bound.name()),
            None => known.share(None).into(),
        }),
    ]
}
