//! The sentences of the made-up documents: facts, and filler that shares no word with a fact's subject or answer.
//!
//! Every noun here is one token of both embedded tokenizers, so that the task is to find, not to spell.

use crate::data::order::Draws;

/// What a fact is about.
pub const THINGS: [&str; 16] = [
    "key", "button", "remote", "car", "pen", "device", "model", "plan", "frame", "budget", "agenda",
    "record", "figure", "signal", "product", "program",
];

/// The answers.
pub const OWNERS: [&str; 16] = [
    "cat",
    "rat",
    "elephant",
    "child",
    "student",
    "professor",
    "manager",
    "designer",
    "user",
    "person",
    "team",
    "group",
    "staff",
    "school",
    "class",
    "market",
];

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

/// A thing and its owner, as indices into [`THINGS`] and [`OWNERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    pub thing: usize,
    pub owner: usize,
}

impl Fact {
    pub fn sentence(self) -> String {
        format!("The {} is for the {}.", THINGS[self.thing], OWNERS[self.owner])
    }

    pub fn question(self) -> String {
        format!("Who is the {} for?", THINGS[self.thing])
    }

    /// F1 ignores the article; it makes the noun's token the same as in the document.
    pub fn answer(self) -> String {
        format!("The {}", OWNERS[self.owner])
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
    fn filler_says_nothing_about_a_fact() {
        let facts: HashSet<&str> = THINGS.iter().chain(&OWNERS).copied().collect();
        assert_eq!(facts.len(), THINGS.len() + OWNERS.len());
        let longest = LONGEST_FILLER.split_whitespace().count();
        let mut draws = Draws::new(1);
        for _ in 0..2000 {
            let sentence = filler(&mut draws);
            let words: Vec<&str> = sentence.trim_end_matches('.').split(' ').collect();
            assert!((5..=longest).contains(&words.len()), "{sentence}");
            assert!(words.iter().all(|word| !facts.contains(word)), "{sentence}");
        }
    }
}
