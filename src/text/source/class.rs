//! Which of transformers' tokenizer classes reads a folder, from what its files say.

use super::mbart::Languages;
use super::object;
use crate::error::Result;
use serde_json::Value;
use std::path::Path;

/// A way of making a tokenizer. Most names of classes are other names of one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Byte-level BPE between `<s>` and `</s>`, whatever a `tokenizer.json` says around its vocabulary.
    Roberta,
    /// Pieces before `</s>`; of a `tokenizer.json` only its vocabulary and its map of characters.
    Pegasus,
    /// Pieces between `[CLS]` and `[SEP]`; of a `tokenizer.json` only its vocabulary.
    BigBird,
    /// Pieces and the token of a language; of a `tokenizer.json` only its vocabulary and its map of characters.
    Mbart(Languages),
    /// What `tokenizer.json` says.
    Whole,
}

impl Class {
    /// The class of a model directory: that of its `model_type`, unless `tokenizer_class` says otherwise.
    pub fn of(dir: &Path) -> Result<Self> {
        // A config.json that cannot be read is refused by whoever needs it.
        let config = object(&dir.join("config.json")).unwrap_or_default();
        let settings = object(&dir.join("tokenizer_config.json"))?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_string);
        let named = text(settings.get("tokenizer_class")).or_else(|| text(config.get("tokenizer_class")));
        let named = named.as_deref().map(Class::named);
        let registered = text(config.get("model_type")).and_then(|family| Class::registered(&family));
        Ok(match (registered, named) {
            (Some(Class::Whole), _) => Class::Whole,
            (_, Some(named)) => named,
            (Some(registered), None) => registered,
            (None, None) if dir.join("tokenizer.json").is_file() => Class::Whole,
            (None, None) if dir.join("vocab.json").is_file() => Class::Roberta,
            (None, None) => Class::Whole,
        })
    }

    fn registered(model_type: &str) -> Option<Self> {
        match model_type {
            "led" | "bart" | "longformer" | "roberta" => Some(Class::Roberta),
            "pegasus" => Some(Class::Pegasus),
            "big_bird" => Some(Class::BigBird),
            "mbart" => Some(Class::Mbart(Languages::Mbart)),
            // Whatever class its files name.
            "bigbird_pegasus" => Some(Class::Whole),
            _ => None,
        }
    }

    fn named(class: &str) -> Self {
        match class.strip_suffix("Fast").unwrap_or(class) {
            "RobertaTokenizer"
            | "LEDTokenizer"
            | "BartTokenizer"
            | "LongformerTokenizer"
            | "MvpTokenizer" => Class::Roberta,
            "PegasusTokenizer" => Class::Pegasus,
            "BigBirdTokenizer" => Class::BigBird,
            "MBartTokenizer" => Class::Mbart(Languages::Mbart),
            "MBart50Tokenizer" => Class::Mbart(Languages::Mbart50),
            _ => Class::Whole,
        }
    }
}
