//! Settings that are declared once: one declaration gives the flag, the key in files, the default, the help and the
//! range that the value must lie in.
//!
//! ```text
//! settings! {
//!     /// How long to cook.
//!     pub struct Cooking {
//!         /// Minutes in the oven
//!         #[arg(value_name = "N")]
//!         minutes: f64 = 20.0, above 0;
//!         /// Take the lid off
//!         uncovered: bool;
//!     }
//! }
//! ```
//!
//! A setting with `= DEFAULT` is a flag with that default; one without is a switch (`bool`) or may be left out
//! (`Option<T>`). In a `struct Name: optional`, every field becomes an `Option`, and `or` falls back to another source.
//! Settings of a block `elsewhere { .. }` after the struct have no flag of their own. Attributes of clap (`value_name`,
//! `value_parser`, `alias`) and of serde (`alias`, `rename`) pass through.

use crate::error::{Error, Result};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Bound;

mod named;

pub use named::{name, named};

/// The finite numbers that a setting may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub low: Bound<f64>,
    pub high: Bound<f64>,
}

impl Range {
    /// NaN and the infinities lie in no range.
    pub fn contains(&self, value: f64) -> bool {
        let above = match self.low {
            Bound::Included(low) => value >= low,
            Bound::Excluded(low) => value > low,
            Bound::Unbounded => true,
        };
        let below = match self.high {
            Bound::Included(high) => value <= high,
            Bound::Excluded(high) => value < high,
            Bound::Unbounded => true,
        };
        value.is_finite() && above && below
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = match self.low {
            Bound::Included(low) => Some(format!("at least {low}")),
            Bound::Excluded(low) => Some(format!("above {low}")),
            Bound::Unbounded => None,
        };
        let high = match self.high {
            Bound::Included(high) => Some(format!("at most {high}")),
            Bound::Excluded(high) => Some(format!("below {high}")),
            Bound::Unbounded => None,
        };
        let parts: Vec<String> = low.into_iter().chain(high).collect();
        match parts.is_empty() {
            true => f.write_str("a finite number"),
            false => f.write_str(&parts.join(" and ")),
        }
    }
}

/// What can lie in a range, or is absent and lies in all of them.
pub trait Number {
    fn number(&self) -> Option<f64>;
}

macro_rules! numbers {
    ($($type:ty: $value:ident => $number:expr,)*) => {
        $(impl Number for $type {
            fn number(&self) -> Option<f64> {
                let $value = *self;
                Some($number)
            }
        })*
    };
}

numbers! {
    f64: value => value,
    f32: value => f64::from(value),
    i32: value => f64::from(value),
    i64: value => value as f64,
    u64: value => value as f64,
    usize: value => value as f64,
    NonZeroU64: value => value.get() as f64,
    NonZeroUsize: value => value.get() as f64,
}

impl<T: Number> Number for Option<T> {
    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(Number::number)
    }
}

/// A setting whose value lies outside its range.
#[derive(Debug, Clone, PartialEq)]
pub struct OutOfRange {
    /// The field, which is its key in files.
    pub key: &'static str,
    pub value: f64,
    pub range: Range,
}

impl OutOfRange {
    /// None where `value` lies in `range`, or is absent.
    pub fn find(key: &'static str, value: &impl Number, range: Range) -> Option<Self> {
        let value = value.number()?;
        (!range.contains(value)).then_some(OutOfRange { key, value, range })
    }

    /// The refusal, by the name of the flag.
    pub fn refusal(&self) -> Error {
        let OutOfRange { key, value, range } = self;
        Error::usage(format!("--{} is {value}; it must be {range}", key.replace('_', "-")))
    }
}

/// One setting as its users see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its key in files.
    pub key: String,
    /// None for one that other flags decide.
    pub flag: Option<String>,
    /// In one sentence.
    pub help: String,
    pub default: Option<String>,
    /// Other names of the flag.
    pub aliases: Vec<String>,
}

/// Settings declared by `settings!`.
pub trait Declared: clap::Args {
    /// All fields in their order.
    const KEYS: &'static [&'static str];

    /// The first setting whose value lies outside its range.
    fn out_of_range(&self) -> Option<OutOfRange>;

    /// As [`Declared::out_of_range`], an error that names the flag.
    fn check_ranges(&self) -> Result<()> {
        self.out_of_range().map_or(Ok(()), |found| Err(found.refusal()))
    }

    /// All settings, as clap knows them.
    fn rows() -> Vec<Row> {
        let command = Self::augment_args(clap::Command::new("settings"));
        let row = |key: &&str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == key);
            let text = |arg: &clap::Arg| arg.get_help().map_or(String::new(), ToString::to_string);
            let default = |arg: &clap::Arg| {
                let value = arg.get_default_values().first()?;
                Some(value.to_string_lossy().into_owned())
            };
            let aliases = |arg: &clap::Arg| -> Vec<String> {
                arg.get_all_aliases().unwrap_or_default().into_iter().map(String::from).collect()
            };
            Row {
                key: key.to_string(),
                flag: arg.and_then(|arg| arg.get_long()).map(|flag| format!("--{flag}")),
                help: arg.map_or(String::new(), text),
                default: arg.and_then(default),
                aliases: arg.map_or(Vec::new(), aliases),
            }
        };
        Self::KEYS.iter().map(row).collect()
    }
}

/// Declares a struct of settings; the module's own page describes the form.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident {
            $(
                $(#[$attribute:meta])*
                $field:ident: $type:ty $(= $default:expr)?
                $(, $($low:ident)+ $least:literal $(and $($high:ident)+ $most:literal)?)?;
            )*
        }
        $(elsewhere {
            $(
                $(#[$other_attribute:meta])*
                $other:ident: $other_type:ty = $other_default:expr
                $(, $($other_low:ident)+ $other_least:literal $(and $($other_high:ident)+ $other_most:literal)?)?;
            )*
        })?
    ) => {
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, clap::Args)]
        #[serde(default)]
        $(#[$meta])*
        $vis struct $Name {
            $($(#[$attribute])* #[arg(long $(, default_value_t = $default)?)] pub $field: $type,)*
            $($(
                $(#[$other_attribute])*
                #[arg(skip = { let value: $other_type = $other_default; value })]
                pub $other: $other_type,
            )*)?
        }

        impl Default for $Name {
            fn default() -> Self {
                $Name {
                    $($field: $crate::settings::settings!(@default $($default)?),)*
                    $($($other: $other_default,)*)?
                }
            }
        }

        $crate::settings::settings! {
            @declared $Name
            $($field [$($($low)+ $least $(and $($high)+ $most)?)?])*
            $($($other [$($($other_low)+ $other_least $(and $($other_high)+ $other_most)?)?])*)?
        }
    };

    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident: optional {
            $(
                $(#[$attribute:meta])*
                $field:ident: $type:ty
                $(, $($low:ident)+ $least:literal $(and $($high:ident)+ $most:literal)?)?;
            )*
        }
        $(elsewhere {
            $(
                $(#[$other_attribute:meta])*
                $other:ident: $other_type:ty
                $(, $($other_low:ident)+ $other_least:literal $(and $($other_high:ident)+ $other_most:literal)?)?;
            )*
        })?
    ) => {
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, clap::Args)]
        #[serde(default)]
        $(#[$meta])*
        $vis struct $Name {
            $(
                $(#[$attribute])*
                #[arg(long)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
            $($(
                $(#[$other_attribute])*
                #[arg(skip)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $other: Option<$other_type>,
            )*)?
        }

        impl $Name {
            /// These settings, and those of `others` where these leave something open.
            pub fn or(self, others: Self) -> Self {
                $Name {
                    $($field: self.$field.or(others.$field),)*
                    $($($other: self.$other.or(others.$other),)*)?
                }
            }
        }

        $crate::settings::settings! {
            @declared $Name
            $($field [$($($low)+ $least $(and $($high)+ $most)?)?])*
            $($($other [$($($other_low)+ $other_least $(and $($other_high)+ $other_most)?)?])*)?
        }
    };

    (@declared $Name:ident $($field:ident [$($range:tt)*])*) => {
        impl $crate::settings::Declared for $Name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn out_of_range(&self) -> Option<$crate::settings::OutOfRange> {
                None$(.or_else(|| $crate::settings::settings!(@find $field, &self.$field, $($range)*)))*
            }
        }
    };

    (@find $field:ident, $value:expr,) => { None };
    (@find $field:ident, $value:expr, $($range:tt)+) => {
        $crate::settings::OutOfRange::find(
            stringify!($field),
            $value,
            $crate::settings::settings!(@range $($range)+),
        )
    };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@range at least $least:literal $(and $($high:ident)+ $most:literal)?) => {
        $crate::settings::settings!(@bounds std::ops::Bound::Included, $least $(, $($high)+ $most)?)
    };
    (@range above $least:literal $(and $($high:ident)+ $most:literal)?) => {
        $crate::settings::settings!(@bounds std::ops::Bound::Excluded, $least $(, $($high)+ $most)?)
    };
    (@bounds $low:expr, $least:literal) => {
        $crate::settings::settings!(@between $low, $least, std::ops::Bound::Unbounded)
    };
    (@bounds $low:expr, $least:literal, below $most:literal) => {
        $crate::settings::settings!(@between $low, $least, std::ops::Bound::Excluded(f64::from($most)))
    };
    (@bounds $low:expr, $least:literal, at most $most:literal) => {
        $crate::settings::settings!(@between $low, $least, std::ops::Bound::Included(f64::from($most)))
    };
    (@between $low:expr, $least:literal, $high:expr) => {
        $crate::settings::Range { low: $low(f64::from($least)), high: $high }
    };
}

pub(crate) use settings;

#[cfg(test)]
mod tests;
