//! A profile for people.

use super::energy;
use crate::limits::Origin as LimitsOrigin;
use crate::profile::measure::Planned;
use crate::profile::report::{By, Origin, Profile};
use crate::profile::rows::{Key, Row};
use crate::table::{Column, Table};
use crate::trace::Pass;
use crate::units::{Format, Quantity, Seconds, percent};
use serde_json::{Map, Value};

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
    let lines = rows(profile, by);
    let columns = match profile.origin {
        Origin::Measured => measured(profile, by, &lines),
        Origin::Predicted => predicted(profile, by, &lines),
    };
    let table = Table::new(&columns, &lines).text(width);
    let mut text = format!("{}\n{place}\n\n{table}\n", subject(&profile.work));
    for (name, line) in remarks(profile) {
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
    /// Whether it is a part of the phase above.
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

/// The sum of all other rows' medians, from which the median of the sum may differ.
fn sum(lines: &[Line]) -> f64 {
    let parts = lines.iter().filter(|line| !line.nested && line.row.key != Key::default());
    parts.map(|line| line.row.time().0).sum()
}

fn share(row: &Row, whole: f64) -> f64 {
    if row.key == Key::default() { 1.0 } else { row.time().0 / whole }
}

/// What rows are called, and their passes.
fn names(by: By) -> [Column<'static, Line>; 2] {
    let name = |line: &Line| match (&line.row.key.phase, &line.row.key.kernel) {
        (_, Some(kernel)) if line.nested => format!("  {kernel}"),
        (None, None) => "all".into(),
        (Some(phase), _) => phase.clone(),
        (None, Some(kernel)) => kernel.clone(),
    };
    let pass = |line: &Line| match line.nested {
        true => None,
        false if line.row.key.phase.is_some() && line.row.key.pass.is_none() => Some("-"),
        false => line.row.key.pass.map(Pass::name),
    };
    let title = if by == By::Kernel { "kernel" } else { "phase" };
    [Column::words(title, name), Column::words("pass", pass)]
}

/// What the launches compute and move; ranks from `rank` on.
fn work(rank: u8) -> [Column<'static, Line>; 3] {
    [
        Column::number("FLOPs", Format::Prefixed, |line: &Line| line.row.flops.0).rank(rank),
        Column::number("bytes", Format::Prefixed, |line: &Line| line.row.bytes.0).rank(rank),
        Column::number("exp", Format::Prefixed, |line: &Line| line.row.exponentials).rank(rank + 1),
    ]
}

const TIME: Format = Format::Each(Quantity::Time);

fn measured<'a>(profile: &'a Profile, by: By, lines: &[Line]) -> Vec<Column<'a, Line>> {
    let whole = sum(lines);
    let spread = |line: &Line| {
        let quantiles = line.row.quantiles().filter(|q| q.median_s > 0.0);
        quantiles.map(|q| (q.p80_s - q.p20_s) / 2.0 / q.median_s)
    };
    let rate = |row: &Row, count: u64| match row.rate(count) {
        Some(rate) if count > 0 => Format::Prefixed.shown(rate, None),
        _ => "-".into(),
    };
    let calls = |line: &Line| if line.row.key.is_host() { "-".into() } else { line.row.calls.to_string() };
    let of_limit = |line: &Line| {
        line.row.of_limit().map(|(share, bound)| format!("{} {}", percent(share), bound.name()))
    };
    let energy = |line: &Line| {
        let phase = match &line.row.key {
            key if key.kernel.is_some() => None,
            key if key.phase.is_none() => profile.energy.step(),
            key => profile.energy.of(key),
        };
        phase.map(|phase| phase.energy_j)
    };
    let mut columns = Vec::from(names(by));
    columns.extend([
        Column::size("calls", calls).rank(3),
        Column::number("time", TIME, |line: &Line| line.row.time().0),
        Column::number("spread", Format::Percent, spread).rank(2),
        Column::number("share", Format::Percent, move |line: &Line| share(&line.row, whole)),
    ]);
    columns.extend(work(6));
    columns.extend([
        Column::size("FLOP/s", move |line: &Line| rate(&line.row, line.row.flops.0)).rank(4),
        Column::size("B/s", move |line: &Line| rate(&line.row, line.row.bytes.0)).rank(4),
        Column::size("of limit", of_limit).rank(1),
        Column::number("energy", Format::Each(Quantity::Energy), energy).rank(1),
    ]);
    columns
}

fn predicted<'a>(profile: &'a Profile, by: By, lines: &[Line]) -> Vec<Column<'a, Line>> {
    let whole = sum(lines);
    let most = |line: &Line| {
        let limits = profile.limits.as_ref();
        limits.and_then(|limits| limits.energy(line.row.time())).map(|joules| joules.0)
    };
    let mut columns = Vec::from(names(by));
    columns.extend([
        Column::size("calls", |line: &Line| line.row.calls).rank(3),
        Column::number("least time", TIME, |line: &Line| line.row.time().0),
        Column::number("share", Format::Percent, move |line: &Line| share(&line.row, whole)),
        Column::words("bound by", |line: &Line| line.row.least().map(|(_, bound)| bound.name())).rank(1),
    ]);
    columns.extend(work(2));
    columns.push(Column::number("at power limit", Format::Each(Quantity::Energy), most).rank(1));
    columns
}

/// What is said of the whole, below the table.
fn remarks(profile: &Profile) -> Vec<(&'static str, String)> {
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
        if let Some(traced) = crate::stats::quantiles(&profile.runs.traced_s) {
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
    if let Some(warning) = profile.conditions.warning() {
        lines.push(("disturbed", warning));
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
                let text = format!("at most {} in that time, at the power limit of {} W", energy, power.0);
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
