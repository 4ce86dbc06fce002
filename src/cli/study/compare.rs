//! `study compare`: two studies side by side.

use super::super::global::Global;
use std::path::PathBuf;
use wattention::markup::{decimals, plain, significant};
use wattention::study::compare::{Comparison, Pair, Side, compare};
use wattention::study::results::Reading;

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
    if found.matched.is_empty() {
        out += "No cell is in both studies.\n";
    }
    for pair in &found.matched {
        out += &lines(pair);
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

fn lines(pair: &Pair) -> String {
    let Pair { model, dataset, max_source_length, seed, protocol, precisions, scores, .. } = pair;
    let precision = match precisions {
        [a, b] if a == b => plain(a),
        [a, b] => format!("{} in A and {} in B", plain(a), plain(b)),
    };
    let score = |reading: &Reading| or_why(reading, |value| decimals(value, 2));
    let (model, dataset, protocol) = (plain(model), plain(dataset), plain(protocol));
    let mut out = format!(
        "{model} on {dataset}, {max_source_length} tokens, {precision}, seed {seed}, {protocol} protocol\n  \
         score: {} in A, {} in B",
        score(&scores[0]),
        score(&scores[1]),
    );
    if let Some(by) = pair.difference.value() {
        let sign = if by > 0.0 { "+" } else { "" };
        out += &format!("; {sign}{}", decimals(by, 2));
        out += &match pair.interval {
            Some(i) => {
                let how = if pair.paired { "by the same examples" } else { "by both intervals" };
                let claim = if i.contains(0.0) { ": not told apart" } else { "" };
                format!(" ({} to {}, {how}{claim})", decimals(i.low, 2), decimals(i.high, 2))
            }
            None => " (how far that is known is not recorded)".into(),
        };
    }
    let ratios: Vec<String> = pair
        .ratios
        .iter()
        .map(|ratio| format!("{} {}", ratio.what, or_why(&ratio.ratio, |by| format!("x{}", significant(by)))))
        .collect();
    out + &format!("\n  B over A: {}\n", ratios.join(", "))
}

/// A number, marked if predicted, or why there is none.
fn or_why(reading: &Reading, show: impl Fn(f64) -> String) -> String {
    match reading {
        Reading::Predicted(value) if value.is_finite() => format!("~{}", show(*value)),
        reading => match reading.value() {
            Some(value) => show(value),
            None => format!("n/a ({})", plain(&reading.why().unwrap_or_default())),
        },
    }
}
