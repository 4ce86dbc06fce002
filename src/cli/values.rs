//! How the values of flags are read: each parser answers a value that it cannot take with what it does take.

use crate::units::Bytes;
use std::time::Duration;

/// A finite number of seconds from 0 to a day, as [`Duration`] or as `Seconds`.
pub fn seconds<T: From<Duration>>(text: &str) -> Result<T, String> {
    let number: f64 = text.parse().map_err(|_| "give a number of seconds, such as 0.5".to_string())?;
    match (0.0..=86_400.0).contains(&number) {
        true => Ok(Duration::from_secs_f64(number).into()),
        false => Err("give from 0 to 86400 seconds".into()),
    }
}

/// A size in memory above 0.
pub fn bytes(text: &str) -> Result<Bytes, String> {
    text.parse().map_err(String::from)
}

/// A finite number above 0.
pub fn above_zero(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|x: &f64| *x > 0.0 && x.is_finite());
    number.ok_or_else(|| "give a number above 0".into())
}

/// A number from 0 to 1000.
pub fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|x| (0.0..=1000.0).contains(x));
    number.ok_or_else(|| "give from 0 to 1000 percent".into())
}

/// A number in [0, 1).
pub fn fraction(text: &str) -> Result<f32, String> {
    let number: Option<f32> = text.parse().ok().filter(|x| (0.0..1.0).contains(x));
    number.ok_or_else(|| "it must be at least 0 and below 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Seconds;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(seconds("0.5"), Ok(Seconds(0.5)));
        assert_eq!(bytes("2KiB"), Ok(Bytes(2048)));
        for text in ["-1", "1e6", "NaN", "inf", "soon"] {
            assert!(seconds::<Duration>(text).is_err(), "{text}");
        }
        assert!(bytes("0").is_err() && bytes("much").is_err());
        assert!(percent("1001").is_err() && percent("NaN").is_err() && percent("12.5") == Ok(12.5));
        assert!(fraction("1").is_err() && fraction("NaN").is_err() && fraction("0") == Ok(0.0));
    }
}
