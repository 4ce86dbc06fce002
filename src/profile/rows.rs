//! Launches added up by phase and kernel: how often, how long, and what they compute and move.

use crate::device::repeater::Launched;
use crate::device::{Cost, Precision};
use crate::limits::{Bound, Limits};
use crate::stats::{Quantiles, quantiles};
use crate::trace::{EXCHANGE, Pass, Phase, Slice};
use crate::units::{Bytes, Flops, Seconds};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What launches of one row have in common; absent is what they differ in.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass: Option<Pass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// The phase of the time between launches; its kernels say where.
const HOST: &str = "host";

impl Key {
    /// The host's work while no launch runs: `place` says between what.
    pub fn host(place: &str) -> Self {
        Key { phase: Some(HOST.into()), pass: None, kernel: Some(place.into()) }
    }

    pub fn is_host(&self) -> bool {
        self.phase.as_deref() == Some(HOST)
    }

    /// What ranks do together, which belongs to no pass.
    pub fn exchange(what: &str) -> Self {
        Key { phase: Some(EXCHANGE.into()), pass: None, kernel: Some(what.into()) }
    }

    pub fn new(phase: Phase, kernel: &str) -> Self {
        Key { phase: Some(phase.label.into()), pass: Some(phase.pass), kernel: Some(kernel.into()) }
    }

    /// Without the kernel.
    pub fn phase(&self) -> Self {
        Key { kernel: None, ..self.clone() }
    }

    /// Without phase and pass.
    pub fn kernel(&self) -> Self {
        Key { kernel: self.kernel.clone(), ..Key::default() }
    }

    /// In words.
    pub fn name(&self) -> String {
        let parts = [self.phase.as_deref(), self.pass.map(Pass::name), self.kernel.as_deref()];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// What is known of the launches of a row, all of one run together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub key: Key,
    pub calls: u64,
    /// Seconds of each traced run; the least time alone where nothing was run.
    pub seconds: Vec<f64>,
    pub flops: Flops,
    /// Read and written.
    pub bytes: Bytes,
    pub exponentials: u64,
    /// Least seconds by what bounds them; empty where no limits are known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub least_s: BTreeMap<Bound, f64>,
}

impl Row {
    /// Takes in one launch.
    pub fn launch(&mut self, cost: Cost, least: Option<(Seconds, Bound)>) {
        self.calls += 1;
        self.flops += cost.flops;
        self.bytes += cost.bytes;
        self.exponentials += cost.exponentials;
        if let Some((time, bound)) = least {
            *self.least_s.entry(bound).or_default() += time.0;
        }
    }

    /// Takes in another row of the same runs.
    fn add(&mut self, other: &Row) {
        self.calls += other.calls;
        self.flops += other.flops;
        self.bytes += other.bytes;
        self.exponentials += other.exponentials;
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), 0.0);
        for (sum, seconds) in self.seconds.iter_mut().zip(&other.seconds) {
            *sum += seconds;
        }
        for (bound, seconds) in &other.least_s {
            *self.least_s.entry(*bound).or_default() += seconds;
        }
    }

    pub fn quantiles(&self) -> Option<Quantiles> {
        quantiles(&self.seconds)
    }

    /// Median over the runs; 0 where there is none.
    pub fn time(&self) -> Seconds {
        Seconds(self.quantiles().map_or(0.0, |q| q.median_s))
    }

    /// `count` a second; none where no time was seen.
    pub fn rate(&self, count: u64) -> Option<f64> {
        (self.time().0 > 0.0).then(|| count as f64 / self.time().0)
    }

    /// The least time that the limits allow, and what bounds most of it.
    pub fn least(&self) -> Option<(Seconds, Bound)> {
        let (bound, _) = self.least_s.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
        Some((Seconds(self.least_s.values().sum()), *bound))
    }

    /// How much of the time the limits explain, 1 for work at the limit, and which of them.
    pub fn of_limit(&self) -> Option<(f64, Bound)> {
        let (least, bound) = self.least()?;
        (self.time().0 > 0.0).then(|| (least.0 / self.time().0, bound))
    }
}

/// Rows that `key` makes equal, added up, in order of their first.
pub fn grouped(rows: &[Row], key: impl Fn(&Key) -> Key) -> Vec<Row> {
    let mut found = Index::default();
    for row in rows {
        found.at(key(&row.key)).add(row);
    }
    found.rows
}

/// All rows as one.
pub fn total(rows: &[Row]) -> Row {
    grouped(rows, |_| Key::default()).pop().unwrap_or_default()
}

/// One row for every phase and kernel, in order of their first launch, without times.
pub fn of_launches<'a>(
    launches: impl IntoIterator<Item = &'a Launched>,
    limits: Option<&Limits>,
    precision: Precision,
) -> Vec<Row> {
    let mut found = Index::default();
    for Launched { kernel, phase, cost, .. } in launches {
        let least = limits.map(|limits| limits.least(kernel, *cost, precision));
        found.at(Key::new(*phase, kernel)).launch(*cost, least);
    }
    found.rows
}

/// One row for every kind of exchange, in order of their first, with the seconds of each of `runs`.
pub fn of_exchanges(runs: &[Vec<Slice>]) -> Vec<Row> {
    let mut found = Index::default();
    for (number, slice) in
        runs.iter().enumerate().flat_map(|(number, run)| run.iter().map(move |s| (number, s)))
    {
        let row = found.at(Key::exchange(slice.kernel));
        row.seconds.resize(runs.len(), 0.0);
        row.seconds[number] += (slice.end - slice.start).as_secs_f64();
        row.calls += u64::from(number == 0);
    }
    found.rows
}

/// Rows by their keys, in order of appearance.
#[derive(Default)]
struct Index {
    places: HashMap<Key, usize>,
    rows: Vec<Row>,
}

impl Index {
    fn at(&mut self, key: Key) -> &mut Row {
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            self.rows.push(Row { key, ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(label: &'static str, kernel: &'static str, bytes: u64) -> Launched {
        let cost = Cost { bytes: Bytes(bytes), flops: Flops(0), exponentials: 0 };
        Launched { kernel, phase: Phase { label, pass: Pass::Forward }, cost, live: 0 }
    }

    #[test]
    fn groups_keep_every_launch_and_every_run() {
        // A copy of 4.8 TB takes an H200 a second.
        const TERA: u64 = 1_000_000_000_000;
        let launches = [
            launched("head", "matmul", 48 * TERA / 10),
            launched("loss", "cast", 48 * TERA / 5),
            launched("head", "cast", 48 * TERA / 10),
            launched("head", "matmul", 48 * TERA / 10),
        ];
        let limits = Limits::described("h200").unwrap();
        let mut rows = of_launches(&launches, Some(&limits), Precision::Fp32);
        let names: Vec<String> = rows.iter().map(|row| row.key.name()).collect();
        assert_eq!(names, ["head forward matmul", "loss forward cast", "head forward cast"]);
        for (row, seconds) in rows.iter_mut().zip([[4.0, 6.0, 5.0], [2.0, 2.0, 2.0], [1.0, 3.0, 2.0]]) {
            row.seconds = seconds.to_vec();
        }
        let phases = grouped(&rows, Key::phase);
        assert_eq!(phases[0].seconds, [5.0, 9.0, 7.0]);
        assert_eq!((phases[0].calls, phases[0].time()), (3, Seconds(7.0)));
        let (share, bound) = phases[0].of_limit().unwrap();
        assert!((share - 3.0 / 7.0).abs() < 1e-9 && bound == Bound::Memory, "{share} {bound:?}");
        let kernels = grouped(&rows, Key::kernel);
        assert_eq!(kernels.iter().map(|row| row.key.name()).collect::<Vec<_>>(), ["matmul", "cast"]);
        let all = total(&rows);
        assert_eq!((all.calls, all.seconds.as_slice()), (4, [7.0, 11.0, 9.0].as_slice()));
        assert_eq!(all.bytes, Bytes(24 * TERA));
    }

    #[test]
    fn without_limits_or_times_there_is_no_share_of_them() {
        let rows = of_launches(&[launched("head", "cast", 8)], None, Precision::Fp32);
        assert_eq!((rows[0].least(), rows[0].of_limit(), rows[0].rate(8)), (None, None, None));
    }
}
