//! Which tokens of an input attend to, and are seen by, all others, in a model that has global attention.

use crate::data::Example;
use crate::error::{Error, Result};
use crate::models::ModelLimits;
use crate::text::Tokenizer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// The rule; every one but `none` takes the first token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GlobalAttention {
    /// `auto`: as PRIMERA where the tokenizer has a token that separates documents, else `first`.
    #[default]
    Auto,
    /// `first`, as the paper and the SCROLLS baseline.
    First,
    /// `none`.
    None,
    /// `question`: the tokens before the first blank line, which in SCROLLS is the question.
    Question,
    /// `tokens:NAME`: every token of that name.
    Tokens(String),
    /// `every:N`: every N-th token.
    Every(NonZeroUsize),
}

/// PRIMERA's token between documents (Xiao et al. 2022, arXiv 2110.08499).
const DOCUMENT_SEPARATOR: &str = "<doc-sep>";

impl GlobalAttention {
    /// The values that it may have.
    pub const FORMS: &'static str = "auto, first, none, question, tokens:NAME or every:N";

    /// The rule that is meant with this tokenizer.
    pub fn resolved(self, tokenizer: &Tokenizer) -> Self {
        match (self, tokenizer.id(DOCUMENT_SEPARATOR)) {
            (GlobalAttention::Auto, Some(_)) => GlobalAttention::Tokens(DOCUMENT_SEPARATOR.into()),
            (GlobalAttention::Auto, None) => GlobalAttention::First,
            (rule, _) => rule,
        }
    }

    /// What to say where a rule was asked for that a model of `limits` has no use for.
    pub fn idle(&self, limits: &ModelLimits) -> Option<String> {
        let by_default =
            matches!(self, GlobalAttention::Auto | GlobalAttention::First | GlobalAttention::None);
        (!by_default && !limits.has_global_attention)
            .then(|| format!("the global attention {self} changes nothing: this model has none"))
    }
}

impl fmt::Display for GlobalAttention {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            GlobalAttention::Auto => f.write_str("auto"),
            GlobalAttention::First => f.write_str("first"),
            GlobalAttention::None => f.write_str("none"),
            GlobalAttention::Question => f.write_str("question"),
            GlobalAttention::Tokens(name) => write!(f, "tokens:{name}"),
            GlobalAttention::Every(n) => write!(f, "every:{n}"),
        }
    }
}

impl FromStr for GlobalAttention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refusal = || format!("it may be {}", GlobalAttention::FORMS);
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(GlobalAttention::Auto),
                "first" => Ok(GlobalAttention::First),
                "none" => Ok(GlobalAttention::None),
                "question" => Ok(GlobalAttention::Question),
                _ => Err(refusal()),
            },
            Some(("tokens", name)) if !name.is_empty() => Ok(GlobalAttention::Tokens(name.into())),
            Some(("every", n)) => n.parse().map(GlobalAttention::Every).map_err(|_| refusal()),
            Some(_) => Err(refusal()),
        }
    }
}

impl Serialize for GlobalAttention {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GlobalAttention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The global tokens of the examples of a corpus.
#[derive(Debug, Clone, PartialEq)]
pub enum GlobalTokens {
    None,
    First,
    /// So many from the start of each example.
    Leading(Vec<usize>),
    /// The first, and those of this id.
    Named(u32),
    Every(usize),
}

impl GlobalTokens {
    /// Those of `examples`, each cut to `length` tokens, under a rule that is resolved.
    ///
    /// Fails where the tokenizer has no token of the name.
    pub fn of(
        rule: &GlobalAttention,
        tokenizer: &Tokenizer,
        examples: &[Example],
        length: usize,
    ) -> Result<Self> {
        Ok(match rule {
            GlobalAttention::None => GlobalTokens::None,
            GlobalAttention::Auto | GlobalAttention::First => GlobalTokens::First,
            GlobalAttention::Question => {
                let questions: Vec<&str> = examples.iter().map(|example| question(&example.input)).collect();
                let tokens = tokenizer.encode_batch(&questions, length)?;
                // What closes a text does not close the question in it.
                let count = |ids: &Vec<u32>| (ids.len() - tokenizer.closing_tokens()).max(1);
                GlobalTokens::Leading(tokens.iter().map(count).collect())
            }
            GlobalAttention::Tokens(name) => match tokenizer.id(name) {
                Some(id) => GlobalTokens::Named(id),
                None => {
                    let what = format!(
                        "the global attention {rule} is of a token that the tokenizer does not have; name one of its \
                         tokens, or choose first"
                    );
                    return Err(Error::usage(what));
                }
            },
            GlobalAttention::Every(n) => GlobalTokens::Every(n.get()),
        })
    }

    /// Those of a rule where texts are not known: at least as many as there will be of `first` and `every:N`.
    pub fn without_texts(rule: &GlobalAttention) -> Self {
        match rule {
            GlobalAttention::None => GlobalTokens::None,
            GlobalAttention::Every(n) => GlobalTokens::Every(n.get()),
            _ => GlobalTokens::First,
        }
    }

    /// How many there are in example `which`, whose tokens are `input`.
    pub fn count(&self, which: usize, input: &[u32]) -> usize {
        let tokens = input.len();
        match self {
            GlobalTokens::None => 0,
            GlobalTokens::First => tokens.min(1),
            GlobalTokens::Leading(counts) => counts[which].min(tokens),
            GlobalTokens::Named(_) => (0..tokens).filter(|&at| self.holds(which, input, at)).count(),
            GlobalTokens::Every(n) => tokens.div_ceil(*n),
        }
    }

    /// Whether the token at `position` of example `which`, whose tokens are `input`, is global.
    pub fn holds(&self, which: usize, input: &[u32], position: usize) -> bool {
        match self {
            GlobalTokens::None => false,
            GlobalTokens::First => position == 0,
            GlobalTokens::Leading(counts) => position < counts[which].min(input.len()),
            GlobalTokens::Named(id) => position == 0 || input.get(position) == Some(id),
            GlobalTokens::Every(n) => position.is_multiple_of(*n) && position < input.len(),
        }
    }
}

/// What stands before the first blank line of a text; nothing where it has none.
fn question(text: &str) -> &str {
    let (mut end, mut begun) = (0, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        if blank && begun {
            return text[..end].trim_end();
        }
        begun |= !blank;
        end += line.len();
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["auto", "first", "none", "question", "tokens:<doc-sep>", "tokens:a:b", "every:64"] {
            let rule: GlobalAttention = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
            assert_eq!(serde_json::to_value(&rule).unwrap(), text);
            assert_eq!(serde_json::from_value::<GlobalAttention>(text.into()).unwrap(), rule);
        }
        for text in ["all", "", "tokens:", "tokens", "every:0", "every:x", "every:-1"] {
            let refusal = text.parse::<GlobalAttention>().unwrap_err();
            assert!(refusal.contains("tokens:NAME"), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_question_ends_at_the_first_blank_line() {
        for (text, want) in [
            ("Who? \n\nThe meeting.\n\nMore.", "Who?"),
            ("Two\nlines?\r\n\r\nText", "Two\nlines?"),
            ("No blank line\nhere", ""),
            ("\n\nWho?\n \nText", "\n\nWho?"),
            ("", ""),
        ] {
            assert_eq!(question(text), want, "{text:?}");
        }
    }
}
