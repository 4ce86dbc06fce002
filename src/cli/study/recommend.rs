//! `study recommend`: which model and length to choose.

use super::super::global::Global;
use std::path::PathBuf;
use wattention::error::Error;
use wattention::markup::{Quantity, decimals, plain, significant};
use wattention::study::recommend::{Chosen, Recommendation, Wishes, recommend};
use wattention::study::results::Reading;

/// Say which model and input length to choose under limits, by what margin, and what speaks against it
///
/// With --min-accuracy the cheapest that reaches it, otherwise the most accurate within the limits.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("wish").required(true).multiple(true)
    .args(["budget_kwh", "budget_hours", "min_accuracy", "max_latency"]))]
pub struct Args {
    /// A study's folder, or its results.json
    #[arg(value_name = "DIR")]
    results: PathBuf,

    /// Most energy of one training run
    #[arg(long, value_name = "KWH", allow_negative_numbers = true)]
    budget_kwh: Option<f64>,

    /// Longest training run
    #[arg(long, value_name = "HOURS", allow_negative_numbers = true)]
    budget_hours: Option<f64>,

    /// Least score, 0 to 100, of the metric that a dataset is judged by
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    min_accuracy: Option<f64>,

    /// Longest inference per example
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    max_latency: Option<f64>,

    /// One dataset [default: each]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    for (flag, value) in [
        ("--budget-kwh", args.budget_kwh),
        ("--budget-hours", args.budget_hours),
        ("--min-accuracy", args.min_accuracy),
        ("--max-latency", args.max_latency),
    ] {
        if let Some(value) = value.filter(|value| !(*value >= 0.0 && value.is_finite())) {
            return Err(Error::usage(format!("{flag} is {value}; it must be at least 0")).into());
        }
    }
    let (results, _) = super::read(&args.results)?;
    let wishes = Wishes {
        budget_kwh: args.budget_kwh,
        budget_hours: args.budget_hours,
        min_accuracy: args.min_accuracy,
        max_latency: args.max_latency,
        dataset: args.dataset,
    };
    let found = recommend(&results, &wishes)?;
    let text: Vec<String> = found.iter().map(text).collect();
    global.print(&serde_json::json!({ "recommendations": found }), text.join("\n\n"))
}

fn text(found: &Recommendation) -> String {
    let mut lines = Vec::new();
    let dataset = plain(&found.dataset);
    match &found.choice {
        None => lines.push(format!("{dataset}: nothing meets this.")),
        Some(choice) => {
            lines.push(format!("{dataset}: {}", name(choice)));
            lines.push(format!("  {} {}", found.metric, score(choice)));
            lines.push(format!("  {}", costs(choice)));
            lines.extend(choice.caution.iter().map(|caution| format!("  but {caution}")));
        }
    }
    if let Some(next) = &found.next {
        let margin = next.score_margin.value().map_or("n/a".into(), |by| {
            let word = if by < 0.0 { "more" } else { "less" };
            format!("{} points {word}", decimals(by.abs(), 2))
        });
        let apart = match next.told_apart {
            true => "the intervals do not overlap",
            false => "which these intervals do not tell apart",
        };
        lines.push(format!("  next by {}: {}, {margin}, {apart}", found.by, name(&next.is)));
        lines.push(format!("    {}", costs(&next.is)));
    }
    for one in &found.not_chosen {
        let (model, why) = (plain(&one.model), plain(&one.why));
        lines.push(format!("  not {model} at {} tokens: {why}", one.max_source_length));
    }
    lines.join("\n")
}

fn name(choice: &Chosen) -> String {
    format!("{} at {} tokens", plain(&choice.model), choice.max_source_length)
}

fn score(choice: &Chosen) -> String {
    let score = choice.score.value().map_or("n/a".into(), |value| decimals(value, 2));
    match choice.interval {
        Some(i) => format!("{score} (95 % interval {} to {})", decimals(i.low, 2), decimals(i.high, 2)),
        None => format!("{score} (how far that is known is not recorded)"),
    }
}

fn costs(choice: &Chosen) -> String {
    let in_unit = |reading: &Reading, quantity: Quantity| match (reading, reading.value()) {
        (_, None) => "n/a".to_string(),
        (reading, Some(value)) => {
            let unit = quantity.unit(value);
            let mark = if matches!(reading, Reading::Predicted(_)) { "~" } else { "" };
            format!("{mark}{} {}", significant(value / unit.size), unit.name)
        }
    };
    format!(
        "training {}, energy {}, memory {}, inference {} per example",
        in_unit(&choice.train_seconds, Quantity::Time),
        in_unit(&choice.train_joules, Quantity::Energy),
        in_unit(&choice.peak_bytes, Quantity::Memory),
        in_unit(&choice.inference_seconds, Quantity::Time),
    )
}
