//! What the files beside a tokenizer say of it, merged as transformers merges them.

use super::object;
use super::token::Token;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The roles of special tokens, in the order in which transformers adds them.
pub const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The parts of a `tokenizer.json` that settings are merged with.
#[derive(Default, Deserialize)]
pub struct Head {
    #[serde(default)]
    pub added_tokens: Vec<Value>,
    #[serde(default)]
    pub truncation: Value,
    #[serde(default)]
    pub padding: Value,
}

/// The merged settings of a tokenizer.
pub struct Settings {
    dir: PathBuf,
    /// `tokenizer_config.json`, overlaid by `special_tokens_map.json`.
    values: Map<String, Value>,
    /// Keys that `special_tokens_map.json` gave.
    mapped: Vec<String>,
    /// Tokens to add, by the id under which a file lists them.
    pub listed: BTreeMap<u64, Token>,
    /// Special tokens whose roles only this model has.
    own: Map<String, Value>,
    /// Keeps the end of a text that is too long.
    pub cut_left: bool,
}

impl Settings {
    /// Reads the files of `dir`; `head` is of its `tokenizer.json`, if it has one.
    ///
    /// A `tokenizer_config.json` that lists its added tokens, as newer ones do, has the last word. Otherwise
    /// `special_tokens_map.json`, `added_tokens.json` and the tokens of `tokenizer.json` come over it, in this order.
    pub fn read(dir: &Path, head: Option<&Head>) -> Result<Self> {
        let values = object(&dir.join("tokenizer_config.json"))?;
        let mut settings = Settings {
            dir: dir.to_path_buf(),
            values,
            mapped: Vec::new(),
            listed: BTreeMap::new(),
            own: Map::new(),
            cut_left: false,
        };
        settings.take_own();
        match settings.values.get("added_tokens_decoder") {
            Some(Value::Object(decoder)) => {
                for (id, value) in decoder.clone() {
                    settings.list("added_tokens_decoder", &id, &value)?;
                }
            }
            _ => settings.merge_older(head)?,
        }
        if let Some(Value::String(pad)) = head.map(|head| &head.padding["pad_token"]) {
            settings.values.entry("pad_token").or_insert(Value::from(pad.as_str()));
        }
        settings.cut_left = match settings.values.get("truncation_side").and_then(Value::as_str) {
            Some("left") => true,
            Some("right") => false,
            Some(_) => return Err(settings.wrong("truncation_side", "neither \"left\" nor \"right\"")),
            None => head.is_some_and(|head| head.truncation["direction"] == "Left"),
        };
        Ok(settings)
    }

    /// Older names of lists, and roles that only this model has.
    fn take_own(&mut self) {
        if let Some(additional) = self.values.shift_remove("additional_special_tokens") {
            self.values.entry("extra_special_tokens").or_insert(additional);
        }
        let is_own = |key: &str| key.ends_with("_token") && !ROLES.contains(&key);
        let own: Vec<String> =
            self.values.iter().filter(|(k, v)| is_own(k) && v.is_string()).map(|(k, _)| k.clone()).collect();
        for key in own {
            self.own.extend(self.values.shift_remove(&key).map(|value| (key, value)));
        }
        self.take_extra_roles();
    }

    /// `extra_special_tokens` as an object are roles, too.
    fn take_extra_roles(&mut self) {
        if let Some(Value::Object(named)) = self.values.get("extra_special_tokens").cloned() {
            self.values.shift_remove("extra_special_tokens");
            self.own.extend(named);
        }
    }

    fn merge_older(&mut self, head: Option<&Head>) -> Result<()> {
        for (key, mut value) in object(&self.dir.join("special_tokens_map.json"))? {
            if let (true, Value::Object(token)) = (key != "extra_special_tokens", &mut value) {
                token.insert("special".into(), true.into());
            }
            if let ("extra_special_tokens", Value::Array(more)) = (key.as_str(), &mut value)
                && let Some(Value::Array(known)) = self.values.get(&key)
            {
                more.retain(|token| !known.contains(token));
                more.splice(0..0, known.iter().cloned());
            }
            self.mapped.push(key.clone());
            self.values.insert(key, value);
        }
        self.take_extra_roles();

        let added = object(&self.dir.join("added_tokens.json"))?;
        let mut special = Vec::new();
        for role in ROLES {
            special.extend(self.named(role)?.map(|token| token.content));
        }
        special
            .extend(self.list_of("extra_special_tokens")?.unwrap_or_default().into_iter().map(|t| t.content));
        for (content, id) in &added {
            let Some(id) = id.as_u64() else {
                let path = self.dir.join("added_tokens.json");
                return Err(Error::data(
                    path.display(),
                    format!("{content:?} has the id {id}; ids are whole numbers from 0"),
                ));
            };
            let special = special.contains(content);
            let token = Token { normalized: Some(!special), special, bare: false, ..Token::new(content) };
            self.listed.insert(id, token);
        }
        for token in head.map_or(&[][..], |head| &head.added_tokens) {
            if let (Some(id), Ok(token)) = (token["id"].as_u64(), Token::parse(token)) {
                self.listed.insert(id, token);
            }
        }
        Ok(())
    }

    fn list(&mut self, key: &str, id: &str, value: &Value) -> Result<()> {
        let at: u64 = id.parse().map_err(|_| self.wrong(key, &format!("{id:?} is no id")))?;
        let token = Token::parse(value).map_err(|what| self.wrong(key, &format!("{id}: {what}")))?;
        self.listed.insert(at, token);
        Ok(())
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, &format!("{other} is neither true nor false"))),
        }
    }

    /// Gives the mask the spaces before it, unless a file gives it with flags of its own.
    pub fn mask_takes_spaces(&mut self, default: &str) -> Result<()> {
        let mask = self.role("mask_token", Some(default))?;
        if let Some(mask) = mask.filter(|mask| mask.bare) {
            let flags =
                json!({"content": mask.content, "lstrip": true, "normalized": false, "special": true});
            self.values.insert("mask_token".into(), flags);
        }
        Ok(())
    }

    /// A text under a key; none where it is absent or null.
    pub fn text(&self, key: &str) -> Result<Option<String>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(key, &format!("expected a text and found {other}"))),
        }
    }

    /// `offset` of Pegasus: ids that come before the pieces.
    pub fn offset(&self, default: usize) -> Result<usize> {
        match self.values.get("offset").map(Value::as_u64) {
            None => Ok(default),
            Some(Some(offset)) if offset <= 1000 => Ok(offset as usize),
            Some(_) => Err(self.wrong("offset", "expected a number up to 1000")),
        }
    }

    /// Whether a file gives this key, be it as null.
    pub fn says(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The token of a role: what the files say, be it that there is none, or else `default`.
    pub fn role(&self, key: &str, default: Option<&str>) -> Result<Option<Token>> {
        match self.values.get(key) {
            None => Ok(default.map(Token::new)),
            Some(_) => self.named(key),
        }
    }

    /// The token that the files name for a key.
    fn named(&self, key: &str) -> Result<Option<Token>> {
        let Some(value) = self.values.get(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let token = Token::parse(value).map_err(|what| self.wrong(key, &what))?;
        // An entry of the list has the flags.
        let listed = self.listed.values().find(|listed| listed.content == token.content);
        Ok(Some(listed.cloned().unwrap_or(token)))
    }

    /// Special tokens whose roles only this model has.
    pub fn own(&self) -> Result<Vec<Token>> {
        let is_token = |key: &String, value: &Value| {
            value.is_string()
                || value.is_object() && (self.mapped.contains(key) || value["__type"] == "AddedToken")
        };
        let spread = self.values.iter().filter(|(key, value)| {
            key.ends_with("_token") && !ROLES.contains(&key.as_str()) && is_token(key, value)
        });
        let all = spread.chain(&self.own);
        all.map(|(key, value)| Token::parse(value).map_err(|what| self.wrong(key, &what))).collect()
    }

    /// Special tokens without a role, if a file lists them.
    pub fn extra(&self) -> Result<Option<Vec<Token>>> {
        match self.list_of("extra_special_tokens")? {
            None => self.list_of("additional_special_tokens"),
            extra => Ok(extra),
        }
    }

    /// The tokens of a list, which is forgotten.
    pub fn take_list(&mut self, key: &str) -> Result<Option<Vec<Token>>> {
        let list = self.list_of(key)?;
        self.values.shift_remove(key);
        Ok(list)
    }

    fn list_of(&self, key: &str) -> Result<Option<Vec<Token>>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(all)) => {
                let token = |value| Token::parse(value).map_err(|what| self.wrong(key, &what));
                all.iter().map(token).collect::<Result<_>>().map(Some)
            }
            Some(other) => Err(self.wrong(key, &format!("expected a list of tokens and found {other}"))),
        }
    }

    /// An error at the file that gives a key.
    pub fn wrong(&self, key: &str, what: &str) -> Error {
        let file = match self.mapped.iter().any(|mapped| mapped == key) {
            true => "special_tokens_map.json",
            false => "tokenizer_config.json",
        };
        let path = self.dir.join(file);
        Error::data(
            path.display(),
            format!("{key}: {what}; correct it, or copy the file again from the model's source"),
        )
    }
}
