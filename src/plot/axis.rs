//! Axes: how values map to the drawing, and ticks at numbers people would choose.

use crate::units::decimals;

/// How a range of values is laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    Linear {
        low: f64,
        high: f64,
    },
    /// For ranges that span orders of magnitude; values must be positive.
    Log {
        low: f64,
        high: f64,
    },
}

impl Scale {
    /// Where a value lies, 0 at the low end and 1 at the high end.
    pub fn fraction(&self, value: f64) -> f64 {
        match *self {
            Scale::Linear { low, high } => (value - low) / (high - low),
            Scale::Log { low, high } => (value / low).ln() / (high / low).ln(),
        }
    }
}

/// A labelled value on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub label: String,
}

/// A scale with its ticks and its title, which names the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub title: String,
    pub scale: Scale,
    pub ticks: Vec<Tick>,
}

/// Above this ratio of largest to smallest a linear axis would crush the small values.
const LOG_RATIO: f64 = 30.0;
/// Input lengths double rather than add up once they span this ratio.
const LOG_LENGTHS: f64 = 5.0;
/// No score is higher.
const MOST: f64 = 100.0;

impl Axis {
    /// Input lengths: a tick at each length there is.
    pub fn lengths(title: &str, values: &[f64]) -> Axis {
        let mut lengths: Vec<f64> = finite(values).collect();
        lengths.sort_by(f64::total_cmp);
        lengths.dedup();
        let (low, high) = match lengths[..] {
            [] => (0.0, 1.0),
            [only] if only > 0.0 => (only * 0.5, only * 1.5),
            [only] => (only - 1.0, only + 1.0),
            [low, .., high] => (low, high),
        };
        let scale = if low > 0.0 && lengths.len() > 1 && high / low > LOG_LENGTHS {
            let edge = (high / low).powf(0.05);
            Scale::Log { low: low / edge, high: high * edge }
        } else {
            let edge = if lengths.len() > 1 { 0.05 * (high - low) } else { 0.0 };
            Scale::Linear { low: low - edge, high: high + edge }
        };
        let tick = |&value: &f64| Tick { value, label: format!("{value}") };
        Axis {
            title: match scale {
                Scale::Linear { .. } => title.into(),
                Scale::Log { .. } => format!("{title}, log scale"),
            },
            scale,
            ticks: lengths.iter().map(tick).collect(),
        }
    }

    /// Costs: from zero, so that lengths on paper compare; logarithmic when they span magnitudes.
    pub fn from_zero(title: &str, values: &[f64]) -> Axis {
        let (least, most) = range(values);
        if least > 0.0 && most / least > LOG_RATIO {
            return log_axis(&format!("{title}, log scale"), least, most);
        }
        linear_axis(title, least.min(0.0), if most > 0.0 { most } else { 1.0 })
    }

    /// Scores of 100 at most: around the values, for their differences matter and zero does not.
    pub fn scores(title: &str, values: &[f64]) -> Axis {
        let (least, most) = range(values);
        let pad = if most > least { 0.08 * (most - least) } else { (0.05 * most.abs()).max(0.5) };
        let floor = if least >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let top = if most <= MOST { MOST } else { f64::INFINITY };
        linear_axis(title, (least - pad).max(floor), (most + pad).min(top))
    }
}

fn linear_axis(title: &str, low: f64, high: f64) -> Axis {
    let step = nice_step(low, high, 4);
    let first = (low / step).floor();
    let last = (high / step).ceil();
    let places = (-step.log10().floor()).max(0.0) as usize;
    // A step of 2.5 needs one more digit than its magnitude tells.
    let digit = step / 10f64.powf(step.log10().floor());
    let places = places + usize::from((digit - digit.round()).abs() > 0.1 && step < 25.0);
    let ticks = (0..=(last - first) as usize).map(|i| {
        let value = (first + i as f64) * step;
        Tick { value, label: decimals(value, places) }
    });
    Axis {
        title: title.into(),
        scale: Scale::Linear { low: first * step, high: last * step },
        ticks: ticks.collect(),
    }
}

/// Ticks at 1, 2 and 5 times the powers of ten, or at the powers alone when those suffice.
fn log_axis(title: &str, least: f64, most: f64) -> Axis {
    let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let wide = most / least > 100.0;
    let digits: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all: Vec<f64> =
        decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade))).collect();
    let low = all.iter().copied().rfind(|&v| v <= least * 1.000_001).unwrap_or(least);
    let high = all.iter().copied().find(|&v| v >= most * 0.999_999).unwrap_or(most);
    let tick =
        |value: f64| Tick { value, label: decimals(value, (-value.log10().floor()).max(0.0) as usize) };
    Axis {
        title: title.into(),
        scale: Scale::Log { low, high },
        ticks: all.into_iter().filter(|v| (low..=high).contains(v)).map(tick).collect(),
    }
}

/// The largest of 1, 2, 2.5 and 5 times a power of ten that gives about `target` steps.
fn nice_step(low: f64, high: f64, target: u32) -> f64 {
    let rough = ((high - low) / f64::from(target)).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let digit =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|digit| digit * power >= rough * 0.999).unwrap_or(10.0);
    digit * power
}

fn finite(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    values.iter().copied().filter(|v| v.is_finite())
}

/// Least and largest finite value; 0 to 1 when there is none.
fn range(values: &[f64]) -> (f64, f64) {
    let least = finite(values).fold(f64::INFINITY, f64::min);
    let most = finite(values).fold(f64::NEG_INFINITY, f64::max);
    if least <= most { (least, most) } else { (0.0, 1.0) }
}
