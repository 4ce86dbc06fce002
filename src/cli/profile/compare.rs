//! `profile --compare A B`: two profiles side by side.

use super::super::global::Global;
use super::text::subject;
use crate::profile::compare::{Compared, Comparison, compare};
use crate::profile::report::{By, Profile};
use crate::table::{Column, Table, width};
use crate::units::{Seconds, percent};
use serde_json::Value;
use std::path::PathBuf;

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
    for (side, why) in ["A", "B"].iter().zip(&comparison.disturbed) {
        text.extend(why.iter().map(|why| format!("{side} was measured on a disturbed machine: {why}\n")));
    }
    let lines: Vec<&Compared> = std::iter::once(&comparison.whole).chain(&comparison.rows).collect();
    let time = |seconds: Option<f64>| seconds.map_or("-".into(), |s| Seconds(s).to_string());
    let title = match by {
        By::Phase => "phase",
        By::Kernel => "kernel",
        By::Both => "phase and kernel",
    };
    let name = |line: &&Compared| match line.key.name() {
        name if name.is_empty() => "whole run".into(),
        name => name,
    };
    let change = |line: &&Compared| {
        line.change.map(|change| format!("{}{}", if change > 0.0 { "+" } else { "" }, percent(change)))
    };
    let columns = [
        // A title, so that the column is one for people.
        Column::words(" ", |line: &&Compared| line.significant.then_some("*")),
        Column::words(title, name),
        Column::size("A", move |line: &&Compared| time(line.a_s)),
        Column::size("B", move |line: &&Compared| time(line.b_s)),
        Column::size("change", change),
        Column::size("p", |line: &&Compared| line.probability.map(probability)).rank(1),
    ];
    text += &format!("\n{}\n\n", Table::new(&columns, &lines).text(width));
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
