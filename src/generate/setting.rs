//! What a decoding setting takes: how its value is read from JSON or from a flag, and the range that it must lie in.

use crate::settings::Range;
use serde::Serialize;
use serde_json::Value as Json;

/// A decoding setting as its flag shows it; [`SETTINGS`](super::options::SETTINGS) lists them.
pub struct Setting {
    /// HF's key, which with dashes is the flag.
    pub key: &'static str,
    /// What it does, one paragraph.
    pub help: &'static str,
    /// What its value is called on the help page.
    pub value_name: &'static str,
    /// Whether the flag alone means true.
    pub is_switch: bool,
    pub used: Used,
    /// Reads the value of the flag, and says what it takes where it cannot.
    pub parse: fn(&str) -> Result<Json, String>,
}

impl Setting {
    /// `--num-beams` for `num_beams`.
    pub fn flag(&self) -> String {
        flag(self.key)
    }
}

/// The flag of a key.
pub fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// Where a setting has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    Always,
    BeamSearch,
    Sampling,
}

/// The type of a setting.
pub trait Value: Sized + Serialize {
    /// What it reads, to be put after "it must be".
    const TAKES: &'static str;
    const IS_SWITCH: bool = false;

    /// None for a value of another kind.
    fn read(json: &Json) -> Option<Self>;

    /// The JSON that the text of a flag stands for.
    fn json(text: &str) -> Json {
        serde_json::from_str(text).unwrap_or_else(|_| text.into())
    }

    /// The numbers whose range is checked.
    fn numbers(&self) -> Vec<f64> {
        Vec::new()
    }
}

/// What `value` must be where one of its numbers lies outside of `range`.
pub fn check(value: &impl Value, range: Option<Range>) -> Result<(), String> {
    match range.filter(|range| !value.numbers().into_iter().all(|x| range.contains(x))) {
        None => Ok(()),
        Some(range) => Err(format!("it must be {range}")),
    }
}

/// The JSON of a flag's text, when it is of the type and in the range.
pub fn parse<T: Value>(text: &str, range: Option<Range>) -> Result<Json, String> {
    let json = T::json(text);
    let value = T::read(&json).ok_or_else(|| format!("it must be {}", T::TAKES))?;
    check(&value, range)?;
    Ok(json)
}

impl Value for usize {
    const TAKES: &'static str = "a whole number of at least 0";

    fn read(json: &Json) -> Option<Self> {
        json.as_u64().and_then(|n| n.try_into().ok())
    }

    fn numbers(&self) -> Vec<f64> {
        vec![*self as f64]
    }
}

impl Value for f64 {
    const TAKES: &'static str = "a number";

    fn read(json: &Json) -> Option<Self> {
        json.as_f64()
    }

    fn numbers(&self) -> Vec<f64> {
        vec![*self]
    }
}

impl Value for bool {
    const TAKES: &'static str = "true or false";
    const IS_SWITCH: bool = true;

    fn read(json: &Json) -> Option<Self> {
        json.as_bool()
    }
}

impl Value for i32 {
    const TAKES: &'static str = "a token id";

    /// A list of one id, as the Trainer writes some, is that id.
    fn read(json: &Json) -> Option<Self> {
        match json {
            Json::Array(ids) => match &ids[..] {
                [id] => Self::read(id),
                _ => None,
            },
            id => id.as_i64().and_then(|id| id.try_into().ok()),
        }
    }
}

/// Token ids, of which a single one may stand alone.
impl Value for Vec<i32> {
    const TAKES: &'static str = "a token id or a list of token ids";

    fn read(json: &Json) -> Option<Self> {
        match json {
            Json::Array(ids) => ids.iter().map(i32::read).collect(),
            id => i32::read(id).map(|id| vec![id]),
        }
    }

    /// A list needs no brackets.
    fn json(text: &str) -> Json {
        let bare = || serde_json::from_str(&format!("[{text}]"));
        serde_json::from_str(text).or_else(|_| bare()).unwrap_or_else(|_| text.into())
    }
}

impl Value for Vec<Vec<i32>> {
    const TAKES: &'static str = "a list of lists of token ids, such as [[5],[7,8]]";

    fn read(json: &Json) -> Option<Self> {
        let lists: Vec<Vec<i32>> = json.as_array()?.iter().map(ids).collect::<Option<_>>()?;
        lists.iter().all(|list| !list.is_empty()).then_some(lists)
    }
}

fn ids(json: &Json) -> Option<Vec<i32>> {
    json.as_array()?.iter().map(i32::read).collect()
}

/// Token sequences and what is added to the score of the last token of each.
impl Value for Vec<(Vec<i32>, f64)> {
    const TAKES: &'static str = "a list of pairs of a list of token ids and a number, such as [[[5,7],-2.5]]";

    fn read(json: &Json) -> Option<Self> {
        let pair = |pair: &Json| match pair.as_array().map(Vec::as_slice) {
            Some([sequence, bias]) => Some((ids(sequence).filter(|ids| !ids.is_empty())?, bias.as_f64()?)),
            _ => None,
        };
        json.as_array()?.iter().map(pair).collect()
    }

    fn numbers(&self) -> Vec<f64> {
        self.iter().map(|(_, bias)| *bias).collect()
    }
}

/// Tokens after which something begins, and its factor.
impl Value for (usize, f64) {
    const TAKES: &'static str = "a pair of a number of tokens and a factor, such as [50,1.02]";

    fn read(json: &Json) -> Option<Self> {
        match json.as_array().map(Vec::as_slice) {
            Some([start, factor]) => Some((usize::read(start)?, factor.as_f64()?)),
            _ => None,
        }
    }

    fn json(text: &str) -> Json {
        Vec::<i32>::json(text)
    }

    fn numbers(&self) -> Vec<f64> {
        vec![self.1]
    }
}

/// Texts, of which a single one may stand alone.
impl Value for Vec<String> {
    const TAKES: &'static str = "a text or a list of texts, none of them empty";

    fn read(json: &Json) -> Option<Self> {
        let texts: Option<Vec<String>> = match json {
            Json::Array(texts) => texts.iter().map(|text| text.as_str().map(str::to_string)).collect(),
            text => text.as_str().map(|text| vec![text.to_string()]),
        };
        texts.filter(|texts| texts.iter().all(|text| !text.is_empty()))
    }

    /// What is no list in brackets is a text, whatever it looks like.
    fn json(text: &str) -> Json {
        let list: Option<Vec<String>> = serde_json::from_str(text).ok();
        list.map_or_else(|| text.into(), Json::from)
    }
}

/// A setting that can be switched off.
impl<T: Value> Value for Option<T> {
    const TAKES: &'static str = T::TAKES;

    fn read(json: &Json) -> Option<Self> {
        match json {
            Json::Null => Some(None),
            json => T::read(json).map(Some),
        }
    }

    /// `none` switches it off.
    fn json(text: &str) -> Json {
        match text {
            "none" => Json::Null,
            text => T::json(text),
        }
    }

    fn numbers(&self) -> Vec<f64> {
        self.as_ref().map_or_else(Vec::new, T::numbers)
    }
}
