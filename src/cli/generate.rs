//! `generate`: summaries or answers for documents, or tokens for tokens.

use super::choices::{self, Keeping, ModelChoices};
use super::decoding::Decoding;
use super::global::Global;
use super::ranks::Ranks;
use crate::energy::HELP;
use crate::error::Error;
use crate::hub::Name;
use std::num::NonZeroUsize;
use std::path::PathBuf;

mod documents;
mod output;
mod texts;
mod tokens;

/// Generate summaries or answers, for texts or at the token level
#[derive(clap::Args, Debug)]
#[command(after_help = HELP)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["input", "inputs"]))]
pub struct Args {
    #[arg(long, value_name = "DIR_OR_NAME", help = choices::models())]
    model: Name,

    /// Folder or repository of the tokenizer [default: the model's]
    #[arg(long, value_name = "DIR_OR_NAME")]
    tokenizer: Option<Name>,

    /// A .jsonl of objects with "input" or "text" (id and pid are kept), a .txt that is one document, or - for either
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Member of a .jsonl's objects that holds the text [default: input, text, document, article, ...]
    #[arg(long, value_name = "NAME", conflicts_with = "inputs")]
    text_column: Option<String>,

    /// A batch in tokens: input_ids, attention_mask and global_attention_mask, i64 [B, S]
    #[arg(long, value_name = "FILE.safetensors", requires = "output", conflicts_with_all = ["tokenizer", "max_source_length", "batch_size", "global_attention"])]
    inputs: Option<PathBuf>,

    /// Where to write one JSON object a document [default: stdout]; with --inputs, the tensor sequences, i64 [B, L]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Tokens of a document kept, special ones included [default: the encoder's positions]
    #[arg(long, value_name = "TOKENS")]
    max_source_length: Option<NonZeroUsize>,

    /// Documents decoded at once
    #[arg(long, value_name = "N", default_value = "8")]
    batch_size: NonZeroUsize,

    /// Answers of each document: the best beams, or as many as are drawn [default: the model's, or 1]
    #[arg(long, value_name = "N")]
    num_return_sequences: Option<NonZeroUsize>,

    #[command(flatten)]
    choices: ModelChoices,

    #[command(flatten)]
    keeping: Keeping,

    #[command(flatten)]
    decoding: Decoding,

    #[command(flatten)]
    ranks: Ranks,
}

pub fn run(args: Args, global: &Global) -> anyhow::Result<()> {
    args.ranks.run(global, |global, group| match &args.inputs {
        Some(_) if !group.is_alone() => {
            let what = "--inputs is one batch, which one process decodes";
            Err(Error::usage(format!("{what}; start one, or share out documents with --input")).into())
        }
        Some(inputs) => tokens::run(&args, inputs, global),
        None => texts::run(&args, global, &group),
    })
}
