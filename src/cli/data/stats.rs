//! `data stats`: examples, ids and lengths by split, and where answers stand.

use super::super::choices;
use super::super::columns::{Columns, tell_skipped};
use super::super::global::Global;
use super::super::progress::Progress;
use super::needles::Needles;
use crate::data::{Dataset, Kind, Record, Split};
use crate::error::{Error, Result};
use crate::hub::Name;
use crate::table::{Column, Table, width};
use crate::text::Tokenizer;
use crate::units::counted;
use serde::Serialize;
use std::collections::HashSet;

/// Texts tokenised at a time, in parallel.
const CHUNK: usize = 64;

/// Count examples, words and tokens by split
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(long, value_name = "PATH_OR_NAME", help = choices::datasets())]
    dataset: String,

    #[command(flatten)]
    columns: Columns,

    /// Folder or repository of the tokenizer that counts tokens, special ones included
    #[arg(long, value_name = "DIR_OR_NAME")]
    tokenizer: Option<Name>,
}

#[derive(Serialize)]
struct Report {
    dataset: String,
    kind: Kind,
    splits: Vec<SplitStats>,
}

#[derive(Serialize)]
struct SplitStats {
    split: Split,
    examples: usize,
    /// Distinct ids; an id repeats when an input has several references.
    ids: usize,
    /// Wrong records that were passed over, by --skip-bad-records.
    #[serde(skip_serializing_if = "crate::data::is_zero")]
    skipped: usize,
    input_words: Lengths,
    output_words: Option<Lengths>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_tokens: Option<Lengths>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens: Option<Lengths>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needles: Option<Needles>,
}

/// The spread of a list of lengths.
#[derive(Debug, PartialEq, Serialize)]
struct Lengths {
    min: usize,
    median: f64,
    max: usize,
}

impl Lengths {
    /// None of no lengths: a test split has no outputs.
    fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        let (&min, &max) = (lengths.first()?, lengths.last()?);
        let middle = lengths.len() / 2;
        let median = match lengths.len() % 2 {
            1 => lengths[middle] as f64,
            _ => (lengths[middle - 1] + lengths[middle]) as f64 / 2.0,
        };
        Some(Lengths { min, median, max })
    }
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let tokenizer = args.tokenizer.map(|name| Tokenizer::load(&name.open()?)).transpose()?;
    let dataset = args.columns.open(&args.dataset)?;
    let mut splits = Vec::new();
    let mut absent = None;
    for split in Split::ALL {
        match words(&dataset, split) {
            Ok(stats) => {
                tell_skipped(global, &dataset, split);
                splits.extend(stats);
            }
            Err(error @ Error::Missing { .. }) => absent = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    if let (true, Some(error)) = (splits.is_empty(), absent) {
        return Err(error.into());
    }
    for stats in &mut splits {
        if let Some(tokenizer) = &tokenizer {
            count_tokens(&dataset, tokenizer, stats, global)?;
        }
        stats.needles = Needles::of(&dataset, stats.split, tokenizer.as_ref())?;
    }
    let report = Report { dataset: dataset.name, kind: dataset.kind, splits };
    global.print(&report, report.text())
}

/// Counts that need no tokenizer; None of a split without examples.
fn words(dataset: &Dataset, split: Split) -> Result<Option<SplitStats>> {
    let mut ids = HashSet::new();
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let count = |text: &str| text.split_whitespace().count();
    dataset.visit(split, &mut |record| {
        inputs.push(count(&record.input));
        outputs.extend(record.output.as_deref().map(count));
        ids.insert(record.id);
        Ok(())
    })?;
    let examples = inputs.len();
    Ok(Lengths::of(inputs).map(|input_words| SplitStats {
        split,
        examples,
        ids: ids.len(),
        skipped: dataset.skipped(split).len(),
        input_words,
        output_words: Lengths::of(outputs),
        input_tokens: None,
        output_tokens: None,
        needles: None,
    }))
}

fn count_tokens(
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    stats: &mut SplitStats,
    global: &Global,
) -> Result<()> {
    let label = format!("tokenising {}", stats.split.name());
    let mut progress = Progress::new(global, stats.examples as u64, &label);
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let mut waiting: Vec<Record> = Vec::with_capacity(CHUNK);
    let mut count = |waiting: &mut Vec<Record>| {
        let texts: Vec<&str> = waiting.iter().map(|r| r.input.as_str()).collect();
        let tokens = tokenizer.encode_batch(&texts, usize::MAX)?;
        inputs.extend(tokens.iter().map(Vec::len));
        let texts: Vec<&str> = waiting.iter().filter_map(|r| r.output.as_deref()).collect();
        let tokens = tokenizer.encode_batch(&texts, usize::MAX)?;
        outputs.extend(tokens.iter().map(Vec::len));
        progress.step(waiting.len() as u64, "");
        waiting.clear();
        Ok(())
    };
    dataset.visit(stats.split, &mut |record| {
        waiting.push(record);
        match waiting.len() {
            CHUNK => count(&mut waiting),
            _ => Ok(()),
        }
    })?;
    count(&mut waiting)?;
    progress.finish(format_args!("{label}: {}", counted(stats.examples, "example")));
    stats.input_tokens = Lengths::of(inputs);
    stats.output_tokens = Lengths::of(outputs);
    Ok(())
}

/// One line of the table: a split's name and counts stand in its first.
struct Line<'a> {
    split: Option<&'a SplitStats>,
    text: &'static str,
    unit: &'static str,
    lengths: &'a Lengths,
}

impl Report {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        for stats in &self.splits {
            let all = [
                ("input", "words", Some(&stats.input_words)),
                ("output", "words", stats.output_words.as_ref()),
                ("input", "tokens", stats.input_tokens.as_ref()),
                ("output", "tokens", stats.output_tokens.as_ref()),
            ];
            let mut split = Some(stats);
            for (text, unit, lengths) in all {
                lines.extend(lengths.map(|lengths| Line { split: split.take(), text, unit, lengths }));
            }
        }
        let columns = [
            Column::words("split", |line: &Line| line.split.map(|stats| stats.split.name())),
            Column::size("examples", |line: &Line| line.split.map(|stats| stats.examples)),
            Column::size("ids", |line: &Line| line.split.map(|stats| stats.ids)),
            Column::words("text", |line: &Line| line.text),
            Column::words("unit", |line: &Line| line.unit),
            Column::size("min", |line: &Line| line.lengths.min),
            Column::size("median", |line: &Line| line.lengths.median),
            Column::size("max", |line: &Line| line.lengths.max),
        ];
        let mut text = format!("{}\n\n{}", self.dataset, Table::new(&columns, &lines).text(width()));
        for stats in &self.splits {
            text.extend(stats.needles.iter().map(|needles| needles.text(stats.split)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_number_of_lengths_has_a_median_between_two() {
        let spread = |min, median, max| Some(Lengths { min, median, max });
        assert_eq!(Lengths::of(vec![5, 1, 9]), spread(1, 5.0, 9));
        assert_eq!(Lengths::of(vec![4, 1, 9, 7]), spread(1, 5.5, 9));
        assert_eq!(Lengths::of(Vec::new()), None);
    }
}
