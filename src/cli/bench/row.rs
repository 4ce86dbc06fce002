//! Rows of `bench step` and `bench generate`: for people, for programs and for files.

use super::super::ranks::Together;
use super::options::Known;
use super::report::{conditions, times};
use crate::bench::workload::{DecodingTimes, Kernels, Measured};
use crate::device::Precision;
use crate::reading::Reading;
use crate::table::{Column, Table, Value, width};
use crate::trace::Pass;
use crate::units::{Format, Quantity};
use crate::workload::Sizes;
use serde::Serialize;
use serde_json::Value as Json;
use std::fmt;
use std::path::PathBuf;

/// What was measured of one combination.
#[derive(Serialize)]
pub struct Row<S> {
    pub name: String,
    pub model: PathBuf,
    #[serde(flatten)]
    pub sizes: S,
    pub precision: Precision,
    /// What computes products of matrices, where that is chosen on the machine.
    pub products: Option<&'static str>,
    #[serde(flatten)]
    pub measured: Measured,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<KernelRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<Together>,
}

#[derive(Serialize)]
pub struct KernelRow {
    phase: &'static str,
    pass: Pass,
    kernel: &'static str,
    calls: u64,
    seconds: f64,
}

/// A combination that did not fit into memory.
#[derive(Serialize)]
pub struct Unmeasured {
    pub name: String,
    pub why: String,
}

#[derive(Serialize)]
pub struct Report<S> {
    pub device: String,
    pub threads: usize,
    #[serde(flatten)]
    pub known: Known,
    #[serde(flatten)]
    pub rows: Rows<S>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum Rows<S> {
    /// The one combination that was asked for.
    One(Box<Row<S>>),
    Several {
        rows: Vec<Row<S>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unmeasured: Vec<Unmeasured>,
    },
}

impl KernelRow {
    /// The costliest first.
    pub fn of(kernels: Kernels) -> Vec<Self> {
        let row = |((phase, kernel), timing): ((crate::trace::Phase, _), crate::trace::Timing)| {
            let seconds = timing.time.as_secs_f64();
            KernelRow { phase: phase.label, pass: phase.pass, kernel, calls: timing.calls, seconds }
        };
        let mut rows: Vec<KernelRow> = kernels.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }

    fn table(rows: &[Self]) -> Table {
        let columns = [
            Column::words("phase", |row: &KernelRow| row.phase),
            Column::words("pass", |row: &KernelRow| row.pass.name()),
            Column::words("kernel", |row: &KernelRow| row.kernel),
            Column::number("calls", Format::Integer, |row: &KernelRow| row.calls),
            Column::number("time", Format::Each(Quantity::Time), |row: &KernelRow| row.seconds),
        ];
        Table::new(&columns, rows)
    }
}

/// What a size is called in tables; its key in files is that of the sizes themselves.
const SIZES: [(&str, &str); 5] = [
    ("num_beams", "beams"),
    ("batch_size", "batch"),
    ("max_source_length", "source"),
    ("max_target_length", "target"),
    ("max_new_tokens", "answer"),
];

impl<S: Sizes> Row<S> {
    fn size(&self, key: &str) -> Value {
        match serde_json::to_value(self.sizes).ok().as_ref().and_then(|sizes| sizes.get(key)) {
            Some(Json::String(word)) => Value::Text(word.clone()),
            Some(number) => number.as_u64().into(),
            None => Value::Empty,
        }
    }

    fn columns(known: &Known) -> Vec<Column<'_, Self>> {
        let mut columns = vec![
            Column::words("model", |row: &Self| row.model.display().to_string()).key("model"),
            Column::words("mode", |row: &Self| row.size("mode")).key("mode"),
            Column::words("format", |row: &Self| row.precision.to_string()).key("precision"),
            Column::words("weights", |row: &Self| row.size("weights")).key("weights"),
        ];
        columns
            .extend(SIZES.map(|(key, title)| Column::size(title, move |row: &Self| row.size(key)).key(key)));
        columns.extend(times(|row: &Self| (row.measured.quantiles, row.measured.seconds.len())));
        columns.extend(decoding());
        columns.extend(measured(known));
        columns.extend(conditions(|row: &Self| &row.measured.conditions));
        columns
    }
}

/// Columns of work that decodes; absent ones are not shown.
fn decoding<S: Sizes>() -> Vec<Column<'static, Row<S>>> {
    fn of<S, V: Into<Value>>(row: &Row<S>, value: impl Fn(&DecodingTimes) -> V) -> Option<V> {
        row.measured.decoding.as_ref().map(value)
    }
    vec![
        Column::number("step", Format::Each(Quantity::Time), |row: &Row<S>| of(row, |d| d.step_median_s))
            .key("step_median_s"),
        Column::number("steps/s", Format::Decimals(1), |row: &Row<S>| of(row, |d| d.steps_per_second))
            .key("steps_per_second")
            .rank(4),
        Column::number("read in a step", Format::Each(Quantity::Memory), |row: &Row<S>| {
            of(row, |d| d.step_bytes.total() as f64)
        })
        .rank(5),
        Column::number("of memory", Format::Percent, |row: &Row<S>| {
            of(row, |d| Reading::or_why(d.share_of_limit, "no memory bandwidth is known of this device"))
        })
        .key("share_of_limit")
        .rank(1),
    ]
}

fn measured<S: Sizes>(known: &Known) -> Vec<Column<'_, Row<S>>> {
    let joules = Format::Each(Quantity::Energy);
    let memory = Format::Each(Quantity::Memory);
    vec![
        Column::number("samples/s", Format::Decimals(2), |row: &Row<S>| row.measured.samples_per_second)
            .key("samples_per_second"),
        Column::number("tokens/s", Format::Significant, |row: &Row<S>| row.measured.tokens_per_second)
            .key("tokens_per_second"),
        Column::number("work", Format::Each(Quantity::Work), |row: &Row<S>| row.measured.flops)
            .key("flops")
            .rank(5),
        Column::number("GFLOP/s", Format::Decimals(1), |row: &Row<S>| row.measured.gflops_per_second)
            .key("gflops_per_second")
            .rank(2),
        Column::number("mfu", Format::Percent, |row: &Row<S>| known.share(row.measured.mfu))
            .key("mfu")
            .rank(2),
        Column::number("a sample", joules, |row: &Row<S>| {
            Reading::or_why(row.measured.joules_per_sample, &row.measured.energy.note)
        })
        .key("joules_per_sample")
        .rank(3),
        Column::number("a token", joules, |row: &Row<S>| {
            Reading::or_why(row.measured.joules_per_token, &row.measured.energy.note)
        })
        .key("joules_per_token")
        .rank(4),
        Column::file("energy_note", |row: &Row<S>| row.measured.energy.note.clone()),
        Column::number("resident", memory, |row: &Row<S>| {
            let resident = &row.measured.resident;
            let why = resident.peak_bytes_missing.as_deref().unwrap_or_default();
            Reading::or_why(resident.peak_bytes.map(|bytes| bytes as f64), why)
        })
        .key("peak_bytes")
        .rank(3),
        Column::number("tensors", memory, |row: &Row<S>| row.measured.persistent_bytes)
            .key("persistent_bytes")
            .rank(5),
        Column::number("arena", memory, |row: &Row<S>| row.measured.arena_bytes).key("arena_bytes").rank(5),
    ]
}

impl<S: Sizes> Report<S> {
    pub fn table(&self) -> Table {
        let columns = Row::columns(&self.known);
        match &self.rows {
            Rows::One(only) => Table::new(&columns, [&**only]),
            Rows::Several { rows, .. } => Table::new(&columns, rows),
        }
    }
}

impl<S: Sizes> fmt::Display for Report<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} threads", self.device, self.threads)?;
        let table = self.table();
        let (rows, unmeasured): (Vec<&Row<S>>, &[Unmeasured]) = match &self.rows {
            Rows::One(only) => {
                write!(f, "\n{}", table.record(0))?;
                (vec![only], &[])
            }
            Rows::Several { rows, unmeasured } => {
                write!(f, "\n{}", table.text(width()))?;
                self.known.notes(&table).iter().try_for_each(|note| write!(f, "\n{note}"))?;
                (rows.iter().collect(), unmeasured)
            }
        };
        for Unmeasured { name, why } in unmeasured {
            write!(f, "\nn/a: {name}: {why}")?;
        }
        for (row, ranks) in rows.iter().filter_map(|row| row.ranks.as_ref().map(|ranks| (row, ranks))) {
            write!(f, "\n{}: {}", row.name, ranks.text())?;
        }
        for row in rows.iter().filter(|row| !row.kernels.is_empty()) {
            write!(f, "\n\n{}\n{}", row.name, KernelRow::table(&row.kernels).text(width()))?;
        }
        Ok(())
    }
}
