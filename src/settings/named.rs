//! Values that have names: one parser for every enum, by the names that files write them under (serde's).

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, IntoDeserializer};
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::marker::PhantomData;

/// Reads a `T` by its name in files; help and completions list the names.
pub fn named<T>() -> Named<T> {
    Named(PhantomData)
}

/// The parser that [`named`] makes.
pub struct Named<T>(PhantomData<fn() -> T>);

impl<T> Clone for Named<T> {
    fn clone(&self) -> Self {
        named()
    }
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> TypedValueParser for Named<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        (|text: &str| read::<T>(text).map_err(|refusal| refusal.to_string())).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = read::<T>("").err()?.names;
        Some(Box::new(names.iter().map(PossibleValue::new)))
    }
}

/// The name of a value in files.
pub fn name(value: &impl Serialize) -> String {
    let written = serde_json::to_value(value).ok();
    written.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_string()
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let deserializer: StrDeserializer<Refusal> = text.into_deserializer();
    T::deserialize(deserializer)
}

/// What serde says of a name, and the names that there are.
#[derive(Debug)]
struct Refusal {
    what: String,
    names: &'static [&'static str],
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.names.split_last() {
            None => f.write_str(&self.what),
            Some((only, [])) => write!(f, "it can only be {only}"),
            Some((last, others)) => write!(f, "it may be {} or {last}", others.join(", ")),
        }
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: Display>(what: T) -> Self {
        Refusal { what: what.to_string(), names: &[] }
    }

    fn unknown_variant(_: &str, names: &'static [&'static str]) -> Self {
        Refusal { what: String::new(), names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Fruit {
        Apple,
        BlackCurrant,
    }

    fn parsed(text: &str) -> Result<Fruit, clap::Error> {
        let command =
            Command::new("eat").no_binary_name(true).arg(Arg::new("fruit").value_parser(named::<Fruit>()));
        Ok(command.try_get_matches_from([text])?.remove_one("fruit").unwrap())
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        assert_eq!(parsed("black-currant").unwrap(), Fruit::BlackCurrant);
        for wrong in ["BlackCurrant", "pear", ""] {
            let message = parsed(wrong).unwrap_err().to_string();
            assert!(message.contains("it may be apple or black-currant"), "{message}");
        }
    }

    #[test]
    fn help_and_completions_know_the_names() {
        let parser = named::<Fruit>();
        let names: Vec<PossibleValue> = parser.possible_values().unwrap().collect();
        assert_eq!(names.iter().map(PossibleValue::get_name).collect::<Vec<_>>(), ["apple", "black-currant"]);
        assert_eq!(name(&Fruit::BlackCurrant), "black-currant");
    }
}
