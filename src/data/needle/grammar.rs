//! The sentences of the made-up documents: facts, and filler that shares no word with a fact's subject or answer.
//!
//! Every noun here is one token of both embedded tokenizers, so that the task is to find and to copy, not to spell.

use crate::data::order::Draws;

/// What a fact is about.
pub const THINGS: [&str; 16] = [
    "key", "button", "remote", "car", "pen", "device", "model", "plan", "frame", "budget", "agenda",
    "record", "figure", "signal", "product", "program",
];

/// What an owner is called, a word of each kind: which word comes next shows in the one before, wherever in the
/// document the four stand.
const KINDS: [&str; 4] = [
    "young white strong trendy clean local cool vulnerable international original special short open \
     quick normal fair",
    "school education television marketing fashion training funding health animal design development \
     data home water price world",
    "team group class staff market project sector system room programme phase line case channel \
     scenario target",
    "cat rat elephant child student professor manager designer user person children parents members \
     people students authorities",
];

/// Owners that share no word, each one of 65,536: to be copied and not guessed.
pub fn owners(draws: &mut Draws, count: usize) -> Vec<String> {
    let kinds = KINDS.map(|kind| {
        let words: Vec<&str> = kind.split(' ').collect();
        let drawn = draws.distinct(words.len(), count);
        drawn.into_iter().map(|word| words[word]).collect::<Vec<_>>()
    });
    (0..count).map(|owner| kinds.each_ref().map(|words| words[owner]).join(" ")).collect()
}

const SUBJECTS: [&str; 4] = ["We", "They", "You", "I"];
const VERBS: [&str; 12] = [
    "talk about",
    "think about",
    "look at",
    "ask about",
    "agree on",
    "hear about",
    "read about",
    "need",
    "want",
    "follow",
    "change",
    "improve",
];
const ADJECTIVES: [&str; 12] = [
    "new",
    "big",
    "small",
    "good",
    "nice",
    "last",
    "real",
    "simple",
    "technical",
    "different",
    "clear",
    "easy",
];
const TOPICS: [&str; 15] = [
    "idea", "question", "problem", "meeting", "point", "thing", "part", "concern", "decision", "policy",
    "process", "research", "result", "interest", "issue",
];
const ADVERBS: [&str; 8] = ["again", "today", "together", "later", "now", "too", "quickly", "also"];

/// A thing, as an index into [`THINGS`], and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub thing: usize,
    pub owner: String,
}

impl Fact {
    pub fn sentence(&self) -> String {
        format!("The {} is for the {}.", THINGS[self.thing], self.owner)
    }

    pub fn question(&self) -> String {
        format!("Who is the {} for?", THINGS[self.thing])
    }

    /// F1 ignores the article; it makes the first word's tokens the same as in the document.
    pub fn answer(&self) -> String {
        format!("The {}", self.owner)
    }
}

/// What is asked where every fact is the answer.
pub const SUMMARY_QUESTION: &str = "Say who gets what.";

/// No sentence of [`filler`] has more words.
pub const LONGEST_FILLER: &str = " We think about the technical research quickly.";

/// A sentence without a fact, of five to seven words.
pub fn filler(draws: &mut Draws) -> String {
    let (topic, adjective) = (draws.pick(&TOPICS), draws.pick(&ADJECTIVES));
    let adverb = draws.pick(&ADVERBS);
    match draws.below(4) {
        0 => format!("The {topic} was {adjective} {adverb}."),
        _ => {
            let (subject, verb) = (draws.pick(&SUBJECTS), draws.pick(&VERBS));
            format!("{subject} {verb} the {adjective} {topic} {adverb}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_of_facts_stand_nowhere_else() {
        let all = || KINDS.iter().flat_map(|kind| kind.split(' ')).chain(THINGS);
        let words: HashSet<&str> = all().collect();
        assert_eq!(words.len(), all().count());
        let longest = LONGEST_FILLER.split_whitespace().count();
        let mut draws = Draws::new(1);
        for _ in 0..2000 {
            let sentence = filler(&mut draws);
            let said: Vec<&str> = sentence.trim_end_matches('.').split(' ').collect();
            assert!((5..=longest).contains(&said.len()), "{sentence}");
            assert!(said.iter().all(|word| !words.contains(word)), "{sentence}");
        }
    }

    #[test]
    fn owners_of_a_document_have_a_word_of_each_kind_and_share_none() {
        let owners = owners(&mut Draws::new(1), THINGS.len());
        for (kind, words) in KINDS.iter().enumerate() {
            let called: HashSet<&str> =
                owners.iter().map(|owner| owner.split(' ').nth(kind).unwrap()).collect();
            assert_eq!(called, words.split(' ').collect());
        }
        assert!(owners.iter().all(|owner| owner.split(' ').count() == KINDS.len()));
    }
}
