//! A tokenizer before its added tokens, and the order in which transformers adds them.

use super::settings::{ROLES, Settings};
use super::token::Token;
use crate::error::{self, Result};
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

/// A tokenizer whose class decides what stands around its vocabulary.
pub struct Base {
    /// A `tokenizer.json` without the tokens that the settings add.
    pub json: Vec<u8>,
    pub settings: Settings,
    /// The tokens of roles that no file speaks of.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Tokens without a role, where no file lists any.
    pub extra: Vec<Token>,
    pub template: Template,
}

/// The special tokens around every text.
pub enum Template {
    /// What `json` says.
    Kept,
    Roberta {
        sep: String,
        cls: String,
        trim: bool,
        prefix: bool,
    },
    Around {
        before: Vec<String>,
        after: Vec<String>,
    },
}

impl Base {
    /// The tokenizer; `at` names its file in errors.
    ///
    /// Tokens that are no entry of the vocabulary get the ids after it. A default that the vocabulary does not have
    /// and that the model, of `vocab_size` ids, has no row for is left out.
    pub fn build(&self, at: &str, vocab_size: Option<u64>) -> Result<Tokenizer> {
        let invalid = |what: String| super::invalid(at, &what);
        let mut tokenizer = error::guarded(|| Tokenizer::from_bytes(&self.json))
            .unwrap_or_else(|_| Err("its parts contradict each other".into()))
            .map_err(|e| invalid(e.to_string()))?;
        let known = tokenizer.get_added_tokens_decoder();
        let mut tokens = self.tokens(&|content| known.values().any(|token| token.content == content))?;
        tokens.retain(|(token, default)| {
            let next = tokenizer.get_vocab_size(true) as u64;
            !default
                || tokenizer.token_to_id(&token.content).is_some()
                || vocab_size.is_none_or(|rows| next < rows)
        });
        let tokens = tokens.into_iter().map(|(token, _)| token);
        tokenizer.add_tokens(tokens).map_err(|e| invalid(e.to_string()))?;
        if let Some(template) = self.template.processor(&tokenizer) {
            let processor: PostProcessorWrapper =
                serde_json::from_value(template).map_err(|e| invalid(e.to_string()))?;
            tokenizer.with_post_processor(Some(processor));
        }
        Ok(tokenizer)
    }

    /// The tokens to add, and whether only the class names them: first those that files list, by id, then those of
    /// roles, then the others.
    fn tokens(&self, is_known: &dyn Fn(&str) -> bool) -> Result<Vec<(AddedToken, bool)>> {
        let mut named: Vec<(Token, bool)> = Vec::new();
        for role in ROLES {
            let default = self.defaults.iter().find(|(key, _)| *key == role).map(|(_, content)| *content);
            if let Some(token) = self.settings.role(role, default)? {
                named.push((token, !self.settings.says(role)));
            }
        }
        named.extend(self.settings.own()?.into_iter().map(|token| (token, false)));
        let extra = self.settings.extra()?;
        let is_default = extra.is_none();
        let extra = extra.unwrap_or_else(|| self.extra.clone()).into_iter().map(|token| (token, is_default));

        let listed: Vec<Token> = self.settings.listed.values().cloned().collect();
        let is_listed = |content: &str| listed.iter().any(|token| token.content == content);
        let mut tokens: Vec<(Token, bool)> = listed.iter().map(|token| (token.clone(), false)).collect();
        for (token, default) in named.iter().cloned().chain(extra) {
            let content = token.content.as_str();
            if !is_known(content) && !is_listed(content) && !tokens.iter().any(|(other, _)| *other == token) {
                tokens.push((token, default));
            }
        }
        let has_role = |token: &Token| named.iter().any(|(named, _)| named.content == token.content);
        Ok(tokens.into_iter().map(|(token, default)| (token.added(has_role(&token)), default)).collect())
    }
}

impl Template {
    /// The ids before and after a text; none of a template whose tokens are not listed.
    pub fn ids(&self, tokenizer: &Tokenizer) -> Option<[Vec<u32>; 2]> {
        let Template::Around { before, after } = self else { return None };
        let ids = |tokens: &[String]| -> Option<Vec<u32>> {
            tokens.iter().map(|token| tokenizer.token_to_id(token)).collect()
        };
        Some([ids(before)?, ids(after)?])
    }

    /// The post-processor as `tokenizer.json` writes it; none where it is kept.
    fn processor(&self, tokenizer: &Tokenizer) -> Option<Value> {
        let id = |token: &str| tokenizer.token_to_id(token);
        match self {
            Template::Kept => None,
            Template::Roberta { sep, cls, trim, prefix } => Some(json!({
                "type": "RobertaProcessing", "sep": [sep, id(sep)], "cls": [cls, id(cls)],
                "trim_offsets": trim, "add_prefix_space": prefix
            })),
            Template::Around { before, after } => {
                let sequence = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
                let special = |token: &String| json!({"SpecialToken": {"id": token, "type_id": 0}});
                let around = |inner: &[Value]| -> Vec<Value> {
                    let (before, after) = (before.iter().map(special), after.iter().map(special));
                    before.chain(inner.iter().cloned()).chain(after).collect()
                };
                let ids = before.iter().chain(after).map(|token| {
                    (token.clone(), json!({"id": token, "ids": [id(token)], "tokens": [token]}))
                });
                Some(json!({
                    "type": "TemplateProcessing",
                    "single": around(&[sequence("A")]),
                    "pair": around(&[sequence("A"), sequence("B")]),
                    "special_tokens": serde_json::Map::from_iter(ids)
                }))
            }
        }
    }
}

/// The `model` of a `tokenizer.json`.
pub fn model(path: &Path, json: &[u8]) -> Result<Value> {
    #[derive(serde::Deserialize)]
    struct Whole {
        model: Value,
    }
    let whole: Whole = serde_json::from_slice(json)
        .map_err(|e| super::invalid(&path.display().to_string(), &e.to_string()))?;
    Ok(whole.model)
}

impl From<(Vec<u8>, Settings)> for Base {
    /// A tokenizer that is what its `tokenizer.json` says, and the tokens that the settings add.
    fn from((json, settings): (Vec<u8>, Settings)) -> Self {
        Base { json, settings, defaults: &[], extra: Vec::new(), template: Template::Kept }
    }
}
