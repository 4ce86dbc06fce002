//! A run's energy for people: one line, or a short table.

use super::{Efficiency, PaperEfficiency, PhaseEnergy, RunEnergy};
use crate::energy::Activity;
use crate::reading::Reading;
use crate::table::{Column, Table, width};
use crate::trace::Pass;
use crate::units::{Format, Joules, Quantity, Seconds, percent};

impl RunEnergy {
    /// One line: the whole, and what a unit of the work done in `activity` cost; or why that is not known.
    pub fn line(&self, activity: Activity, efficiency: &Efficiency, token: &str) -> String {
        let Some(energy) = self.whole.energy else { return format!("energy: n/a: {}", self.whole.note) };
        let mut line = format!("energy: {energy}");
        let power = [(self.whole.power(), "mean"), (self.whole.peak_power, "peak")];
        for (power, which) in power.into_iter().filter_map(|(power, which)| Some((power?, which))) {
            line += &format!(", {power} {which}");
        }
        line += &self.sensed();
        line += "; ";
        line += &match self.energy(activity) {
            Ok(_) => efficiency.text(token),
            Err(why) => format!("{} n/a: {why}", activity.name()),
        };
        line + "; " + &self.source
    }

    /// A line for each activity and one for the whole; or one that says why there is none.
    pub fn table(&self) -> String {
        let Some(energy) = self.whole.energy else { return format!("energy: n/a: {}", self.whole.note) };
        let whole = Line {
            name: "whole",
            time: self.whole.time,
            energy: Reading::measured(energy.0),
            power: self.whole.power().map(|power| power.0),
        };
        let windows = self.windows.iter().map(|(activity, spent)| Line {
            name: activity.name(),
            time: spent.time,
            energy: Reading::or_why(
                spent.energy.map(|energy| energy.0),
                &format!("{}: {}", activity.name(), spent.why.as_deref().unwrap_or("not measured")),
            ),
            power: spent.power.map(|power| power.0),
        });
        let rows: Vec<Line> = windows.chain([whole]).collect();
        let columns = [
            Column::words("activity", |line: &Line| line.name),
            Column::number("time", Format::Each(Quantity::Time), |line: &Line| line.time.0),
            Column::number("energy", Format::Each(Quantity::Energy), |line: &Line| line.energy.clone()),
            Column::number("mean power", Format::Each(Quantity::Power), |line: &Line| line.power),
        ];
        let rows = Table::new(&columns, &rows);
        let mut table = rows.text(width());
        for note in rows.notes() {
            table += &format!("\n{note}");
        }
        if let Some(peak) = self.whole.peak_power {
            table += &format!("\npeak power {peak}");
        }
        table += &self.sensed();
        if self.attempts > 1 {
            table += &format!("\nsum of {} attempts, with what was done twice", self.attempts);
        }
        format!("{table}\n{}", self.source)
    }

    /// Means of the GPU's sensors over the whole, where it has them.
    fn sensed(&self) -> String {
        let mut text = String::new();
        if let Some(busy) = self.whole.utilisation {
            text += &format!(", GPU busy {:.0} %", busy * 100.0);
        }
        if let Some(memory) = self.whole.memory {
            text += &format!(", {memory} of GPU memory in use");
        }
        text
    }
}

impl Efficiency {
    /// Joules and watts of a unit of work, where they are known.
    pub fn text(&self, token: &str) -> String {
        let mut parts = vec![format!("{:.2} samples/s", self.samples_per_second)];
        let each = |value: Option<f64>| value.map(|value| Joules(value).to_string());
        parts.extend(each(self.joules_per_sample).map(|each| format!("{each}/sample")));
        parts.extend(each(self.joules_per_token).map(|each| format!("{each}/{token}")));
        parts.extend(self.samples_per_second_per_watt.map(|each| format!("{each:.4} samples/s/W")));
        parts.join(", ")
    }
}

impl PaperEfficiency {
    pub fn text(&self) -> String {
        format!(
            "as Ang et al. 2022 computed it: {} over {}, {:.2} samples/s, {:.4} samples/s/W, {} mean",
            self.energy_j,
            self.runtime_s,
            self.samples_per_second,
            self.samples_per_second_per_watt,
            self.mean_power_w
        )
    }
}

/// A row of the table of activities.
struct Line {
    name: &'static str,
    time: Seconds,
    energy: Reading,
    /// Watts.
    power: Option<f64>,
}

/// A table of phases: what each drew, with its standard error, or its bound where it is not resolved.
pub fn phase_table(phases: &[PhaseEnergy], total: Joules, residual: Joules) -> String {
    let joules = Format::Each(Quantity::Energy);
    let resolved = |phase: &PhaseEnergy, value: f64| phase.share.resolved.then_some(value);
    let columns = [
        Column::words("phase", |phase: &PhaseEnergy| phase.phase.clone()),
        Column::words("pass", |phase: &PhaseEnergy| phase.pass.map_or("", Pass::name)),
        Column::number("time", Format::Each(Quantity::Time), |phase: &PhaseEnergy| phase.share.time.0),
        Column::number("energy", joules, |phase: &PhaseEnergy| resolved(phase, phase.share.energy.0)),
        Column::number("standard error", joules, |phase: &PhaseEnergy| {
            resolved(phase, phase.share.standard_error.0)
        }),
        Column::number("at most", joules, |phase: &PhaseEnergy| {
            (!phase.share.resolved).then_some(phase.share.at_most.0)
        }),
        Column::number("power", Format::Each(Quantity::Power), |phase: &PhaseEnergy| {
            resolved(phase, phase.share.power.0)
        }),
    ];
    let table = Table::new(&columns, phases).text(width());
    let share = percent(residual.0 / total.0);
    format!("{table}\n{total} in all, of which {residual} ({share}) is not explained")
}
