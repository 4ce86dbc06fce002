//! Beam search over one input, step for step as HF's `_beam_search` of transformers 5.17.

use super::{Candidates, EarlyStopping, GenerateOptions, Search};

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

/// The open beams and the finished answers of one input, `num_beams` each, best first.
pub struct Beams {
    options: GenerateOptions,
    running: Vec<Beam>,
    answers: Vec<Answer>,
    /// Whether an open beam may still become a better answer.
    hopeful: bool,
}

impl Beams {
    pub fn new(options: &GenerateOptions) -> Self {
        let text = vec![options.start];
        // All beams begin alike: only the first may go on, or its tokens would come `num_beams` times.
        let mut running = vec![Beam { text: text.clone(), score: NEVER }; options.num_beams];
        running[0].score = 0.0;
        let answers = vec![Answer { text, score: NEVER, finished: false }; options.num_beams];
        Beams { options: options.clone(), running, answers, hopeful: true }
    }

    fn full(&self) -> bool {
        self.answers.iter().all(|answer| answer.finished)
    }

    /// Every way to go on, the best first, as many as a step looks at: (row, token, sum).
    fn continuations(&self, candidates: &[Candidates]) -> Vec<(usize, i32, f32)> {
        let sums = candidates.iter().zip(&self.running).enumerate().flat_map(|(row, (tokens, beam))| {
            tokens.iter().map(move |&(token, value)| (row, token, beam.score + value))
        });
        let mut all: Vec<_> = sums.collect();
        all.sort_by(|a, b| b.2.total_cmp(&a.2));
        all.truncate(self.wanted());
        all
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
    fn open(&self) -> Vec<&[i32]> {
        self.running.iter().map(|beam| &beam.text[..]).collect()
    }

    /// Enough that `num_beams` are left when every beam's best tokens end it.
    fn wanted(&self) -> usize {
        2.max(1 + self.options.eos.len()) * self.options.num_beams
    }

    fn advance(&mut self, candidates: Vec<Candidates>) -> Vec<(usize, i32)> {
        let beams = self.options.num_beams;
        let continuations = self.continuations(&candidates);
        // Tokens after the start token, the new one included.
        let length = self.running[0].text.len();
        let at_end = length == self.options.max_new_tokens;
        let ends = |token: i32| at_end || self.options.eos.contains(&token);
        let penalty = self.penalty(length);
        let text = |&(row, token, _): &(usize, i32, f32)| {
            let mut text = self.running[row].text.clone();
            text.push(token);
            text
        };
        // Only those among the best may end: the others are there so that enough remain.
        let ended: Vec<(Vec<i32>, f32)> = continuations
            .iter()
            .take(beams)
            .filter(|(_, token, _)| ends(*token))
            .map(|at| (text(at), at.2 / penalty))
            .collect();
        let mut next: Vec<(usize, i32, f32)> = continuations
            .iter()
            .map(|&(row, token, sum)| (row, token, if ends(token) { sum + NEVER } else { sum }))
            .collect();
        next.sort_by(|a, b| b.2.total_cmp(&a.2));
        next.truncate(beams);
        let running = next.iter().map(|at| Beam { text: text(at), score: at.2 }).collect();
        let over = continuations.iter().all(|(_, token, _)| ends(*token));
        self.finish(ended.into_iter());
        self.running = running;
        self.hopeful &= self.may_improve(length);
        if over || !self.hopeful || (self.full() && self.options.early_stopping == EarlyStopping::Yes) {
            return Vec::new();
        }
        next.into_iter().map(|(row, token, _)| (row, token)).collect()
    }

    fn answers(self: Box<Self>) -> Vec<Vec<i32>> {
        let texts = self.answers.into_iter().map(|answer| answer.text);
        texts.take(self.options.num_return_sequences).collect()
    }
}
