//! Made-up documents whose answers lie at known, uniformly spread places: how many of them a model can give at an
//! input length follows from the construction (see [`super::reach`]).
//!
//! A document is filler with `facts` sentences of the form "The key is for the young school team manager." in it, each
//! about another thing. The owner's four words are drawn: they have to be read, for no model can know or guess them
//! all. Question answering asks for the owner of one thing; the other facts are distractors. Summarisation wants all
//! facts in their order.

mod grammar;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::order::Draws;
use super::{Record, Split};
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use grammar::{Fact, LONGEST_FILLER, SUMMARY_QUESTION, THINGS, filler, owners};

/// Most facts of a document: every one is about another thing.
pub const MOST_FACTS: usize = THINGS.len();

/// Longest document, in words or tokens.
pub const LONGEST: usize = 1 << 20;

/// Most documents of a split.
pub const MOST_EXAMPLES: usize = 1 << 20;

/// Sentences between two facts, where the document has room: a fact is then alone in the window of a tiny model.
const APART: usize = 8;

/// Each place is this share of the document further than the one of the example before, modulo the document: the
/// golden ratio spreads every run of examples as evenly as can be.
const STRIDE: f64 = 0.618_033_988_749_894_9;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Question answering.
    Qa,
    Summary,
}

/// What documents are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub task: Task,
    /// Length of an input, question included, in words or in tokens of a tokenizer, special ones included.
    pub length: usize,
    /// Facts of a document.
    pub facts: usize,
    pub seed: u64,
}

/// A dataset that is made when it is asked for.
#[derive(Debug)]
pub struct Embedded {
    pub name: &'static str,
    wanted: Wanted,
}

/// Longer than 4096 tokens of either embedded tokenizer.
const EMBEDDED_WORDS: usize = 3550;

pub static EMBEDDED: [Embedded; 2] = [
    Embedded {
        name: "needle-qa",
        wanted: Wanted { task: Task::Qa, length: EMBEDDED_WORDS, facts: 1, seed: 0 },
    },
    Embedded {
        name: "needle-summary",
        wanted: Wanted { task: Task::Summary, length: EMBEDDED_WORDS, facts: 4, seed: 0 },
    },
];

impl Embedded {
    /// Calls `each` with the records of a split: 256 for training, 128 each to validate and to test.
    pub fn visit(&self, split: Split, each: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let records = match split {
            Split::Train => 256,
            Split::Validation | Split::Test => 128,
        };
        let mut maker = Maker::new(self.wanted, None)?;
        (0..records).try_for_each(|index| each(maker.record(split, index)?))
    }
}

/// Makes documents, no two of them equal.
pub struct Maker<'a> {
    wanted: Wanted,
    tokenizer: Option<&'a Tokenizer>,
    specials: usize,
    seen: HashSet<blake3::Hash>,
}

impl<'a> Maker<'a> {
    /// Lengths count tokens of `tokenizer`, or else words.
    pub fn new(wanted: Wanted, tokenizer: Option<&'a Tokenizer>) -> Result<Self> {
        if !(1..=MOST_FACTS).contains(&wanted.facts) {
            return Err(Error::usage(format!(
                "--facts is {}; a document holds 1 to {MOST_FACTS}",
                wanted.facts
            )));
        }
        if wanted.length > LONGEST {
            return Err(Error::usage(format!(
                "--length is {}; the longest documents have {LONGEST}",
                wanted.length
            )));
        }
        let specials = tokenizer.map_or(Ok(0), |tokenizer| Ok(tokenizer.encode("", usize::MAX)?.len()))?;
        Ok(Maker { wanted, tokenizer, specials, seen: HashSet::new() })
    }

    /// Whether documents as wanted can be.
    pub fn check(&self) -> Result<()> {
        self.document(&mut Draws::new(0), Split::Train, 0).map(drop)
    }

    /// Record `index` of a split; the same for the same arguments unless an equal one was made before.
    pub fn record(&mut self, split: Split, index: usize) -> Result<Record> {
        let mut attempt = 0;
        // There are many more of the shortest documents than anyone may ask for.
        loop {
            let key = [self.wanted.seed, split as u64, index as u64, attempt];
            let (input, answer, needles) = self.document(&mut Draws::of(&key), split, index)?;
            if self.seen.insert(blake3::hash(input.as_bytes())) {
                let name = match self.wanted.task {
                    Task::Qa => "qa",
                    Task::Summary => "summary",
                };
                let id = format!("needle-{name}-{}-{index}", split.name());
                return Ok(Record { pid: id.clone(), id, input, output: Some(answer), needles });
            }
            attempt += 1;
        }
    }

    /// The input, its answer and where in the input the answer stands.
    fn document(
        &self,
        draws: &mut Draws,
        split: Split,
        index: usize,
    ) -> Result<(String, String, Vec<[usize; 2]>)> {
        let things = draws.distinct(THINGS.len(), self.wanted.facts);
        let owners = owners(draws, self.wanted.facts);
        let facts: Vec<Fact> =
            things.into_iter().zip(owners).map(|(thing, owner)| Fact { thing, owner }).collect();
        let asked = &facts[0];
        let question = match self.wanted.task {
            Task::Qa => asked.question(),
            Task::Summary => SUMMARY_QUESTION.to_string(),
        };
        let mut fillers = self.fillers(draws, &question, &facts)?;
        let first = Draws::of(&[self.wanted.seed, split as u64]).share();
        let place = (first + STRIDE * index as f64).fract();
        let gaps = spread(draws, place, fillers.len(), facts.len());
        loop {
            let (input, spans) = assemble(&question, &fillers, &facts, &gaps);
            // Sentences are counted one by one; a tokenizer may make more of the whole.
            if self.count(&input)? + self.specials > self.wanted.length && fillers.pop().is_some() {
                continue;
            }
            let mut order: Vec<usize> = (0..facts.len()).collect();
            order.sort_by_key(|&fact| spans[fact][0]);
            return Ok(match self.wanted.task {
                Task::Qa => (input, asked.answer(), vec![spans[0]]),
                Task::Summary => {
                    let sentences: Vec<String> = order.iter().map(|&fact| facts[fact].sentence()).collect();
                    (input, sentences.join(" "), order.iter().map(|&fact| spans[fact]).collect())
                }
            });
        }
    }

    /// As many filler sentences as there is room for.
    fn fillers(&self, draws: &mut Draws, question: &str, facts: &[Fact]) -> Result<Vec<String>> {
        let mut taken = self.specials + self.count(question)?;
        for fact in facts {
            taken += self.count(&format!(" {}", fact.sentence()))?;
        }
        let least = taken + facts.len() * self.count(LONGEST_FILLER)?;
        if least > self.wanted.length {
            let what = format!(
                "--length {} is too short for a question, {} facts and as many sentences around them; \
                 it takes {least} for these",
                self.wanted.length,
                facts.len()
            );
            return Err(Error::usage(what));
        }
        let mut fillers = Vec::new();
        loop {
            let sentence = filler(draws);
            taken += self.count(&format!(" {sentence}"))?;
            if taken > self.wanted.length {
                return Ok(fillers);
            }
            fillers.push(sentence);
        }
    }

    /// Words or tokens of a text, without special tokens.
    fn count(&self, text: &str) -> Result<usize> {
        match self.tokenizer {
            Some(tokenizer) => Ok(tokenizer.encode(text, usize::MAX)?.len().saturating_sub(self.specials)),
            None => Ok(text.split_whitespace().count()),
        }
    }
}

/// The filler sentence before which each fact stands, `0..=sentences`: the first fact's at the share `place` of the
/// document, the others' drawn, all apart.
fn spread(draws: &mut Draws, place: f64, sentences: usize, facts: usize) -> Vec<usize> {
    let all = sentences + 1;
    // With half of the sentences between facts at most, there is always room for another.
    let apart = (sentences / (2 * facts)).min(APART);
    let mut gaps = vec![((place * all as f64) as usize).min(sentences)];
    while gaps.len() < facts {
        let gap = draws.below(all as u64) as usize;
        if gaps.iter().all(|&other| gap.abs_diff(other) >= apart) {
            gaps.push(gap);
        }
    }
    gaps
}

/// Question, two newlines, document; and where each fact stands, as bytes `[start, end)`.
fn assemble(question: &str, fillers: &[String], facts: &[Fact], gaps: &[usize]) -> (String, Vec<[usize; 2]>) {
    let mut input = format!("{question}\n\n");
    let mut spans = vec![[0, 0]; facts.len()];
    let start = input.len();
    let mut append = |sentence: &str| {
        if input.len() > start {
            input.push(' ');
        }
        input.push_str(sentence);
        [input.len() - sentence.len(), input.len()]
    };
    for sentence in 0..=fillers.len() {
        for (fact, span) in spans.iter_mut().enumerate() {
            // A gap behind the last sentence, where some were left out, is at the end.
            if gaps[fact].min(fillers.len()) == sentence {
                *span = append(&facts[fact].sentence());
            }
        }
        if let Some(filler) = fillers.get(sentence) {
            append(filler);
        }
    }
    (input, spans)
}
