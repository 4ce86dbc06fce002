//! Token F1 between two short texts (Rajpurkar et al. 2016, SQuAD).

use super::Measure;
use std::collections::HashMap;

/// The SQuAD normaliser: lowercase, no ASCII punctuation, no articles, single spaces.
pub fn normalise(text: &str) -> String {
    let lower = text.to_lowercase();
    let bare: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut spaced = String::with_capacity(bare.len());
    let mut rest = bare.as_str();
    // An article is a whole run of word characters, so "the—a" holds two and "them" none.
    while let Some(first) = rest.chars().next() {
        let word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != word).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        spaced.push_str(match run {
            "a" | "an" | "the" => " ",
            other => other,
        });
        rest = tail;
    }
    let words: Vec<&str> = spaced.split(is_python_space).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// Python's `str.split()` also splits at the four ASCII separators that Unicode does not call space.
fn is_python_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// The two bags of normalised words. Without a common word all is 0, also when both are empty.
pub fn score(prediction: &str, reference: &str) -> Measure {
    let prediction = normalise(prediction);
    let reference = normalise(reference);
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).count();
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in reference.split(' ').filter(|word| !word.is_empty()) {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0usize;
    for word in prediction.split(' ') {
        if let Some(count) = left.get_mut(word)
            && *count > 0
        {
            *count -= 1;
            common += 1;
        }
    }
    Measure::of(common, words(&prediction), words(&reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_like_squad() {
        assert_eq!(normalise("The  Cat's a\tmat, an END."), "cats mat end");
        assert_eq!(normalise("them a\u{2014}the anew"), "them \u{2014} anew");
        assert_eq!(normalise("a_the"), "athe");
        assert_eq!(normalise("x\u{a0}y\x1cz"), "x y z");
        assert_eq!(normalise("... the ..."), "");
    }

    #[test]
    fn counts_each_common_word_once() {
        // 2 common words of 3 predicted and 4 expected.
        let expected = 2.0 * (2.0 / 3.0) * (2.0 / 4.0) / (2.0 / 3.0 + 2.0 / 4.0);
        assert!((score("x x y", "x y z w").f - expected).abs() < 1e-12);
        assert_eq!(score("yes", "Yes.").f, 1.0);
    }

    #[test]
    fn nothing_in_common_is_zero() {
        assert_eq!(score("", "").f, 0.0);
        assert_eq!(score("the", "a").f, 0.0);
        assert_eq!(score("x", "").f, 0.0);
    }
}
