//! The joules of a profile for people: both ways side by side, and how each closes.

use super::columns::{Column, percent, table};
use wattention::energy::joules;
use wattention::profile::energy::{Energy, InPlace, Phase, Replayed};
use wattention::profile::report::{Origin, Profile};
use wattention::profile::rows::Key;
use wattention::units::{Joules, Seconds};

/// Sensor, table and closure; or why there is none.
pub fn text(profile: &Profile, width: usize) -> String {
    let energy = &profile.energy;
    let mut parts: Vec<String> = Vec::new();
    if let Some(sensor) = &energy.sensor {
        parts.push(format!("energy    {sensor}"));
    }
    if let Some(Replayed { seconds, trials, idle_before_w, idle_after_w, .. }) = &energy.replayed {
        parts.push(format!(
            "replayed  {trials} trials of {} for each phase; idle {idle_before_w:.1} W before and \
             {idle_after_w:.1} W after",
            Seconds(*seconds)
        ));
    }
    if let Some(InPlace { steps, intervals, .. }) = &energy.in_place {
        parts.push(format!("in place  {steps} runs, {intervals} intervals between changes of the counter"));
    }
    parts.extend(energy.missing.iter().map(|why| format!("energy    n/a: {why}")));
    if profile.origin == Origin::Measured && (energy.replayed.is_some() || energy.in_place.is_some()) {
        parts.push(format!("\n{}\n", table(columns(energy), width)));
        parts.extend(closure(energy));
    }
    parts.join("\n")
}

/// Phases, the rest, and the whole.
fn columns(energy: &Energy) -> Vec<Column> {
    let replayed = energy.replayed.as_ref();
    let in_place = energy.in_place.as_ref();
    let keys: Vec<Key> = match (replayed, in_place) {
        (Some(found), _) => found.phases.iter().map(|phase| phase.key.clone()).collect(),
        (None, Some(found)) => found.phases.iter().map(|phase| phase.key.clone()).collect(),
        (None, None) => Vec::new(),
    };
    let of = |phases: Option<&Vec<Phase>>, key: &Key| phases?.iter().find(|phase| phase.key == *key).cloned();
    let mut lines: Vec<(String, String, Option<Phase>, Option<Phase>)> = keys
        .iter()
        .map(|key| {
            let pass = key.pass.map_or("", |pass| pass.name());
            let both = (of(replayed.map(|r| &r.phases), key), of(in_place.map(|i| &i.phases), key));
            (key.phase.clone().unwrap_or_default(), pass.to_string(), both.0, both.1)
        })
        .collect();
    lines.push(("between phases".into(), String::new(), None, in_place.map(|i| i.rest.clone())));
    let whole = (replayed.map(|r| r.step.clone()), in_place.map(|i| i.step.clone()));
    lines.push(("whole run".into(), String::new(), whole.0, whole.1));
    type Line = (String, String, Option<Phase>, Option<Phase>);
    let cells = |cell: &dyn Fn(&Line) -> String| lines.iter().map(cell).collect::<Vec<_>>();
    let energy_of = |phase: &Option<Phase>| match phase {
        None => String::new(),
        Some(phase) if phase.resolved => joules(Joules(phase.energy_j)),
        Some(phase) => phase.at_most_j.map_or("n/a".into(), |bound| format!("< {}", joules(Joules(bound)))),
    };
    let error_of = |phase: &Option<Phase>| {
        let error = phase.as_ref().filter(|phase| phase.resolved).and_then(|phase| phase.standard_error_j);
        error.map_or(String::new(), |x| joules(Joules(x)))
    };
    let power = |phase: &Option<Phase>| {
        phase.as_ref().filter(|phase| phase.resolved).map_or(String::new(), |p| format!("{:.1} W", p.power_w))
    };
    let above = |phase: &Option<Phase>| {
        phase.as_ref().and_then(|phase| phase.above_idle_j).map_or(String::new(), |x| joules(Joules(x)))
    };
    let difference = |(_, _, a, b): &Line| match (a, b) {
        (Some(a), Some(b)) if a.resolved && b.resolved && a.energy_j != 0.0 => {
            percent((b.energy_j - a.energy_j) / a.energy_j)
        }
        _ => String::new(),
    };
    vec![
        Column::words("phase", cells(&|line| line.0.clone())),
        Column::words("pass", cells(&|line| line.1.clone())),
        Column::numbers("power", 3, cells(&|line| power(if line.2.is_some() { &line.2 } else { &line.3 }))),
        Column::numbers("replayed", 0, cells(&|line| energy_of(&line.2))),
        Column::numbers("error", 4, cells(&|line| error_of(&line.2))),
        Column::numbers("above idle", 2, cells(&|line| above(&line.2))),
        Column::numbers("in place", 0, cells(&|line| energy_of(&line.3))),
        Column::numbers("error", 4, cells(&|line| error_of(&line.3))),
        Column::numbers("difference", 1, cells(&difference)),
    ]
}

/// How far the phases are from the whole.
fn closure(energy: &Energy) -> Vec<String> {
    let line = |way: &str, whole: &Phase, residual: f64| {
        format!(
            "{way}: the phases' sum is {} of {}, residual {} ({})",
            joules(Joules(whole.energy_j - residual)),
            joules(Joules(whole.energy_j)),
            joules(Joules(residual)),
            percent(residual / whole.energy_j)
        )
    };
    let replayed = energy.replayed.iter().map(|r| line("replayed", &r.step, r.residual_j));
    let in_place = energy.in_place.iter().map(|i| line("in place", &i.step, i.residual_j));
    replayed.chain(in_place).collect()
}
