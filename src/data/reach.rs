//! What part of its answers an input still holds when it is cut to a length: the accuracy that a perfect reader has.

use super::Record;
use crate::error::Result;
use crate::text::Tokenizer;
use rayon::prelude::*;

/// For each record, how many of its first tokens, special ones included, hold each of its needles whole.
///
/// An input cut to that many tokens or more shows the needle; one cut shorter does not.
pub fn tokens_needed(tokenizer: &Tokenizer, records: &[Record]) -> Result<Vec<Vec<usize>>> {
    let needed = |record: &Record| {
        let to = |&[_, end]: &[usize; 2]| {
            Ok(tokenizer.encode(record.input.get(..end).unwrap_or(&record.input), usize::MAX)?.len())
        };
        record.needles.iter().map(to).collect()
    };
    records.par_iter().map(needed).collect()
}

/// Mean over the records with needles of the share of needles in the first `length` tokens; None without such records.
pub fn share_within(needed: &[Vec<usize>], length: usize) -> Option<f64> {
    let shares: Vec<f64> = needed
        .iter()
        .filter(|needles| !needles.is_empty())
        .map(|needles| {
            needles.iter().filter(|&&tokens| tokens <= length).count() as f64 / needles.len() as f64
        })
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_means_over_records_with_needles() {
        let needed = [vec![10], vec![20, 40], vec![], vec![41]];
        assert_eq!(share_within(&needed, 9), Some(0.0));
        assert_eq!(share_within(&needed, 20), Some(0.5));
        assert_eq!(share_within(&needed, 41), Some(1.0));
        assert_eq!(share_within(&[vec![]], 41), None);
    }
}
