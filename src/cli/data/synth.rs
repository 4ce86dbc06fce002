//! `data synth`: generate a dataset whose answers are known.

use super::super::global::Global;
use super::super::progress::Progress;
use super::Report;
use crate::data::Split;
use crate::data::folder::{Existing, Writer};
use crate::data::needle::{LONGEST, MOST_EXAMPLES, MOST_FACTS, Maker, Task, Wanted};
use crate::hub::Name;
use crate::settings::named;
use crate::text::Tokenizer;
use clap::{Subcommand, value_parser};
use std::path::PathBuf;

/// Generate a dataset whose answers are known, with their places in the text
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Needle(Needle),
}

/// Filler text with facts at uniformly spread places, to be found (qa) or listed (summary)
#[derive(clap::Args, Debug)]
struct Needle {
    /// Whether a question asks for the owner of one thing (qa) or for all facts in order (summary)
    #[arg(long, value_name = "TASK", default_value = "qa", value_parser = named::<Task>())]
    task: Task,

    /// Length of an input in words, question included; with --tokenizer in tokens, special ones included
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=LONGEST as i64))]
    length: u32,

    /// Folder or repository of the tokenizer that --length counts in
    #[arg(long, value_name = "DIR_OR_NAME")]
    tokenizer: Option<Name>,

    /// Facts in a document; in qa all but one are distractors [default: 1 for qa, 4 for summary]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST_FACTS as i64))]
    facts: Option<u32>,

    /// Examples in the training split
    #[arg(long, value_name = "N", default_value = "256", value_parser = examples())]
    train: u32,

    /// Examples in the validation split
    #[arg(long, value_name = "N", default_value = "64", value_parser = examples())]
    validation: u32,

    /// Examples in the test split
    #[arg(long, value_name = "N", default_value = "64", value_parser = examples())]
    test: u32,

    /// Folder that receives train.jsonl, validation.jsonl and test.jsonl; a folder named needle-qa is scored by F1
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// Replace files that exist already
    #[arg(long)]
    overwrite: bool,
}

fn examples() -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=MOST_EXAMPLES as i64)
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    let What::Needle(args) = args.what;
    let tokenizer = args.tokenizer.map(|name| Tokenizer::load(&name.open()?)).transpose()?;
    let facts = args.facts.unwrap_or(match args.task {
        Task::Qa => 1,
        Task::Summary => 4,
    });
    let wanted =
        Wanted { task: args.task, length: args.length as usize, facts: facts as usize, seed: global.seed };
    let mut maker = Maker::new(wanted, tokenizer.as_ref())?;
    // Impossible sizes are refused before a file is touched.
    maker.check()?;
    let existing = match args.overwrite {
        true => Existing::Replace,
        false => Existing::Refuse,
    };
    let mut writer = Writer::new(&args.to, existing)?;
    let counts = [args.train, args.validation, args.test];
    let total = counts.iter().map(|&count| u64::from(count)).sum();
    let mut progress = Progress::new(global, total, "making documents");
    for (split, count) in Split::ALL.into_iter().zip(counts) {
        let records = (0..count as usize).map(|index| {
            progress.step(1, "");
            maker.record(split, index)
        });
        writer.write(split, records)?;
    }
    writer.finish()?;
    progress.finish(format_args!("making documents: {total} done"));
    let [train, validation, test] = counts.map(|count| count as usize);
    Report { train, validation, test, to: args.to.display().to_string() }.print(global)
}
