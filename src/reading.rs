//! A number that says whether it was measured.

use serde::{Deserialize, Serialize};

/// How a number came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Measured,
    Predicted,
}

/// A number, or why there is none. JSON: `{"kind":"measured","value":1.5}`, `{"kind":"absent","why":"no sensor"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", from = "Stored")]
pub enum Reading {
    Measured(f64),
    Predicted(f64),
    /// Why there is no number.
    Absent(String),
}

impl Default for Reading {
    /// What results of an earlier program lack.
    fn default() -> Self {
        Reading::absent("not recorded")
    }
}

impl Reading {
    /// A measurement. One that is not finite is absent and says so: no plot or sum can carry it.
    pub fn measured(value: f64) -> Self {
        Reading::Measured(value).finite()
    }

    /// A prediction, with the same rule.
    pub fn predicted(value: f64) -> Self {
        Reading::Predicted(value).finite()
    }

    /// A measurement, or why there is none.
    pub fn or_why(value: Option<f64>, why: &str) -> Self {
        value.map_or_else(|| Reading::absent(why), Reading::measured)
    }

    /// What two readings make together: measured where both are, absent where one is.
    pub fn with(&self, other: &Reading, make: impl Fn(f64, f64) -> f64) -> Reading {
        match (self.marked(), other.marked()) {
            (Some((a, Mark::Measured)), Some((b, Mark::Measured))) => Reading::measured(make(a, b)),
            (Some((a, _)), Some((b, _))) => Reading::predicted(make(a, b)),
            (None, _) => Reading::absent(self.why().unwrap_or_default()),
            (_, None) => Reading::absent(other.why().unwrap_or_default()),
        }
    }

    pub fn absent(why: impl Into<String>) -> Self {
        Reading::Absent(why.into())
    }

    /// The finite number, if there is one.
    pub fn value(&self) -> Option<f64> {
        self.marked().map(|(value, _)| value)
    }

    /// The finite number and how it came to be.
    pub fn marked(&self) -> Option<(f64, Mark)> {
        match self {
            Reading::Measured(value) if value.is_finite() => Some((*value, Mark::Measured)),
            Reading::Predicted(value) if value.is_finite() => Some((*value, Mark::Predicted)),
            _ => None,
        }
    }

    /// Why there is no number.
    pub fn why(&self) -> Option<String> {
        match (self.marked(), self) {
            (Some(_), _) => None,
            (None, Reading::Absent(why)) => Some(why.clone()),
            (None, Reading::Measured(value) | Reading::Predicted(value)) => {
                Some(format!("the value is {value}"))
            }
        }
    }

    fn finite(self) -> Self {
        self.why().map_or(self, Reading::Absent)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Stored {
    Measured { value: f64 },
    Predicted { value: f64 },
    Absent { why: String },
}

impl From<Reading> for Stored {
    fn from(reading: Reading) -> Self {
        match reading.finite() {
            Reading::Measured(value) => Stored::Measured { value },
            Reading::Predicted(value) => Stored::Predicted { value },
            Reading::Absent(why) => Stored::Absent { why },
        }
    }
}

impl From<Stored> for Reading {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Measured { value } => Reading::Measured(value),
            Stored::Predicted { value } => Reading::Predicted(value),
            Stored::Absent { why } => Reading::Absent(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_say_in_json_how_they_came_to_be() {
        let json = |reading: Reading| serde_json::to_string(&reading).unwrap();
        assert_eq!(json(Reading::measured(1.5)), r#"{"kind":"measured","value":1.5}"#);
        assert_eq!(json(Reading::predicted(2.0)), r#"{"kind":"predicted","value":2.0}"#);
        assert_eq!(json(Reading::absent("no sensor")), r#"{"kind":"absent","why":"no sensor"}"#);
        assert_eq!(json(Reading::Measured(f64::INFINITY)), r#"{"kind":"absent","why":"the value is inf"}"#);
        let swapped: Reading = serde_json::from_str(r#"{"value":3,"kind":"predicted"}"#).unwrap();
        assert_eq!(swapped, Reading::Predicted(3.0));
        assert!(serde_json::from_str::<Reading>(r#"{"value":3}"#).is_err());
        assert!(serde_json::from_str::<Reading>("3").is_err());
    }
}
