//! ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), equal to rouge_score 0.1.2 without its stemmer.

use super::Measure;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    pub rouge1: Measure,
    pub rouge2: Measure,
    /// Longest common subsequence over the whole text, not sentence by sentence.
    pub rouge_l: Measure,
}

/// A prediction against one reference.
pub fn score(prediction: &str, reference: &str) -> Rouge {
    let (prediction, reference) = (prediction.to_lowercase(), reference.to_lowercase());
    let mut ids = HashMap::new();
    let prediction = intern(&prediction, &mut ids);
    let reference = intern(&reference, &mut ids);
    Rouge {
        rouge1: overlap(prediction.iter().copied(), reference.iter().copied()),
        rouge2: overlap(bigrams(&prediction), bigrams(&reference)),
        rouge_l: Measure::of(lcs_length(&prediction, &reference), prediction.len(), reference.len()),
    }
}

/// Tokens are the runs of a-z and 0-9, so an accented letter splits a word; equal tokens get equal ids.
fn intern<'t>(lower: &'t str, ids: &mut HashMap<&'t str, u32>) -> Vec<u32> {
    lower
        .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
        .filter(|token| !token.is_empty())
        .map(|token| {
            let next = ids.len() as u32;
            *ids.entry(token).or_insert(next)
        })
        .collect()
}

fn bigrams(tokens: &[u32]) -> impl ExactSizeIterator<Item = (u32, u32)> {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Two bags with clipped counts.
fn overlap<T: std::hash::Hash + Eq>(
    prediction: impl ExactSizeIterator<Item = T>,
    reference: impl ExactSizeIterator<Item = T>,
) -> Measure {
    let (predicted, expected) = (prediction.len(), reference.len());
    let mut left: HashMap<T, usize> = HashMap::new();
    for item in reference {
        *left.entry(item).or_default() += 1;
    }
    let mut common = 0;
    for item in prediction {
        if let Some(count) = left.get_mut(&item)
            && *count > 0
        {
            *count -= 1;
            common += 1;
        }
    }
    Measure::of(common, predicted, expected)
}

/// Length of the longest common subsequence, 64 table columns per word (Hyyrö 2004).
///
/// A zero bit at column j says that the row's length grows there, so the zeros count the length.
fn lcs_length(a: &[u32], b: &[u32]) -> usize {
    let words = a.len().div_ceil(64);
    let mut positions: HashMap<u32, Vec<u64>> = HashMap::new();
    for (j, &token) in a.iter().enumerate() {
        positions.entry(token).or_insert_with(|| vec![0; words])[j / 64] |= 1 << (j % 64);
    }
    let mut row = vec![u64::MAX; words];
    for token in b {
        let Some(matches) = positions.get(token) else {
            continue;
        };
        let mut carry = false;
        for (columns, matched) in row.iter_mut().zip(matches) {
            let hits = *columns & matched;
            let (sum, first) = columns.overflowing_add(hits);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *columns = sum | (*columns & !matched);
        }
    }
    // The unused columns of the last word match nothing and stay ones.
    row.iter().map(|columns| columns.count_zeros() as usize).sum()
}

/// What a word list becomes when it passes through Python's `repr`: characters that do not print turn
/// into escapes, and ROUGE then reads those as tokens. The study of Ang et al. 2022 scores such lists.
pub fn escape_unprintable(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let code = u32::from(c);
        match code {
            _ if !is_unprintable(c) => escaped.push(c),
            0..=0xff => escaped.push_str(&format!("\\x{code:02x}")),
            0x100..=0xffff => escaped.push_str(&format!("\\u{code:04x}")),
            _ => escaped.push_str(&format!("\\U{code:08x}")),
        }
    }
    escaped
}

/// Control, format and private-use characters (Unicode categories Cc, Cf, Co).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{13438}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{ffffd}'
            | '\u{100000}'..='\u{10fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook table, row by row.
    fn lcs_table(a: &[u32], b: &[u32]) -> usize {
        let mut row = vec![0usize; b.len() + 1];
        for x in a {
            let mut diagonal = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
                diagonal = above;
            }
        }
        row[b.len()]
    }

    #[test]
    fn bit_parallel_lcs_equals_the_table() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for alphabet in [1, 2, 5, 40] {
            for length in [0, 1, 63, 64, 65, 128, 200] {
                let a: Vec<u32> = (0..length).map(|_| draw(alphabet) as u32).collect();
                let longer = length + draw(70);
                let b: Vec<u32> = (0..longer).map(|_| draw(alphabet) as u32).collect();
                assert_eq!(lcs_length(&a, &b), lcs_table(&a, &b), "{alphabet} {length}");
                assert_eq!(lcs_length(&b, &a), lcs_table(&a, &b), "{alphabet} {length}");
            }
        }
    }

    #[test]
    fn counts_are_clipped() {
        let found = score("the the the", "the cat");
        // 1 common word of 3 and 2.
        assert!((found.rouge1.f - 0.4).abs() < 1e-12);
        assert_eq!((found.rouge1.precision, found.rouge1.recall), (1.0 / 3.0, 0.5));
        assert_eq!(found.rouge2.f, 0.0);
        assert!((found.rouge_l.f - 0.4).abs() < 1e-12);
    }

    #[test]
    fn one_word_has_no_bigram_and_empty_text_scores_zero() {
        assert_eq!(score("a", "A.").rouge1.f, 1.0);
        assert_eq!(score("a", "a").rouge2.f, 0.0);
        assert_eq!(score("", "a b"), Rouge::default());
        assert_eq!(score("...", ""), Rouge::default());
    }

    #[test]
    fn accented_letters_split_words() {
        // "café" is the token "caf", "naïve" the tokens "na" and "ve".
        assert_eq!(score("café naïve", "caf na ve").rouge_l.f, 1.0);
    }

    #[test]
    fn unprintable_characters_become_escapes() {
        assert_eq!(escape_unprintable("a\u{200b}b\u{ad}é"), "a\\u200bb\\xadé");
        assert_eq!(escape_unprintable("\u{e0001}"), "\\U000e0001");
    }
}
