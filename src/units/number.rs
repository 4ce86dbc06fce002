//! Numbers as people read them.

use std::fmt;

/// Three significant digits, thousands apart: `0.0123`, `1.23`, `12.3`, `123`, `12,345`.
pub fn significant(value: f64) -> String {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    match magnitude {
        ..-4 | 15.. => format!("{value:.2e}"),
        _ => decimals(value, (2 - magnitude).max(0) as usize),
    }
}

/// A fixed number of decimals, thousands apart.
pub fn decimals(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) { "−" } else { "" };
    format!("{sign}{}{fraction}", grouped(whole))
}

/// An integer with thousands apart.
pub fn integer(value: u64) -> String {
    grouped(&value.to_string())
}

/// How many there are of what `noun` names, which takes an s beside 1: `1 step`, `2,000 steps`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", integer(count as u64), if count == 1 { "" } else { "s" })
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share of 1 as a percentage.
pub fn percent(share: f64) -> String {
    match share {
        x if !x.is_finite() => "n/a".into(),
        x if x.abs() >= 9.9995 => format!("{:.0} %", 100.0 * x),
        x => format!("{:.1} %", 100.0 * x),
    }
}

/// Three digits with the prefix of their power of ten, such as `12.3 G`; a whole number below 1000 as it is.
pub fn prefixed(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1000.0 {
        return format!("{value:.0}");
    }
    let mut scale = value;
    for prefix in ["", " k", " M", " G", " T", " P"] {
        if scale.abs() < 999.5 {
            return three_digits(scale) + prefix;
        }
        scale /= 1000.0;
    }
    "n/a".into()
}

/// Three digits and the largest of `units` (size, name; the largest first) that the value reaches.
pub(super) fn in_unit(f: &mut fmt::Formatter<'_>, value: f64, units: &[(f64, &str)]) -> fmt::Result {
    let fits = units.iter().find(|(unit, _)| value.abs() >= 0.9995 * unit);
    // Zero, and what is smaller than every unit, is written in the base unit: `0.00 J`.
    let (unit, name) = fits.or(units.iter().find(|(unit, _)| *unit == 1.0)).copied().unwrap_or((1.0, ""));
    f.pad(&format!("{} {name}", three_digits(value / unit)))
}

/// Three digits of a number below 999.5, and the whole part of a larger one.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_beside_one_is_singular() {
        assert_eq!([0, 1, 2000].map(|n| counted(n, "step")), ["0 steps", "1 step", "2,000 steps"]);
    }

    #[test]
    fn numbers_read_well() {
        let shown = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5, 1234567.0, -2.5, 1e-7].map(significant);
        assert_eq!(
            shown,
            ["0.00", "0.0123", "1.23", "12.3", "123", "1,234", "1,234,567", "−2.50", "1.00e-7"]
        );
        assert_eq!(decimals(-0.001, 2), "0.00");
        assert_eq!(integer(161_844_480), "161,844,480");
    }

    #[test]
    fn figures_have_three_digits() {
        let texts = [0.0, 7.0, 999.0, 12_345.0, 999_600.0, 3.35e12, 355e12].map(prefixed);
        assert_eq!(texts, ["0", "7", "999", "12.3 k", "1.00 M", "3.35 T", "355 T"]);
        assert_eq!(
            [0.0, 0.123, 1.0, 12.3, f64::NAN].map(percent),
            ["0.0 %", "12.3 %", "100.0 %", "1230 %", "n/a"]
        );
    }
}
