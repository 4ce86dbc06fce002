//! A profile for people.

use super::columns::{Column, percent, scaled, table};
use super::energy;
use serde_json::{Map, Value};
use wattention::energy::joules;
use wattention::limits::Origin as LimitsOrigin;
use wattention::profile::measure::Planned;
use wattention::profile::report::{By, Origin, Profile};
use wattention::profile::rows::{Key, Row};
use wattention::trace::Pass;
use wattention::units::{Joules, Seconds};

/// What was profiled, in a line.
pub fn subject(work: &Map<String, Value>) -> String {
    let word = |name: &str| match work.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "?".into(),
    };
    let [model, what, batch] = ["model", "what", "batch_size"].map(word);
    let [source, target] = ["max_source_length", "max_target_length"].map(word);
    match what.as_str() {
        "step" => format!("{model} {}, batch {batch}, {source} tokens to {target}", word("mode")),
        "generate" => {
            let (tokens, beams) = (word("max_new_tokens"), word("num_beams"));
            let beams = if beams == "1" { "greedy".into() } else { format!("{beams} beams") };
            format!("{model} generate, batch {batch}, {source} tokens to {tokens}, {beams}")
        }
        "evaluate" => format!(
            "{model} evaluate, {} examples of {} ({}, {} protocol), batch {batch}, {source} tokens",
            word("examples"),
            word("dataset"),
            word("split"),
            word("protocol"),
        ),
        _ => format!("{model} {what}"),
    }
}

/// The whole profile in lines of at most `width` characters, where they are of a table.
pub fn profile(profile: &Profile, by: By, width: usize) -> String {
    let word =
        |name: &str| profile.work.get(name).map_or(String::new(), |value| value.to_string().replace('"', ""));
    let place = match profile.origin {
        Origin::Measured => {
            format!("{} in {}, {} threads", word("device"), word("precision"), word("threads"))
        }
        Origin::Predicted => format!(
            "predicted: least time at the limits of {} in {}; nothing was run",
            word("device"),
            word("precision")
        ),
    };
    let columns = match profile.origin {
        Origin::Measured => measured(profile, by),
        Origin::Predicted => predicted(profile, by),
    };
    let mut text = format!("{}\n{place}\n\n{}\n", subject(&profile.work), table(columns, width));
    for (name, line) in lines(profile) {
        text += &format!("\n{name:<9} {line}");
    }
    let energy = energy::text(profile, width);
    if !energy.is_empty() {
        text += &format!("\n\n{energy}");
    }
    text
}

/// One line of the table.
struct Line {
    row: Row,
    /// Of the phase above.
    nested: bool,
}

/// Rows as they are printed, the sum of all last.
fn rows(profile: &Profile, by: By) -> Vec<Line> {
    let mut found = Vec::new();
    for (row, parts) in profile.groups(by) {
        found.push(Line { row, nested: false });
        found.extend(parts.into_iter().map(|row| Line { row, nested: true }));
    }
    found.push(Line { row: profile.total(), nested: false });
    found
}

fn column(lines: &[Line], cell: impl Fn(&Row) -> String) -> Vec<String> {
    lines.iter().map(|line| cell(&line.row)).collect()
}

/// Of the medians of all rows but the sum: the median of the sum may be another.
fn sum(lines: &[Line]) -> f64 {
    let parts = lines.iter().filter(|line| !line.nested && line.row.key != Key::default());
    parts.map(|line| line.row.time().0).sum()
}

fn share(row: &Row, whole: f64) -> f64 {
    if row.key == Key::default() { 1.0 } else { row.time().0 / whole }
}

/// What rows are called, and their passes.
fn names(lines: &[Line], by: By) -> [Column; 2] {
    let name = |line: &Line| match (&line.row.key.phase, &line.row.key.kernel) {
        (_, Some(kernel)) if line.nested => format!("  {kernel}"),
        (None, None) => "all".into(),
        (Some(phase), _) => phase.clone(),
        (None, Some(kernel)) => kernel.clone(),
    };
    let pass = |line: &Line| match line.nested {
        true => String::new(),
        false if line.row.key.is_host() => "-".into(),
        false => line.row.key.pass.map_or(String::new(), |pass: Pass| pass.name().into()),
    };
    let title = if by == By::Kernel { "kernel" } else { "phase" };
    [
        Column::words(title, lines.iter().map(name).collect()),
        Column::words("pass", lines.iter().map(pass).collect()),
    ]
}

fn measured(profile: &Profile, by: By) -> Vec<Column> {
    let lines = rows(profile, by);
    let whole = sum(&lines);
    let share = |row: &Row| percent(share(row, whole));
    let spread = |row: &Row| {
        row.quantiles().map_or(String::new(), |q| match q.median_s > 0.0 {
            true => percent((q.p80_s - q.p20_s) / 2.0 / q.median_s),
            false => String::new(),
        })
    };
    let rate = |row: &Row, count: u64| match (count, row.rate(count)) {
        (0, _) | (_, None) => "-".into(),
        (_, Some(rate)) => scaled(rate),
    };
    let calls = |row: &Row| if row.key.is_host() { "-".into() } else { row.calls.to_string() };
    let of_limit = |row: &Row| {
        row.of_limit().map_or(String::new(), |(share, bound)| format!("{} {}", percent(share), bound.name()))
    };
    let energy = |row: &Row| {
        let phase = match row.key.kernel {
            Some(_) => None,
            None if row.key.phase.is_none() => profile.energy.step(),
            None => profile.energy.of(&row.key),
        };
        phase.map_or(String::new(), |phase| joules(Joules(phase.energy_j)))
    };
    let [name, pass] = names(&lines, by);
    vec![
        name,
        pass,
        Column::numbers("calls", 3, column(&lines, calls)),
        Column::numbers("time", 0, column(&lines, |row| row.time().to_string())),
        Column::numbers("spread", 2, column(&lines, spread)),
        Column::numbers("share", 0, column(&lines, share)),
        Column::numbers("FLOPs", 6, column(&lines, |row| scaled(row.flops.0 as f64))),
        Column::numbers("bytes", 6, column(&lines, |row| scaled(row.bytes.0 as f64))),
        Column::numbers("exp", 7, column(&lines, |row| scaled(row.exponentials as f64))),
        Column::numbers("FLOP/s", 4, column(&lines, |row| rate(row, row.flops.0))),
        Column::numbers("B/s", 4, column(&lines, |row| rate(row, row.bytes.0))),
        Column::numbers("of limit", 1, column(&lines, of_limit)),
        Column::numbers("energy", 1, column(&lines, energy)),
    ]
}

fn predicted(profile: &Profile, by: By) -> Vec<Column> {
    let lines = rows(profile, by);
    let whole = sum(&lines);
    let most = |row: &Row| {
        let limits = profile.limits.as_ref();
        let energy = limits.and_then(|limits| limits.energy(row.time()));
        energy.map_or(String::new(), joules)
    };
    let bound = |row: &Row| row.least().map_or(String::new(), |(_, bound)| bound.name().into());
    let [name, pass] = names(&lines, by);
    vec![
        name,
        pass,
        Column::numbers("calls", 3, column(&lines, |row| row.calls.to_string())),
        Column::numbers("least time", 0, column(&lines, |row| row.time().to_string())),
        Column::numbers("share", 0, column(&lines, |row| percent(share(row, whole)))),
        Column::numbers("bound by", 1, column(&lines, bound)),
        Column::numbers("FLOPs", 2, column(&lines, |row| scaled(row.flops.0 as f64))),
        Column::numbers("bytes", 2, column(&lines, |row| scaled(row.bytes.0 as f64))),
        Column::numbers("exp", 4, column(&lines, |row| scaled(row.exponentials as f64))),
        Column::numbers("at power limit", 1, column(&lines, most)),
    ]
}

/// What is said of the whole, below the table.
fn lines(profile: &Profile) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let total = profile.total().time();
    if let Some(q) = profile.untraced() {
        lines.push((
            "run",
            format!(
                "{} median of {}, {} to {} (20th to 80th percentile), without tracing",
                Seconds(q.median_s),
                profile.runs.untraced_s.len(),
                Seconds(q.p20_s),
                Seconds(q.p80_s)
            ),
        ));
        if let Some(traced) = wattention::stats::quantiles(&profile.runs.traced_s) {
            let more = traced.median_s / q.median_s - 1.0;
            lines.push(("tracing", format!("{} median, {}", Seconds(traced.median_s), more_or_less(more))));
        }
        if let Some(Seconds(left)) = profile.residual() {
            let (host, share) = (profile.host().time(), |part: f64| percent(part / q.median_s));
            lines.push((
                "phases",
                format!(
                    "{total}, {} of the run; the host between launches {host}, {}; residual {} ({})",
                    share(total.0),
                    share(host.0),
                    signed(left),
                    share(left)
                ),
            ));
        }
    }
    if let Some(Planned { launches, difference }) = &profile.planned {
        lines.push((
            "plan",
            match difference {
                None => format!("{launches} launches: kernels, order and costs as planned"),
                Some(difference) => format!("{launches} launches, not as planned: {difference}"),
            },
        ));
    }
    match (&profile.limits, profile.origin) {
        (Some(limits), origin) => {
            let sheet = match limits.origin {
                LimitsOrigin::Described => "the data sheet",
                LimitsOrigin::Measured => "`bench limits`",
            };
            lines.push(("limits", format!("of {} by {sheet}", limits.device)));
            if origin == Origin::Predicted
                && let (Some(power), Some(energy)) = (limits.power, limits.energy(total))
            {
                let text =
                    format!("at most {} in that time, at the power limit of {} W", joules(energy), power.0);
                lines.push(("energy", text));
            }
        }
        (None, _) => {
            lines.push(("limits", format!("n/a: {}", profile.no_limits.as_deref().unwrap_or("none"))))
        }
    }
    lines
}

fn signed(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    format!("{sign}{}", Seconds(seconds.abs()))
}

fn more_or_less(share: f64) -> String {
    match share >= 0.0 {
        true => format!("{} more", percent(share)),
        false => format!("{} less", percent(-share)),
    }
}
