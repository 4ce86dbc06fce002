//! A number that says whether it was measured.

pub use crate::plot::Mark;
use serde::{Deserialize, Serialize};

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
