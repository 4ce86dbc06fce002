//! What figures, tables and sentences share: escaping, and how a number is written.

use std::fmt::Write;

/// Appends formatted text; writing to a string cannot fail.
pub fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

/// Text made safe between tags and inside quoted attributes of HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(printable(c)),
        }
    }
    out
}

/// Text safe to print in a terminal: control characters, which could move its cursor, are replaced.
pub fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// Control characters and the marks that turn the direction of text stand as the replacement character.
fn printable(c: char) -> char {
    match c {
        '\t' | '\n' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

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

/// A quantity that is shown in the unit its size asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    Score,
    /// Stored in seconds.
    Time,
    /// Examples per second.
    Throughput,
    /// Stored in bytes.
    Memory,
    /// Stored in joules.
    Energy,
}

/// A unit and how many of the stored unit it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    pub name: &'static str,
    pub size: f64,
}

impl Quantity {
    /// The unit in which the largest value of a figure or column reads well.
    pub fn unit(self, largest: f64) -> Unit {
        let ladder: &[(&'static str, f64)] = match self {
            Quantity::Score => &[("", 1.0)],
            Quantity::Throughput => &[("examples/s", 1.0)],
            Quantity::Time => &[("s", 1.0), ("min", 60.0), ("h", 3600.0)],
            Quantity::Memory => {
                &[("B", 1.0), ("KiB", 1024.0), ("MiB", 1024.0 * 1024.0), ("GiB", 1024.0 * 1024.0 * 1024.0)]
            }
            Quantity::Energy => &[("J", 1.0), ("kJ", 1e3), ("MJ", 1e6)],
        };
        // 90 s reads better than 1.5 min, but 1.1 GiB better than 1,126 MiB.
        let enough = if self == Quantity::Time { 2.0 } else { 1.0 };
        let fits = |(_, size): &&(_, f64)| largest >= enough * size;
        let (name, size) = ladder.iter().rev().find(fits).unwrap_or(&ladder[0]);
        Unit { name, size: *size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_leave_its_place() {
        assert_eq!(
            escape("<script>alert('1')</script>\"&\u{0}\u{202e}"),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(plain("\u{1b}[2Jled\n"), "\u{fffd}[2Jled ");
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
    fn quantities_choose_their_unit() {
        assert_eq!(Quantity::Time.unit(90.0).name, "s");
        assert_eq!(Quantity::Time.unit(150.0).name, "min");
        assert_eq!(Quantity::Memory.unit(1.1e9).name, "GiB");
        assert_eq!(Quantity::Memory.unit(0.0).name, "B");
        assert_eq!(Quantity::Energy.unit(2500.0), Unit { name: "kJ", size: 1e3 });
    }
}
