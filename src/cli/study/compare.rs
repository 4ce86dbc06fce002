//! `study compare`: two studies side by side.

use super::super::global::Global;
use crate::markup::plain;
use crate::nn::Weights;
use crate::study::compare::{Comparison, Pair, Side, compare};
use crate::study::results::{COSTS, SCORE, agreement};
use crate::table::{Column, Table, Value, width, wrapped};
use crate::units::Format;
use std::path::PathBuf;

/// Compare the results of two studies, of two machines or two versions, cell by cell
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A study's folder, or its results.json
    #[arg(value_name = "A")]
    a: PathBuf,

    /// Another's
    #[arg(value_name = "B")]
    b: PathBuf,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let (a, b) = (super::read(&args.a)?, super::read(&args.b)?);
    let found = compare(&Side { results: &a.0, folder: &a.1 }, &Side { results: &b.0, folder: &b.1 });
    global.print(&found, text(&found))
}

fn text(found: &Comparison) -> String {
    let mut out = String::new();
    match found.matched.is_empty() {
        true => out += "No cell is in both studies.\n",
        false => out += &matched(&found.matched),
    }
    for (which, cells) in [("A", &found.only_a), ("B", &found.only_b)] {
        for cell in cells {
            out += &format!("only in {which}: {}\n", plain(cell));
        }
    }
    for (key, a, b) in &found.environment {
        out += &format!("{}: {} in A, {} in B\n", plain(key), plain(a), plain(b));
    }
    out.trim_end().to_string()
}

/// The cells of both studies: scores, their difference with its interval, and how many times A's costs B took.
fn matched(pairs: &[Pair]) -> String {
    let precision = |pair: &Pair| match &pair.precisions {
        [a, b] if a == b => a.clone(),
        [a, b] => format!("{a}, {b}"),
    };
    // Weights as they are stored in both are nothing to be said.
    let weights = |pair: &Pair| match pair.weights {
        [Weights::Stored, Weights::Stored] => None,
        [a, b] if a == b => Some(a.name().to_string()),
        [a, b] => Some(format!("{}, {}", a.name(), b.name())),
    };
    let interval = |pair: &Pair| match (pair.interval, pair.paired) {
        (None, _) => Value::Text("not recorded".into()),
        (Some(interval), paired) => {
            Value::Text(format!("{interval}, {}", if paired { "by example" } else { "by intervals" }))
        }
    };
    // Nothing is said of a difference that is not known.
    let verdict = |pair: &Pair| match (pair.difference.value(), pair.interval) {
        (Some(_), Some(interval)) if interval.contains(0.0) => Some("within the interval"),
        (Some(by), Some(_)) => Some(if by > 0.0 { "higher in B" } else { "lower in B" }),
        _ => None,
    };
    let mut columns = vec![
        Column::words("model", |pair: &Pair| pair.model.clone()),
        Column::words("dataset", |pair: &Pair| pair.dataset.clone()),
        Column::size("tokens", |pair: &Pair| pair.max_source_length),
        Column::words("precision", precision).rank(3),
        Column::words("weights", weights).rank(3),
        Column::size("seed", |pair: &Pair| pair.seed).rank(4),
        Column::words("protocol", |pair: &Pair| pair.protocol.clone()).rank(4),
        Column::number("score A", SCORE.format, |pair: &Pair| pair.scores[0].clone()),
        Column::number("score B", SCORE.format, |pair: &Pair| pair.scores[1].clone()),
        Column::number("difference", Format::Signed, |pair: &Pair| pair.difference.clone()),
        Column::words("95 % interval", interval).rank(1),
        Column::words("verdict", verdict),
    ];
    for (at, cost) in COSTS.iter().enumerate() {
        let ratio = move |pair: &Pair| pair.ratios.get(at).map(|of| of.ratio.clone());
        columns.push(Column::number(format!("{} B/A", cost.title), Format::Times, ratio).rank(2));
    }
    for (at, metric) in agreement().enumerate() {
        let change = move |pair: &Pair| {
            let [a, b] = &pair.measures.get(at)?.values;
            Some(a.with(b, |old, new| new - old))
        };
        columns.push(Column::number(format!("{} B−A", metric.title), Format::Signed, change).rank(5));
    }
    columns.push(Column::words("machine", |pair: &Pair| {
        match pair.disturbed.each_ref().map(|why| !why.is_empty()) {
            [false, false] => None,
            [true, false] => Some("disturbed in A"),
            [false, true] => Some("disturbed in B"),
            [true, true] => Some("disturbed in both"),
        }
    }));
    let table = Table::new(&columns, pairs);
    let notes = table.notes().into_iter().map(|note| wrapped(&note, width(), 2) + "\n");
    [table.text(width()) + "\n"].into_iter().chain(notes).collect()
}
