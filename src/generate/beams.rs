//! Beam search over one input, step for step as HF's `_beam_search` of transformers 5.17.

use super::candidates::Candidates;
use super::sampling::priority;
use super::stop::Ends;
use super::{EarlyStopping, GenerateOptions, Search};

/// Below every score: what a beam that does not exist, or an answer that may not win, has.
const NEVER: f32 = -1e9;

/// A text and the sum of its log-probabilities.
#[derive(Clone)]
struct Beam {
    text: Vec<i32>,
    score: f32,
}

/// An answer, or an empty place for one.
#[derive(Clone)]
struct Answer {
    text: Vec<i32>,
    /// The sum of log-probabilities over length^penalty.
    score: f32,
    finished: bool,
}

/// One more token of an open beam, with the sum of all log-probabilities.
struct Continuation {
    row: usize,
    token: i32,
    score: f32,
}

/// The open beams and the finished answers of one input, `num_beams` each, best first.
pub struct Beams {
    options: GenerateOptions,
    ends: Ends,
    /// Number of the input in its batch.
    input: usize,
    running: Vec<Beam>,
    answers: Vec<Answer>,
    /// Whether an open beam may still become a better answer.
    hopeful: bool,
}

impl Beams {
    pub fn new(options: &GenerateOptions, ends: &Ends, input: usize) -> Self {
        let text = vec![options.decoder_start_token_id];
        // All beams begin alike: only the first continues, or its tokens would be chosen `num_beams` times.
        let mut running = vec![Beam { text: text.clone(), score: NEVER }; options.num_beams];
        running[0].score = 0.0;
        let answers = vec![Answer { text, score: NEVER, finished: false }; options.num_beams];
        Beams { options: options.clone(), ends: ends.clone(), input, running, answers, hopeful: true }
    }

    fn full(&self) -> bool {
        self.answers.iter().all(|answer| answer.finished)
    }

    /// Continuations, as many as a step looks at: the best, best first, or drawn ones in the order of their draws.
    fn continuations(&self, candidates: &[Candidates]) -> Vec<Continuation> {
        let all = candidates.iter().zip(&self.running).enumerate().flat_map(|(row, (tokens, beam))| {
            tokens.iter().map(move |&(token, value)| Continuation { row, token, score: beam.score + value })
        });
        let mut all: Vec<_> = match self.options.do_sample {
            false => all.map(|at| (f64::from(at.score), at)).collect(),
            true => all.map(|at| (self.priority(&at), at)).collect(),
        };
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(self.wanted());
        all.into_iter().map(|(_, at)| at).collect()
    }

    fn priority(&self, at: &Continuation) -> f64 {
        let row = self.options.first_row + self.input as u64;
        priority(at.score, &self.options, row, self.running[0].text.len(), [at.row, at.token as usize])
    }

    /// Takes texts that ended into the answers, where they are better.
    fn finish(&mut self, ended: impl Iterator<Item = (Vec<i32>, f32)>) {
        let closed = !self.hopeful || (self.full() && self.options.early_stopping == EarlyStopping::Yes);
        if closed {
            return;
        }
        self.answers.extend(ended.map(|(text, score)| Answer { text, score, finished: true }));
        self.answers.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.answers.truncate(self.options.num_beams);
    }

    /// `length`^penalty.
    fn penalty(&self, length: usize) -> f32 {
        (length as f64).powf(self.options.length_penalty) as f32
    }

    /// Whether the best open beam of `length` tokens could, as the setting estimates it, still be an answer.
    fn may_improve(&self, length: usize) -> bool {
        let never = self.options.early_stopping == EarlyStopping::Never;
        let length = match never && self.options.length_penalty > 0.0 {
            true => self.options.max_new_tokens,
            false => length,
        };
        let best = self.running[0].score / self.penalty(length);
        let worst = self.answers.iter().map(|answer| answer.score).fold(f32::INFINITY, f32::min);
        let bar = |answer: &Answer| if answer.finished { worst } else { NEVER };
        self.answers.iter().any(|answer| best > bar(answer))
    }
}

impl Search for Beams {
    fn open(&self) -> Vec<(usize, &[i32])> {
        self.running.iter().map(|beam| &beam.text[..]).enumerate().collect()
    }

    /// Enough that `num_beams` are left when every beam's best tokens end it.
    fn wanted(&self) -> usize {
        2.max(1 + self.ends.tokens()) * self.options.num_beams
    }

    fn advance(&mut self, candidates: Vec<Candidates>, is_last: bool) -> Vec<(usize, i32)> {
        let beams = self.options.num_beams;
        // Tokens after the start token, the new one included.
        let length = self.running[0].text.len();
        let penalty = self.penalty(length);
        let continued = |at: Continuation| {
            let mut text = self.running[at.row].text.clone();
            text.push(at.token);
            let ends = is_last || self.ends.end(&text);
            (at, text, ends)
        };
        let continuations: Vec<_> = self.continuations(&candidates).into_iter().map(continued).collect();
        // Only those among the first may end: the others are there so that enough remain.
        let ended: Vec<(Vec<i32>, f32)> = continuations
            .iter()
            .take(beams)
            .filter(|(_, _, ends)| *ends)
            .map(|(at, text, _)| (text.clone(), at.score / penalty))
            .collect();
        let over = continuations.iter().all(|(_, _, ends)| *ends);
        let mut next: Vec<(usize, i32, Beam)> = continuations
            .into_iter()
            .map(|(at, text, ends)| {
                let score = if ends { at.score + NEVER } else { at.score };
                (at.row, at.token, Beam { text, score })
            })
            .collect();
        next.sort_by(|a, b| b.2.score.total_cmp(&a.2.score));
        next.truncate(beams);
        self.finish(ended.into_iter());
        let chosen = next.iter().map(|(row, token, _)| (*row, *token)).collect();
        self.running = next.into_iter().map(|(_, _, beam)| beam).collect();
        self.hopeful &= self.may_improve(length);
        if over || !self.hopeful || (self.full() && self.options.early_stopping == EarlyStopping::Yes) {
            return Vec::new();
        }
        chosen
    }

    fn answers(self: Box<Self>) -> Vec<Vec<i32>> {
        let texts = self.answers.into_iter().map(|answer| answer.text);
        texts.take(self.options.num_return_sequences).collect()
    }
}
