//! A token that is matched as it is written, in the forms that files give it.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

/// A token as a file gives it: its text alone, or an object with flags.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Token {
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    /// Without a word, what is special is not normalised.
    #[serde(default)]
    pub normalized: Option<bool>,
    #[serde(default)]
    pub special: bool,
    /// Whether the file gives its text alone. Two entries are one only in the same form.
    #[serde(skip)]
    pub bare: bool,
}

impl Token {
    pub fn new(content: &str) -> Self {
        Token {
            content: content.to_string(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: false,
            bare: true,
        }
    }

    /// Fails with what is wrong with a value that is neither a text nor an object with `content`.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(content) => Ok(Token::new(content)),
            Value::Object(_) => Deserialize::deserialize(value).map_err(|e: serde_json::Error| e.to_string()),
            other => Err(format!("expected a token and found {other}")),
        }
    }

    /// The entry of a tokenizer; every token with a role is special.
    pub fn added(&self, has_role: bool) -> AddedToken {
        let special = self.bare || self.special || has_role;
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!special),
            special,
        }
    }
}
