//! Autoregressive decoding as HF `generate()` does it: greedy, beam search and sampling, under constraints.
//!
//! The encoder runs once, and its keys and values stay as they are for all rows that answer an input. Each step
//! decodes one token of every open row: `num_beams` for an input that searches, one for each answer of an input
//! that does not. Inputs that have their answers leave the batch.

mod beams;
mod candidates;
mod filters;
mod keys;
mod memory;
mod options;
mod processors;
mod rows;
mod sampling;
mod setting;
mod settings;
mod stop;

pub use keys::{HARMLESS, REFUSED, Refused, START};
pub use memory::{State, state};
pub use options::{EarlyStopping, GenerateOptions, LENGTHS, Pieces, SETTINGS};
pub use setting::{Setting, Used, Value};
pub use settings::{IGNORE, Settings, decides_text};

use crate::error::{Error, Result};
use crate::models::batch::Source;
use crate::models::session::Session;
use crate::text::{Spaces, Tokenizer};
use beams::Beams;
use candidates::Candidates;
use memory::{Row, Steps};
use processors::{Place, Processors};
use rayon::prelude::*;
use rows::Rows;
use stop::{Deadline, Ends};

/// What a search does with one input.
trait Search: Send {
    /// Each open row: its number among those of the input, and its tokens so far, the start token included.
    fn open(&self) -> Vec<(usize, &[i32])>;
    /// Log-probabilities wanted of each row.
    fn wanted(&self) -> usize;
    /// Takes a step, after which nothing may follow if it `is_last`: for every row to continue, which row it was and
    /// its new token; none when the search is over.
    fn advance(&mut self, candidates: Vec<Candidates>, is_last: bool) -> Vec<(usize, i32)>;
    /// The answers, best first, each with its start token.
    fn answers(self: Box<Self>) -> Vec<Vec<i32>>;
}

/// Tokens `[B * num_return_sequences][..]` from the start token on, each row padded to the longest.
///
/// Equals HF transformers 5.17 `generate()` for greedy and beam search, whatever else is in the batch. Fails
/// where [`GenerateOptions::check`] does, and as the device does.
pub fn generate<X: AsRef<State>>(
    session: &mut Session<X>,
    source: &Source,
    options: &GenerateOptions,
) -> Result<Vec<Vec<i32>>> {
    let limits = session.real().loaded.model.limits();
    options.check(&limits)?;
    let steps = Steps::new(source, options);
    steps.encode(session, source)?;
    let (processors, ends) = (Processors::new(options, source), Ends::new(options)?);
    let deadline = Deadline::new(options);
    let searches = (0..source.batch).map(|input| search(options, &ends, input));
    let mut open: Vec<(usize, Box<dyn Search>)> = searches.enumerate().collect();
    let mut done: Vec<(usize, Box<dyn Search>)> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for (input, search) in &open {
        rows.extend(search.open().iter().map(|_| Row::first(*input, options.decoder_start_token_id)));
    }
    for position in 0..options.max_new_tokens {
        let candidates = match options.needs_scores(position + 1) {
            false => best(steps.best(session, &mut rows, position)?),
            true => {
                let mut logits = steps.logits(session, &mut rows, position)?;
                let texts: Vec<(Place, &[i32], usize)> = open
                    .iter()
                    .flat_map(|(input, search)| {
                        search
                            .open()
                            .into_iter()
                            .map(move |(row, text)| (Place { input: *input, row }, text, search.wanted()))
                    })
                    .collect();
                let choose = |((at, text, wanted), logits): (&(Place, &[i32], usize), &mut [f32])| {
                    processors.candidates(logits, text, *at, *wanted)
                };
                texts.par_iter().zip(logits.par_chunks_mut(limits.vocab)).map(choose).collect()
            }
        };
        let is_last = position + 1 == options.max_new_tokens || deadline.has_passed();
        let mut candidates = candidates.into_iter();
        let (mut next, mut first) = (Vec::with_capacity(rows.len()), 0);
        for (input, mut search) in std::mem::take(&mut open) {
            let count = search.open().len();
            let steps = search.advance(candidates.by_ref().take(count).collect(), is_last);
            next.extend(steps.iter().map(|&(row, token)| rows[first + row].then(token)));
            first += count;
            match steps.is_empty() {
                true => done.push((input, search)),
                false => open.push((input, search)),
            }
        }
        rows = next;
        if open.is_empty() {
            break;
        }
    }
    done.extend(open);
    done.sort_by_key(|(input, _)| *input);
    let mut answers: Vec<Vec<i32>> = done.into_iter().flat_map(|(_, search)| search.answers()).collect();
    let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
    answers.iter_mut().for_each(|answer| answer.resize(longest, options.filler()));
    match answers.len() == source.batch * options.num_return_sequences {
        true => Ok(answers),
        false => Err(Error::internal("inputs and answers differ in number")),
    }
}

/// The tokens that can be chosen after `text` with their scores, as HF's processors and filters leave the `logits`
/// `[V]` of a row that answers `input`; with one beam, softmax of the scores is what a token is drawn from.
pub fn candidates(options: &GenerateOptions, logits: &[f32], text: &[i32], input: &[i32]) -> Candidates {
    let processors = Processors::of_rows(options, [input.to_vec()]);
    processors.candidates(&mut logits.to_vec(), text, Place { input: 0, row: 0 }, logits.len())
}

/// The texts `[B * num_return_sequences]` that [`generate`] gives for the inputs of `source`.
pub fn generate_texts<X: AsRef<State>>(
    session: &mut Session<X>,
    tokenizer: &Tokenizer,
    source: &Source,
    options: &GenerateOptions,
    spaces: Spaces,
) -> Result<Vec<String>> {
    texts(tokenizer, &generate(session, source, options)?, spaces)
}

/// Rows of tokens as texts, without special tokens.
pub fn texts(tokenizer: &Tokenizer, rows: &[Vec<i32>], spaces: Spaces) -> Result<Vec<String>> {
    let text = |row: &Vec<i32>| {
        let ids: Vec<u32> = row.iter().map(|&id| id as u32).collect();
        tokenizer.decode(&ids, spaces)
    };
    rows.iter().map(text).collect()
}

impl GenerateOptions {
    /// The same for a batch whose first row is number `row` of all rows that are asked for.
    pub fn from_row(&self, row: usize) -> Self {
        GenerateOptions { first_row: row as u64, ..self.clone() }
    }
}

fn search(options: &GenerateOptions, ends: &Ends, input: usize) -> Box<dyn Search> {
    match options.num_beams {
        1 => Box::new(Rows::new(options, ends, input)),
        _ => Box::new(Beams::new(options, ends, input)),
    }
}

fn best(tokens: Vec<i32>) -> Vec<Candidates> {
    tokens.into_iter().map(|token| vec![(token, 0.0)]).collect()
}

#[cfg(test)]
mod tests;
