//! The joules of a profile for people: both ways side by side, and how each closes.

use crate::profile::energy::{Energy, InPlace, Phase, Replayed};
use crate::profile::report::{Origin, Profile};
use crate::profile::rows::Key;
use crate::table::{Column, Table};
use crate::units::{Format, Joules, Quantity, Seconds, Watts, percent};

/// Sensor, table and closure; or why there is none.
pub fn text(profile: &Profile, width: usize) -> String {
    let energy = &profile.energy;
    let mut parts: Vec<String> = Vec::new();
    if let Some(sensor) = &energy.sensor {
        parts.push(format!("energy    {sensor}"));
    }
    if let Some(Replayed { seconds, trials, idle_before_w, idle_after_w, .. }) = &energy.replayed {
        parts.push(format!(
            "replayed  {trials} trials of {} for each phase; idle {} before and {} after",
            Seconds(*seconds),
            Watts(*idle_before_w),
            Watts(*idle_after_w)
        ));
    }
    if let Some(InPlace { steps, intervals, .. }) = &energy.in_place {
        parts.push(format!("in place  {steps} runs, {intervals} intervals between changes of the counter"));
    }
    parts.extend(energy.missing.iter().map(|why| format!("energy    n/a: {why}")));
    if profile.origin == Origin::Measured && (energy.replayed.is_some() || energy.in_place.is_some()) {
        parts.push(format!("\n{}\n", table(energy).text(width)));
        parts.extend(closure(energy));
    }
    parts.join("\n")
}

/// A phase, by both ways.
struct Line {
    phase: String,
    pass: &'static str,
    replayed: Option<Phase>,
    in_place: Option<Phase>,
}

/// Phases, the rest, and the whole.
fn table(energy: &Energy) -> Table {
    let (replayed, in_place) = (energy.replayed.as_ref(), energy.in_place.as_ref());
    let [of_replayed, of_in_place] = [replayed.map(|r| &r.phases), in_place.map(|i| &i.phases)];
    let of = |phases: Option<&Vec<Phase>>, key: &Key| phases?.iter().find(|phase| phase.key == *key).cloned();
    let keys = of_replayed.or(of_in_place).into_iter().flatten().map(|phase| &phase.key);
    let mut lines: Vec<Line> = keys
        .map(|key| Line {
            phase: key.phase.clone().unwrap_or_default(),
            pass: key.pass.map_or("", |pass| pass.name()),
            replayed: of(of_replayed, key),
            in_place: of(of_in_place, key),
        })
        .collect();
    let rest = in_place.map(|i| i.rest.clone());
    lines.push(Line { phase: "between phases".into(), pass: "", replayed: None, in_place: rest });
    let whole = (replayed.map(|r| r.step.clone()), in_place.map(|i| i.step.clone()));
    lines.push(Line { phase: "whole run".into(), pass: "", replayed: whole.0, in_place: whole.1 });
    let joules = Format::Each(Quantity::Energy);
    let resolved = |phase: &Option<Phase>| phase.clone().filter(|phase| phase.resolved);
    let energy = |phase: &Option<Phase>| {
        let phase = phase.as_ref()?;
        Some(match (phase.resolved, phase.at_most_j) {
            (true, _) => Joules(phase.energy_j).to_string(),
            (false, Some(bound)) => format!("< {}", Joules(bound)),
            (false, None) => "n/a".into(),
        })
    };
    let error = move |phase: &Option<Phase>| resolved(phase)?.standard_error_j;
    let power = move |line: &Line| {
        let either = if line.replayed.is_some() { &line.replayed } else { &line.in_place };
        Some(resolved(either)?.power_w)
    };
    let difference = move |line: &Line| {
        let (a, b) = (resolved(&line.replayed)?, resolved(&line.in_place)?);
        (a.energy_j != 0.0).then(|| (b.energy_j - a.energy_j) / a.energy_j)
    };
    let columns = [
        Column::words("phase", |line: &Line| line.phase.clone()),
        Column::words("pass", |line: &Line| line.pass),
        Column::number("power", Format::Each(Quantity::Power), power).rank(3),
        Column::size("replayed", move |line: &Line| energy(&line.replayed)),
        Column::number("error", joules, move |line: &Line| error(&line.replayed)).rank(4),
        Column::number("above idle", joules, |line: &Line| line.replayed.as_ref()?.above_idle_j).rank(2),
        Column::size("in place", move |line: &Line| energy(&line.in_place)),
        Column::number("error", joules, move |line: &Line| error(&line.in_place)).rank(4),
        Column::number("difference", Format::Percent, difference).rank(1),
    ];
    Table::new(&columns, &lines)
}

/// How far the phases are from the whole.
fn closure(energy: &Energy) -> Vec<String> {
    let line = |way: &str, whole: &Phase, residual: f64| {
        format!(
            "{way}: the phases' sum is {} of {}, residual {} ({})",
            Joules(whole.energy_j - residual),
            Joules(whole.energy_j),
            Joules(residual),
            percent(residual / whole.energy_j)
        )
    };
    let replayed = energy.replayed.iter().map(|r| line("replayed", &r.step, r.residual_j));
    let in_place = energy.in_place.iter().map(|i| line("in place", &i.step, i.residual_j));
    replayed.chain(in_place).collect()
}
