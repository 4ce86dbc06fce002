//! Physical units as types, so that seconds are never added to bytes; the only conversions live here, and every
//! number that is shown is formatted here.

mod format;
mod number;

pub use format::{Format, Quantity, Unit};
pub use number::{counted, decimals, integer, percent, prefixed, significant};

use number::in_unit;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::ops::Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::default(), |a, b| a + b)
            }
        }
    };
}

unit!(
    /// Wall-clock time from a monotonic clock.
    Seconds(f64)
);
unit!(
    /// Energy.
    Joules(f64)
);
unit!(
    /// Power.
    Watts(f64)
);
unit!(
    /// Memory or traffic.
    Bytes(u64)
);
unit!(
    /// Floating-point operations, a fused multiply-add counted as two.
    Flops(u64)
);

impl Joules {
    /// Microjoules, the unit of the kernel's powercap counters.
    pub fn from_micro(micro: u64) -> Self {
        Joules(micro as f64 * 1e-6)
    }

    pub fn kwh(self) -> f64 {
        self.0 / 3.6e6
    }
}

impl std::ops::Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

impl From<std::time::Duration> for Seconds {
    fn from(duration: std::time::Duration) -> Self {
        Seconds(duration.as_secs_f64())
    }
}

impl Bytes {
    /// Parses `48GiB`, `512 MiB`, `2e9` or `1048576`.
    pub fn parse(text: &str) -> Option<Bytes> {
        let text = text.trim();
        let split =
            text.find(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.trim().parse().ok()?;
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024f64.powi(2),
            "g" | "gib" => 1024f64.powi(3),
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            _ => return None,
        };
        let bytes = number * scale;
        (bytes.is_finite() && bytes >= 0.0 && bytes < u64::MAX as f64).then_some(Bytes(bytes as u64))
    }
}

/// A size in memory above 0.
impl FromStr for Bytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = Bytes::parse(text).filter(|size| size.0 > 0);
        size.ok_or("give a size such as 48GiB, 512MiB or 2e9")
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} B", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
            _ => write!(f, "{:.2} GiB", bytes / 1_073_741_824.0),
        }
    }
}

impl fmt::Display for Joules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_unit(f, self.0, &[(1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")])
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_unit(f, self.0, &[(1e3, "kW"), (1.0, "W"), (1e-3, "mW")])
    }
}

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flops = self.0 as f64;
        match self.0 {
            0..1_000_000_000 => write!(f, "{:.1} MFLOP", flops / 1e6),
            1_000_000_000..1_000_000_000_000 => write!(f, "{:.2} GFLOP", flops / 1e9),
            _ => write!(f, "{:.3} TFLOP", flops / 1e12),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        if seconds < 1e-6 {
            write!(f, "{:.0} ns", seconds * 1e9)
        } else if seconds < 1e-5 {
            write!(f, "{:.1} us", seconds * 1e6)
        } else if seconds < 1e-3 {
            write!(f, "{:.0} us", seconds * 1e6)
        } else if seconds < 1.0 {
            write!(f, "{:.1} ms", seconds * 1e3)
        } else if seconds < 120.0 {
            write!(f, "{seconds:.1} s")
        } else {
            let whole = seconds.round() as u64;
            write!(f, "{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_parse_binary_and_decimal_suffixes() {
        assert_eq!(Bytes::parse("48GiB"), Some(Bytes(48 << 30)));
        assert_eq!(Bytes::parse("1.5 MiB"), Some(Bytes(1_572_864)));
        assert_eq!(Bytes::parse("2GB"), Some(Bytes(2_000_000_000)));
        assert_eq!(Bytes::parse("2e9"), Some(Bytes(2_000_000_000)));
        assert_eq!(Bytes::parse("lots"), None);
        assert_eq!(Bytes::parse("-1"), None);
        assert_eq!(Bytes::parse("3 parsecs"), None);
    }

    #[test]
    fn seconds_read_well_at_every_size() {
        let text = [3e-7, 4.2e-6, 42e-6, 0.042, 4.2, 4210.0].map(|s| Seconds(s).to_string());
        assert_eq!(text, ["300 ns", "4.2 us", "42 us", "42.0 ms", "4.2 s", "1:10:10"]);
    }

    #[test]
    fn joules_and_watts_have_three_digits_and_a_unit_that_fits() {
        let text =
            [1.234e7, 9999.6, 999.96, 123.4, 12.34, 1.234, 0.01234, 2e-6].map(|j| Joules(j).to_string());
        assert_eq!(
            text,
            ["12.3 MJ", "10.0 kJ", "1.00 kJ", "123 J", "12.3 J", "1.23 J", "12.3 mJ", "2.00 uJ"]
        );
        assert_eq!([0.0, -3.0].map(|j| Joules(j).to_string()), ["0.00 J", "-3.00 J"]);
        assert_eq!([0.5, 45.67, 1500.0].map(|w| Watts(w).to_string()), ["500 mW", "45.7 W", "1.50 kW"]);
    }

    #[test]
    fn power_is_energy_over_time() {
        assert_eq!(Joules::from_micro(6_000_000) / Seconds(2.0), Watts(3.0));
    }
}
