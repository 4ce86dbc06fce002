//! Answers that grow by one token a step, taken or drawn, each by itself.

use super::candidates::Candidates;
use super::sampling::draw;
use super::stop::Ends;
use super::{GenerateOptions, Search};

/// The answers of one input; greedy decoding has one.
pub struct Rows {
    options: GenerateOptions,
    ends: Ends,
    /// Number of the input in its batch.
    input: usize,
    texts: Vec<Vec<i32>>,
    /// Which texts have not ended, ascending.
    open: Vec<usize>,
}

impl Rows {
    pub fn new(options: &GenerateOptions, ends: &Ends, input: usize) -> Self {
        let count = options.rows();
        let texts = vec![vec![options.decoder_start_token_id]; count];
        Rows { options: options.clone(), ends: ends.clone(), input, texts, open: (0..count).collect() }
    }

    fn choose(&self, text: usize, candidates: &Candidates) -> i32 {
        if self.options.do_sample {
            let row = self.options.first_row + self.input as u64;
            return draw(candidates, &self.options, row, [self.texts[text].len() as u64, text as u64]);
        }
        candidates.first().map_or(self.options.pad_token_id, |(token, _)| *token)
    }
}

impl Search for Rows {
    fn open(&self) -> Vec<(usize, &[i32])> {
        self.open.iter().map(|&text| (text, &self.texts[text][..])).collect()
    }

    fn wanted(&self) -> usize {
        1
    }

    fn advance(&mut self, candidates: Vec<Candidates>, is_last: bool) -> Vec<(usize, i32)> {
        let mut next = Vec::with_capacity(self.open.len());
        let mut open = Vec::with_capacity(self.open.len());
        for (row, candidates) in candidates.iter().enumerate() {
            let text = self.open[row];
            let token = self.choose(text, candidates);
            self.texts[text].push(token);
            if !is_last && !self.ends.end(&self.texts[text]) {
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
