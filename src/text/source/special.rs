//! The tokens that are matched as they are written, from `tokenizer_config.json` and the files beside it.

use super::object;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a special token can be for, in the order in which transformers adds them.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// An entry of `added_tokens` in a tokenizer.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    #[serde(default)]
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

impl Token {
    pub fn new(content: &str) -> Self {
        Token {
            id: 0,
            content: content.to_string(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// The settings of a tokenizer.
pub struct Settings {
    path: PathBuf,
    values: Map<String, Value>,
    /// `added_tokens.json`: ids by content.
    added: Map<String, Value>,
}

impl Settings {
    /// Reads `tokenizer_config.json`, over which `special_tokens_map.json` has the last word unless the former lists
    /// its added tokens with their ids, as newer ones do.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("tokenizer_config.json");
        let mut values = object(&path)?;
        let mut added = Map::new();
        if !values.contains_key("added_tokens_decoder") {
            values.extend(object(&dir.join("special_tokens_map.json"))?);
            added = object(&dir.join("added_tokens.json"))?;
        }
        Ok(Settings { path, values, added })
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, &format!("{other} is neither true nor false"))),
        }
    }

    /// `offset` of Pegasus: ids that come before the pieces. Those of BigBird-Pegasus have none.
    pub fn offset(&self) -> Result<usize> {
        match self.values.get("offset").map(Value::as_u64) {
            None => Ok(0),
            Some(Some(offset)) if offset <= 1000 => Ok(offset as usize),
            Some(_) => Err(self.wrong("offset", "expected a number up to 1000")),
        }
    }

    /// The token of a role: what the files say, be it that there is none, or else `default`.
    pub fn role(&self, key: &str, default: Option<&str>) -> Result<Option<Token>> {
        match self.values.get(key) {
            None => Ok(default.map(Token::new)),
            Some(Value::Null) => Ok(None),
            Some(value) => self.token(key, value).map(Some),
        }
    }

    fn token(&self, key: &str, value: &Value) -> Result<Token> {
        match value {
            Value::String(content) => Ok(Token::new(content)),
            Value::Object(_) => {
                let mut token: Token =
                    serde_json::from_value(value.clone()).map_err(|e| self.wrong(key, &e.to_string()))?;
                token.special = true;
                Ok(token)
            }
            _ => Err(self.wrong(key, "expected a token")),
        }
    }

    fn wrong(&self, key: &str, what: &str) -> Error {
        Error::data(self.path.display(), format!("{key}: {what} (here or in special_tokens_map.json)"))
    }

    /// Every added token with its id, by id. Tokens that are no entry of `vocabulary` get the ids after it, in the
    /// order in which transformers adds them.
    pub fn added_tokens(&self, vocabulary: &Vocabulary, defaults: &[(&str, &str)]) -> Result<Vec<Token>> {
        let mut list = List { tokens: HashMap::new(), next: vocabulary.bound, vocabulary };
        for token in &vocabulary.added {
            list.put(token.clone());
        }
        if let Some(Value::Object(decoder)) = self.values.get("added_tokens_decoder") {
            for (id, value) in decoder {
                let mut token: Token = serde_json::from_value(value.clone())
                    .map_err(|e| self.wrong("added_tokens_decoder", &e.to_string()))?;
                token.id = id
                    .parse()
                    .map_err(|_| self.wrong("added_tokens_decoder", &format!("{id:?} is no id")))?;
                list.put(token);
            }
        }
        for role in ROLES {
            let default = defaults.iter().find(|(key, _)| *key == role).map(|(_, content)| *content);
            match self.role(role, default)? {
                // A default that the vocabulary does not have is another model's.
                Some(token) if self.values.contains_key(role) || list.id(&token.content).is_some() => {
                    list.add(token)
                }
                _ => {}
            }
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            if let Some(Value::Array(all)) = self.values.get(key) {
                for value in all {
                    list.add(self.token(key, value)?);
                }
            }
        }
        for (content, id) in &self.added {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| self.wrong("added_tokens.json", &format!("{content:?} has no id")))?;
            if list.id(content).is_none() {
                list.put(Token { id, special: false, normalized: true, ..Token::new(content) });
            }
        }
        let mut tokens: Vec<Token> = list.tokens.into_values().collect();
        tokens.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.content.cmp(&b.content)));
        Ok(tokens)
    }
}

/// What a tokenizer knows before any setting is read.
pub struct Vocabulary<'a> {
    pub id: &'a dyn Fn(&str) -> Option<u32>,
    /// One more than the largest id.
    pub bound: u32,
    /// Entries that are matched as they are written.
    pub added: Vec<Token>,
}

struct List<'a> {
    /// By content.
    tokens: HashMap<String, Token>,
    /// The first id that nothing has.
    next: u32,
    vocabulary: &'a Vocabulary<'a>,
}

impl List<'_> {
    fn id(&self, content: &str) -> Option<u32> {
        let known = self.tokens.get(content).map(|token| token.id);
        known.or_else(|| (self.vocabulary.id)(content))
    }

    fn add(&mut self, mut token: Token) {
        token.id = self.id(&token.content).unwrap_or(self.next);
        self.put(token);
    }

    fn put(&mut self, token: Token) {
        self.next = self.next.max(token.id.saturating_add(1));
        self.tokens.insert(token.content.clone(), token);
    }
}
