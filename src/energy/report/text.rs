//! A run's energy for people: one line, or a short table.

use super::{Efficiency, PaperEfficiency, PhaseEnergy, RunEnergy};
use crate::energy::Activity;
use crate::trace::Pass;
use crate::units::Joules;
use std::fmt::Write;

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
        let mut table = format!("{:<12}{:>10}{:>12}{:>12}", "energy", "time", "energy", "mean power");
        let windows = self.windows.iter().map(|(activity, spent)| {
            (activity.name(), spent.time, spent.energy, spent.power, spent.why.as_deref().unwrap_or(""))
        });
        let whole = ("whole", self.whole.time, Some(energy), self.whole.power(), "");
        for (name, time, energy, power, why) in windows.chain([whole]) {
            let energy = energy.map_or("n/a".into(), |energy| energy.to_string());
            let power = power.map_or("n/a".into(), |power| power.to_string());
            let row = format!("{name:<12}{:>10}{energy:>12}{power:>12}  {why}", time.to_string());
            table += &format!("\n{}", row.trim_end());
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

/// A table of phases: what each drew, with its standard error, or its bound where it is not resolved.
pub fn phase_table(phases: &[PhaseEnergy], total: Joules, residual: Joules) -> String {
    let mut table = format!("{:<22}{:<10}{:>10}{:>22}{:>12}", "phase", "pass", "time", "energy", "power");
    for PhaseEnergy { phase, pass, share } in phases {
        let pass = match pass {
            None => "",
            Some(Pass::Forward) => "forward",
            Some(Pass::Backward) => "backward",
        };
        let (energy, power) = match share.resolved {
            true => {
                let (energy, error) = (share.energy, share.standard_error);
                (format!("{energy} +- {error}"), share.power.to_string())
            }
            false => (format!("at most {}", share.at_most), "n/a".into()),
        };
        let time = share.time.to_string();
        // Writing to a string cannot fail.
        let _ = write!(table, "\n{phase:<22}{pass:<10}{time:>10}{energy:>22}{power:>12}");
    }
    let share = 100.0 * residual.0 / total.0;
    table + &format!("\n{total} in all, of which {residual} ({share:.1} %) is not explained",)
}
