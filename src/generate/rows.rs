//! Answers that grow by one token a step, taken or drawn, each by itself.

use super::sampling::draw;
use super::{Candidates, GenerateOptions, Search};

/// The answers of one input; greedy decoding has one.
pub struct Rows {
    options: GenerateOptions,
    vocab: usize,
    /// Number of the input in its batch.
    input: usize,
    texts: Vec<Vec<i32>>,
    /// Which texts have not ended, ascending.
    open: Vec<usize>,
}

impl Rows {
    pub fn new(options: &GenerateOptions, vocab: usize, input: usize) -> Self {
        let count = options.rows();
        let texts = vec![vec![options.start]; count];
        Rows { options: options.clone(), vocab, input, texts, open: (0..count).collect() }
    }

    fn choose(&self, text: usize, candidates: &Candidates) -> i32 {
        match &self.options.sampling {
            Some(sampling) => {
                let row = sampling.first_row + self.input as u64;
                let place = [self.texts[text].len() as u64, text as u64];
                draw(candidates, sampling, row, place)
            }
            None => candidates.first().map_or(self.options.pad, |(token, _)| *token),
        }
    }
}

impl Search for Rows {
    fn open(&self) -> Vec<&[i32]> {
        self.open.iter().map(|&text| &self.texts[text][..]).collect()
    }

    fn wanted(&self) -> usize {
        match self.options.sampling.map(|sampling| sampling.top_k) {
            None => 1,
            Some(0) => self.vocab,
            Some(top_k) => top_k.min(self.vocab),
        }
    }

    fn advance(&mut self, candidates: Vec<Candidates>) -> Vec<(usize, i32)> {
        let mut next = Vec::with_capacity(self.open.len());
        let mut open = Vec::with_capacity(self.open.len());
        for (row, candidates) in candidates.iter().enumerate() {
            let text = self.open[row];
            let token = self.choose(text, candidates);
            self.texts[text].push(token);
            if !self.options.eos.contains(&token) {
                open.push(text);
                next.push((row, token));
            }
        }
        self.open = open;
        next
    }

    fn answers(self: Box<Self>) -> Vec<Vec<i32>> {
        self.texts
    }
}
