//! How the numbers of a column are written: in one unit for all of them, or each in its own.

use super::{Bytes, Flops, Joules, Seconds, Watts, decimals, integer, percent, prefixed, significant};

/// What a number measures; it is kept in the base unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Seconds.
    Time,
    /// Bytes.
    Memory,
    /// Joules.
    Energy,
    /// Watts.
    Power,
    /// Floating-point operations.
    Work,
}

/// A unit and how many of the base unit it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    pub name: &'static str,
    pub size: f64,
}

impl Quantity {
    /// The unit in which the largest value of a figure or column reads well.
    pub fn unit(self, largest: f64) -> Unit {
        const KIBI: f64 = 1024.0;
        let ladder: &[(&'static str, f64)] = match self {
            Quantity::Time => &[("s", 1.0), ("min", 60.0), ("h", 3600.0)],
            Quantity::Memory => {
                &[("B", 1.0), ("KiB", KIBI), ("MiB", KIBI * KIBI), ("GiB", KIBI * KIBI * KIBI)]
            }
            Quantity::Energy => &[("J", 1.0), ("kJ", 1e3), ("MJ", 1e6)],
            Quantity::Power => &[("W", 1.0)],
            Quantity::Work => &[("FLOP", 1.0), ("GFLOP", 1e9), ("TFLOP", 1e12)],
        };
        // 90 s reads better than 1.5 min, but 1.1 GiB better than 1,126 MiB.
        let enough = if self == Quantity::Time { 2.0 } else { 1.0 };
        let fits = |(_, size): &&(_, f64)| largest >= enough * size;
        let (name, size) = ladder.iter().rev().find(fits).unwrap_or(&ladder[0]);
        Unit { name, size: *size }
    }

    /// One number in the unit that suits it, such as `1.5 MiB`.
    fn shown(self, value: f64) -> String {
        match self {
            Quantity::Time if value < 0.0 => format!("-{}", Seconds(-value)),
            Quantity::Time => Seconds(value).to_string(),
            Quantity::Memory => Bytes(value as u64).to_string(),
            Quantity::Energy => Joules(value).to_string(),
            Quantity::Power => Watts(value).to_string(),
            Quantity::Work => Flops(value as u64).to_string(),
        }
    }
}

/// How a number is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Whole, thousands apart.
    Integer,
    /// As files have it.
    Plain,
    Decimals(usize),
    /// Three significant digits.
    Significant,
    /// Three digits and the prefix of a power of ten.
    Prefixed,
    /// Per cent of a share of 1.
    Percent,
    /// A factor, such as `×1.25`.
    Times,
    /// Two decimals, with a sign where it is above 0.
    Signed,
    /// Joules as they are paid for.
    KilowattHours,
    /// Each number in the unit that suits it.
    Each(Quantity),
    /// All numbers of a column in the unit that suits the largest, which the column's title names.
    In(Quantity),
}

impl Format {
    /// The unit that a column has in common, where it has one, for the largest of its values.
    pub fn unit(self, largest: f64) -> Option<Unit> {
        match self {
            Format::In(quantity) => Some(quantity.unit(largest)),
            _ => None,
        }
    }

    /// `value` for people; without a `unit`, one that suits it alone.
    pub fn shown(self, value: f64, unit: Option<Unit>) -> String {
        match (self, unit) {
            (Format::Integer, _) => integer(value as u64),
            (Format::Plain, _) => value.to_string(),
            (Format::Decimals(n), _) => decimals(value, n),
            (Format::Significant, _) => significant(value),
            (Format::Prefixed, _) => prefixed(value),
            (Format::Percent, _) => percent(value),
            (Format::Times, _) => format!("×{}", decimals(value, 2)),
            (Format::Signed, _) => {
                let text = decimals(value, 2);
                if value > 0.0 && text != "0.00" { format!("+{text}") } else { text }
            }
            (Format::KilowattHours, _) => format!("{} kWh", significant(Joules(value).kwh())),
            (Format::In(_), Some(unit)) => significant(value / unit.size),
            (Format::Each(quantity) | Format::In(quantity), _) => quantity.shown(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_choose_their_unit() {
        assert_eq!(Quantity::Time.unit(90.0).name, "s");
        assert_eq!(Quantity::Time.unit(150.0).name, "min");
        assert_eq!(Quantity::Memory.unit(1.1e9).name, "GiB");
        assert_eq!(Quantity::Memory.unit(0.0).name, "B");
        assert_eq!(Quantity::Energy.unit(2500.0), Unit { name: "kJ", size: 1e3 });
    }

    #[test]
    fn a_number_is_written_in_the_unit_of_its_column_or_in_its_own() {
        let column = Format::In(Quantity::Time).unit(7200.0);
        assert_eq!(Format::In(Quantity::Time).shown(5400.0, column), "1.50");
        assert_eq!(Format::In(Quantity::Time).shown(5400.0, None), "1:30:00");
        let own =
            [Quantity::Time, Quantity::Memory, Quantity::Energy].map(|q| Format::Each(q).shown(1536.0, None));
        assert_eq!(own, ["0:25:36", "1.5 KiB", "1.54 kJ"]);
        assert_eq!(Format::Each(Quantity::Time).shown(-0.25, None), "-250.0 ms");
        let signed = [1.5, 0.001, -1.5].map(|x| Format::Signed.shown(x, None));
        assert_eq!(signed, ["+1.50", "0.00", "−1.50"]);
    }
}
