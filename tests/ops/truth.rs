//! The ops as their papers write them, one loop per sum, in f64.

use wattention::cases::Site;

/// y = x Wᵀ + b for W `[O, I]`.
pub fn linear(x: &[f64], w: &[f64], b: Option<&[f64]>, i: usize) -> Vec<f64> {
    let mut y = Vec::new();
    for x in x.chunks(i) {
        for (o, w) in w.chunks(i).enumerate() {
            let dot: f64 = x.iter().zip(w).map(|(x, w)| x * w).sum();
            y.push(dot + b.map_or(0.0, |b| b[o]));
        }
    }
    y
}

/// The error function by its all-positive series (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        // 1 - erf(6) is 2e-17.
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..400 {
        term *= 2.0 * x * x / (2 * n + 1) as f64;
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
}

pub fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

pub fn relu(x: f64) -> f64 {
    x.max(0.0)
}

pub fn layer_norm(x: &[f64], w: &[f64], b: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for x in x.chunks(w.len()) {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let normal = |x: f64| (x - mean) / (variance + eps).sqrt();
        y.extend((0..x.len()).map(|c| normal(x[c]) * w[c] + b[c]));
    }
    y
}

/// Loss of logits h Eᵀ + bias with label smoothing, as torch's `cross_entropy` before its mean.
pub fn cross_entropy(logits: &[f64], labels: &[i32], v: usize, smoothing: f64) -> f64 {
    let mut loss = 0.0;
    for (row, &label) in logits.chunks(v).zip(labels) {
        let most = row.iter().copied().fold(f64::MIN, f64::max);
        let lse = most + row.iter().map(|l| (l - most).exp()).sum::<f64>().ln();
        let mean = row.iter().sum::<f64>() / v as f64;
        loss += (1.0 - smoothing) * (lse - row[label as usize]) + smoothing * (lse - mean);
    }
    loss
}

/// What dropout multiplies element `e` by.
pub fn dropout(at: Site, e: u64) -> f64 {
    let stream = at.randomness.step << 16 | at.site as u64;
    let words = philox([e / 4, stream], at.randomness.seed);
    match words[(e % 4) as usize] as f64 >= (at.p as f64 * 2f64.powi(32)).round() {
        true => 1.0 / (1.0 - at.p as f64),
        false => 0.0,
    }
}

/// Philox4x32-10 (Salmon et al. 2011, section 3.3) of a 128-bit counter, low half first.
fn philox(counter: [u64; 2], key: u64) -> [u32; 4] {
    let mut c = [counter[0], counter[0] >> 32, counter[1], counter[1] >> 32].map(|w| w as u32);
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        let (a, b) = (0xD251_1F53 * c[0] as u64, 0xCD9E_8D57 * c[2] as u64);
        let high = [(a >> 32) as u32, (b >> 32) as u32];
        c = [high[1] ^ c[1] ^ k[0], b as u32, high[0] ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// The first answer that Random123 publishes for philox4x32x10.
#[test]
fn philox_gives_the_published_answer() {
    assert_eq!(philox([0; 2], 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
}

/// Abramowitz and Stegun, table 7.1.
#[test]
fn erf_gives_the_tabled_values() {
    for (x, want) in [(0.5, 0.5204998778), (1.0, 0.8427007929), (2.0, 0.9953222650)] {
        assert!((erf(x) - want).abs() <= 1e-10 && (erf(-x) + want).abs() <= 1e-10);
    }
}
