//! Softmax attention in f64, the pattern given pair by pair.

/// One query-key pair of one head.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub b: usize,
    pub h: usize,
    /// Query.
    pub i: usize,
    /// Key.
    pub j: usize,
}

/// Sizes by the letters of the legend; k and v have `rows` rows, of which `s` count.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub b: usize,
    pub t: usize,
    pub s: usize,
    pub rows: usize,
    pub h: usize,
    pub d: usize,
}

impl Sizes {
    pub fn square(b: usize, s: usize, h: usize, d: usize) -> Self {
        let (t, rows) = (s, s);
        Sizes { b, t, s, rows, h, d }
    }

    /// Element number of a pair in the dropout mask `[B, H, T, S]`.
    pub fn element(&self, at: Pair) -> u64 {
        (((at.b * self.h + at.h) * self.t + at.i) * self.s + at.j) as u64
    }
}

/// o `[B, T, C]`: key j enters query i's softmax `times` times, its probability times `factor`.
pub fn attention(
    [q, k, v]: [&[f64]; 3],
    sizes: Sizes,
    times: &dyn Fn(Pair) -> f64,
    factor: &dyn Fn(Pair) -> f64,
) -> Vec<f64> {
    let Sizes { b, t, s, rows, h, d } = sizes;
    let head = |x: usize, h_: usize| (x * h + h_) * d;
    let mut o = vec![0.0; b * t * h * d];
    for (b, h, i) in triples(b, h, t) {
        let q = &q[head(b * t + i, h)..][..d];
        let pairs = (0..s).map(|j| Pair { b, h, i, j });
        let seen: Vec<Pair> = pairs.filter(|&at| times(at) > 0.0).collect();
        let score = |at: &Pair| {
            let k = &k[head(b * rows + at.j, h)..][..d];
            q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (d as f64).sqrt()
        };
        let scores: Vec<f64> = seen.iter().map(score).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let weight = |n: usize| times(seen[n]) * (scores[n] - most).exp();
        let total: f64 = (0..seen.len()).map(weight).sum();
        for (n, &at) in seen.iter().enumerate() {
            let p = weight(n) / total * factor(at);
            for c in 0..d {
                o[head(b * t + i, h) + c] += p * v[head(b * rows + at.j, h) + c];
            }
        }
    }
    o
}

fn triples(b: usize, h: usize, t: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..b * h * t).map(move |n| (n / t / h, n / t % h, n % t))
}

/// Dropout off.
pub fn all_kept(_: Pair) -> f64 {
    1.0
}
