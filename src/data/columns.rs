//! Which members of a record are its text and its summary, and what is made of one.

use super::{Record, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How the records of files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordFormat {
    /// The member that holds the text; left out, one of those that are known with the summary of its pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    /// The member that holds the summary or answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_column: Option<String>,
    /// Records of a split that may be wrong and are passed over.
    #[serde(skip_serializing_if = "is_zero")]
    pub skip_bad_records: usize,
}

/// For counts that are left out of files where there are none.
pub fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl RecordFormat {
    pub fn is_default(&self) -> bool {
        *self == RecordFormat::default()
    }
}

/// The names that datasets give the two, in the order in which they are tried; SCROLLS' own come first.
const PAIRS: [(&str, &str); 11] = [
    ("input", "output"),
    ("document", "summary"),
    ("article", "highlights"),
    ("article", "abstract"),
    ("article", "summary"),
    ("report", "summary"),
    ("dialogue", "summary"),
    ("source", "target"),
    ("source", "summary"),
    ("text", "summary"),
    ("text", "target"),
];

/// The members that hold the text and the summary, decided by the first record of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    text: String,
    summary: String,
}

impl Columns {
    /// Fails where the record has no member of a known or a given name, with the names that it has.
    pub fn of(names: &[String], reading: &RecordFormat) -> Result<Self, String> {
        let has = |name: &str| names.iter().any(|own| own == name);
        let RecordFormat { text_column, summary_column, .. } = reading;
        if let Some(asked) = text_column.as_ref().filter(|asked| !has(asked)) {
            return Err(format!("no {asked:?}, the text column asked for; the record has {}", listed(names)));
        }
        let fits = |(text, summary): &&(&str, &str), both: bool| {
            text_column.as_deref().is_none_or(|asked| asked == *text)
                && has(text)
                && (!both || summary_column.is_some() || has(summary))
        };
        let pair = PAIRS
            .iter()
            .find(|pair| fits(pair, true))
            .or_else(|| PAIRS.iter().find(|pair| fits(pair, false)));
        let known = |name: &&str| has(name) && Some(*name) != text_column.as_deref();
        let any = || PAIRS.iter().map(|(_, summary)| *summary).find(known).unwrap_or("output");
        let text = text_column.clone().or_else(|| pair.map(|(text, _)| text.to_string()));
        let Some(text) = text else {
            return Err(format!(
                "no member of it is known to hold a text: the record has {}; name its columns with --text-column and \
                 --summary-column (SCROLLS has input and output)",
                listed(names)
            ));
        };
        let summary = summary_column.clone();
        let summary = summary.unwrap_or_else(|| pair.map_or_else(any, |(_, summary)| summary).to_string());
        Ok(Columns { text, summary })
    }

    /// Whether a member is read.
    pub fn is_read(&self, name: &str) -> bool {
        name == self.text || name == self.summary || ["id", "pid", "needles"].contains(&name)
    }

    /// The text, which must be there.
    pub fn text(&self, values: &mut Map<String, Value>) -> Result<String, String> {
        let text = string(values, &self.text)?
            .ok_or_else(|| format!("the {} is missing, null or NaN", self.text))?;
        match text.trim().is_empty() {
            true => Err(format!("the {} is empty", self.text)),
            false => Ok(text),
        }
    }

    /// The record of these members, the `number`-th of its file; without an id it is `line-<number>`.
    pub fn record(
        &self,
        mut values: Map<String, Value>,
        number: usize,
        split: Split,
    ) -> Result<Record, String> {
        let id = name(&mut values, "id")?;
        let pid = name(&mut values, "pid")?;
        let id = id.unwrap_or_else(|| format!("line-{number}"));
        let pid = pid.unwrap_or_else(|| id.clone());
        let Columns { text, summary } = self;
        let input = self.text(&mut values).map_err(|what| format!("{what} (record {id:?})"))?;
        let output = string(&mut values, summary)?;
        if output.is_none() && split != Split::Test {
            return Err(format!(
                "the {summary} of record {id:?} is missing or null; only test splits come without answers"
            ));
        }
        let needles = values.remove("needles").filter(|needles| !needles.is_null());
        let needles: Vec<[usize; 2]> = needles
            .map(|needles| serde_json::from_value(needles).map_err(|e| format!("needles: {e}")))
            .transpose()?
            .unwrap_or_default();
        if let Some([start, end]) = needles.iter().find(|[start, end]| input.get(*start..*end).is_none()) {
            return Err(format!(
                "the needle of record {id:?} at bytes {start} to {end} is no part of its {text}"
            ));
        }
        Ok(Record { id, pid, input, output, needles })
    }
}

/// A text, or a number as it is written; none of null.
fn name(values: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match values.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("the {key} is {}, and expected a string or a number", kind(&other))),
    }
}

fn string(values: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match values.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(_)) => Err(format!(
            "the {key} is a list, and expected a string; join several documents by the token that the model has between \
             them, and write several summaries as records of one id"
        )),
        Some(other) => Err(format!("the {key} is {}, and expected a string", kind(&other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".to_string(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(
        names: &[&str],
        text: Option<&str>,
        summary: Option<&str>,
    ) -> Result<(String, String), String> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let reading = RecordFormat {
            text_column: text.map(str::to_string),
            summary_column: summary.map(str::to_string),
            ..RecordFormat::default()
        };
        Columns::of(&names, &reading).map(|columns| (columns.text, columns.summary))
    }

    #[test]
    fn known_pairs_and_given_names() {
        let own = |text: &str, summary: &str| Ok((text.to_string(), summary.to_string()));
        assert_eq!(columns(&["id", "input", "output", "text"], None, None), own("input", "output"));
        assert_eq!(columns(&["document", "summary", "id"], None, None), own("document", "summary"));
        assert_eq!(columns(&["article", "abstract"], None, None), own("article", "abstract"));
        assert_eq!(columns(&["article", "headline"], None, Some("headline")), own("article", "headline"));
        assert_eq!(columns(&["chapter", "summary"], Some("chapter"), None), own("chapter", "summary"));
        assert_eq!(columns(&["summary", "long"], Some("long"), None), own("long", "summary"));
        assert_eq!(columns(&["a", "b"], Some("a"), Some("b")), own("a", "b"));
        // A test split has no summaries.
        assert_eq!(columns(&["dialogue"], None, None), own("dialogue", "summary"));
        assert_eq!(columns(&["input"], None, None), own("input", "output"));
        for (text, names) in [(Some("x"), "a, b"), (None, "a, b")] {
            let refusal = columns(&["a", "b"], text, None).unwrap_err();
            assert!(refusal.contains(names), "{refusal}");
        }
    }
}
