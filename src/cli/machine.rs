//! What the machine is, as far as it says, and when it was asked.

use crate::device::Device;
use crate::device::cpu::{features, simd};
use std::time::{SystemTime, UNIX_EPOCH};

/// The processor's name, or else its kind.
pub fn processor() -> String {
    let name = |text: String| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let file = std::fs::read_to_string("/proc/cpuinfo").ok();
    file.and_then(name).unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

/// The processor's vector instructions that the `cpu` executor uses.
pub fn vectors() -> &'static str {
    match simd::level() {
        simd::Level::Portable => "baseline",
        simd::Level::Avx2 => "AVX2",
        simd::Level::Avx512 => "AVX-512",
    }
}

/// All instructions beyond the baseline that the `cpu` executor uses, by the names that `--cpu-features` takes.
pub fn instructions() -> String {
    let used: Vec<&str> = features::states()
        .into_iter()
        .filter_map(|(feature, state)| (state == features::State::Used).then_some(feature.name()))
        .collect();
    if used.is_empty() { "baseline".into() } else { used.join(", ") }
}

/// What times are of: a GPU by its name, or the processor and how many threads compute on it.
pub fn device_label(device: &Device) -> String {
    match device.name() {
        name if name == "cpu" => {
            let threads = rayon::current_num_threads();
            format!("{name} ({}), {threads} thread{}", processor(), if threads == 1 { "" } else { "s" })
        }
        name => name,
    }
}

/// The date in UTC, as `2026-11-23`.
pub fn today() -> String {
    date(seconds() / 86_400)
}

/// Date and time in UTC, as `2026-11-23T12:34:56`.
pub fn now() -> String {
    let seconds = seconds();
    format!(
        "{}T{:02}:{:02}:{:02}",
        date(seconds / 86_400),
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Since 1970-01-01.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        // As `date -u -d @SECONDS +%F` prints them.
        let dates = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_780, "2026-11-23")];
        for (days, text) in dates {
            assert_eq!(date(days), text);
        }
    }
}
