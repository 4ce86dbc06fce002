//! `study recommend`: which model and length to choose.

use super::super::global::Global;
use crate::error::Error;
use crate::markup::plain;
use crate::study::recommend::{Chosen, Recommendation, Wishes, recommend};
use crate::study::results::{
    EMISSIONS, INFERENCE_ENERGY, INFERENCE_TIME, PEAK_MEMORY, SCORE, TRAIN_ENERGY, TRAIN_TIME, agreement,
};
use crate::table::{Column, Table, Value, width, wrapped};
use crate::units::decimals;
use std::path::PathBuf;

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

    /// Weigh training together with inference of so many documents
    #[arg(long, value_name = "N")]
    documents: Option<u64>,

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
        documents: args.documents,
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
            lines.push(format!("{dataset}, by {}: {}", found.metric, name(choice)));
            lines.extend(choice.caution.iter().map(|caution| format!("  but {caution}")));
            let disturbed = choice.disturbed.iter().map(|why| plain(why));
            lines.extend(disturbed.map(|why| format!("  but it was measured on a disturbed machine: {why}")));
        }
    }
    if let Some(next) = &found.next {
        let margin = next.score_margin.value().map_or("n/a".into(), |by| {
            let word = if by < 0.0 { "more" } else { "less" };
            format!("{} points {word}", decimals(by.abs(), 2))
        });
        let apart = match next.told_apart {
            Some(true) => "the 95 % intervals do not overlap",
            Some(false) => "the difference lies within the 95 % intervals",
            None => "whether they differ is not known, for there is no interval",
        };
        lines.push(format!("  next by {}: {}, {margin}; {apart}", found.by, name(&next.is)));
    }
    let mut text = lines.into_iter().map(|line| wrapped(&line, width(), 4) + "\n").collect::<String>();
    let chosen: Vec<&Chosen> = found.choice.iter().chain(found.next.iter().map(|next| &next.is)).collect();
    if !chosen.is_empty() {
        text += &format!("\n{}\n", candidates(&chosen));
    }
    for one in &found.not_chosen {
        let (model, why) = (plain(&one.model), plain(&one.why));
        text += &format!("not {model} at {} tokens: {why}\n", one.max_source_length);
    }
    text.trim_end().to_string()
}

fn name(choice: &Chosen) -> String {
    format!("{} at {} tokens", plain(&choice.model), choice.max_source_length)
}

/// The choice and the next one, with what they take.
fn candidates(chosen: &[&Chosen]) -> String {
    let interval = |choice: &&Chosen| match choice.interval {
        Some(interval) => Value::Text(interval.to_string()),
        None => Value::Text("not recorded".into()),
    };
    let columns = [
        Column::words("model", |choice: &&Chosen| choice.model.clone()),
        Column::size("tokens", |choice: &&Chosen| choice.max_source_length),
        Column::number(SCORE.title, SCORE.format, |choice: &&Chosen| choice.score.clone()),
        Column::size("95 % interval", interval).rank(1),
        Column::number(TRAIN_TIME.title, TRAIN_TIME.format, |choice: &&Chosen| choice.train_seconds.clone()),
        Column::number(TRAIN_ENERGY.title, TRAIN_ENERGY.format, |choice: &&Chosen| {
            choice.train_joules.clone()
        }),
        Column::number(PEAK_MEMORY.title, PEAK_MEMORY.format, |choice: &&Chosen| choice.peak_bytes.clone())
            .rank(2),
        Column::number(INFERENCE_TIME.title, INFERENCE_TIME.format, |choice: &&Chosen| {
            choice.inference_seconds.clone()
        }),
        Column::number(INFERENCE_ENERGY.title, INFERENCE_ENERGY.format, |choice: &&Chosen| {
            choice.inference_joules.clone()
        })
        .rank(1),
    ];
    let emissions =
        Column::number(EMISSIONS.title, EMISSIONS.format, |choice: &&Chosen| choice.emissions_grams.clone());
    // Where no intensity is known, a column that says so of every choice says nothing of any.
    let emissions = chosen.iter().any(|choice| choice.emissions_grams.value().is_some()).then_some(emissions);
    let totals = [
        Column::number("total time", TRAIN_TIME.format, |choice: &&Chosen| choice.total_seconds.clone()),
        Column::number("total energy", TRAIN_ENERGY.format, |choice: &&Chosen| choice.total_joules.clone()),
    ];
    let measures = agreement().enumerate().map(|(at, metric)| {
        let value = move |choice: &&Chosen| choice.measures.get(at).map(|measure| measure.value.clone());
        Column::number(metric.title, metric.format, value).rank(3)
    });
    let columns: Vec<Column<&Chosen>> =
        columns.into_iter().chain(emissions).chain(totals).chain(measures).collect();
    let table = Table::new(&columns, chosen);
    let notes = table.notes().into_iter().map(|note| wrapped(&note, width(), 2));
    [table.text(width())].into_iter().chain(notes).collect::<Vec<_>>().join("\n")
}
