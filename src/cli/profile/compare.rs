//! `profile --compare A B`: two profiles side by side.

use super::super::global::Global;
use super::columns::{Column, percent, table, width};
use super::text::subject;
use serde_json::Value;
use std::path::PathBuf;
use wattention::profile::compare::{Compared, Comparison, compare};
use wattention::profile::report::{By, Profile};
use wattention::units::Seconds;

pub fn run([a, b]: [&PathBuf; 2], by: By, global: &Global) -> anyhow::Result<()> {
    let (first, second) = (Profile::read(a)?, Profile::read(b)?);
    let comparison = compare(&first, &second, by);
    let mut text = format!(
        "A  {}: {}\nB  {}: {}\n",
        a.display(),
        subject(&first.work),
        b.display(),
        subject(&second.work)
    );
    text += &body(&comparison, by, width());
    global.print(&comparison, text)
}

fn body(comparison: &Comparison, by: By, width: usize) -> String {
    let mut text = String::new();
    for (name, a, b) in &comparison.settings {
        text += &format!("not the same {name}: {} in A, {} in B\n", said(a), said(b));
    }
    let lines: Vec<&Compared> = std::iter::once(&comparison.whole).chain(&comparison.rows).collect();
    let cells = |cell: &dyn Fn(&Compared) -> String| lines.iter().map(|line| cell(line)).collect::<Vec<_>>();
    let time = |seconds: Option<f64>| seconds.map_or("-".into(), |s| Seconds(s).to_string());
    let title = match by {
        By::Phase => "phase",
        By::Kernel => "kernel",
        By::Both => "phase and kernel",
    };
    let change = |line: &Compared| match line.change {
        Some(change) if change > 0.0 => format!("+{}", percent(change)),
        Some(change) => percent(change),
        None => String::new(),
    };
    let columns = vec![
        Column::words("", cells(&|line| if line.significant { "*".into() } else { String::new() })),
        Column::words(
            title,
            cells(&|line| match line.key.name() {
                name if name.is_empty() => "whole run".into(),
                name => name,
            }),
        ),
        Column::numbers("A", 0, cells(&|line| time(line.a_s))),
        Column::numbers("B", 0, cells(&|line| time(line.b_s))),
        Column::numbers("change", 0, cells(&change)),
        Column::numbers("p", 1, cells(&|line| line.probability.map_or(String::new(), probability))),
    ];
    text += &format!("\n{}\n\n", table(columns, width));
    let marked = lines.iter().filter(|line| line.significant).count();
    text += &match (comparison.too_few_runs, marked) {
        (true, _) => {
            "too few runs to tell a difference from chance: profile longer, with --seconds".to_string()
        }
        (false, 0) => "no difference beyond the spread of the runs".to_string(),
        (false, _) => format!("* {marked} beyond the spread of the runs (rank-sum test, 5 % over all rows)"),
    };
    text
}

fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "not said".into(),
        other => other.to_string(),
    }
}

fn probability(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}
