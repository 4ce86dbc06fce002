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

/// o `[B, T, C]` and the log-sum-exp `[B, H, T]` of the scores: key j enters query i's softmax `times` times, its
/// probability times `factor`.
pub fn attention(
    [q, k, v]: [&[f64]; 3],
    sizes: Sizes,
    times: &dyn Fn(Pair) -> f64,
    factor: &dyn Fn(Pair) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let Sizes { b, t, s, rows, h, d } = sizes;
    let head = |x: usize, h_: usize| (x * h + h_) * d;
    let mut o = vec![0.0; b * t * h * d];
    // In the order of the triples; that of a query that sees nothing is -inf.
    let mut lse = Vec::new();
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
        lse.push(most + total.ln());
        for (n, &at) in seen.iter().enumerate() {
            let p = weight(n) / total * factor(at);
            for c in 0..d {
                o[head(b * t + i, h) + c] += p * v[head(b * rows + at.j, h) + c];
            }
        }
    }
    (o, lse)
}

/// What a format does to the operands of products, and to what is stored. A type, so that loops can have it inline.
pub trait Rounding {
    fn operand(x: f64) -> f64 {
        x
    }

    fn result(x: f64) -> f64 {
        x
    }
}

/// No rounding: the truth.
pub struct Exact;

impl Rounding for Exact {}

/// o, dq, dk and dv of [`attention`] from q, k, v and do, in the order of the formulas, scores and
/// probabilities stored: what a plain program of the format `R` computes.
pub fn backward<R: Rounding>(
    [q, k, v, d_o]: [&[f64]; 4],
    sizes: Sizes,
    times: &dyn Fn(Pair) -> f64,
    factor: &dyn Fn(Pair) -> f64,
) -> [Vec<f64>; 4] {
    let Sizes { b, t, s, rows, h, d } = sizes;
    let dot =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| R::operand(*a) * R::operand(*b)).sum::<f64>();
    let add = |to: &mut [f64], scale: f64, from: &[f64]| {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += R::operand(scale) * R::operand(*from));
    };
    let scale = 1.0 / (d as f64).sqrt();
    let [mut o, mut dq] = [const { Vec::new() }; 2].map(|_: Vec<f64>| vec![0.0; q.len()]);
    let (mut dk, mut dv) = (vec![0.0; k.len()], vec![0.0; k.len()]);
    for (b, h_, i) in triples(b, h, t) {
        let row = |x: usize| (x * h + h_) * d..(x * h + h_) * d + d;
        let (query, key) = (row(b * t + i), |j: usize| row(b * rows + j));
        let pairs = (0..s).map(|j| Pair { b, h: h_, i, j });
        let seen: Vec<Pair> = pairs.filter(|&at| times(at) > 0.0).collect();
        let scores: Vec<f64> =
            seen.iter().map(|at| R::result(scale * dot(&q[query.clone()], &k[key(at.j)]))).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> =
            seen.iter().zip(&scores).map(|(&at, s)| times(at) * (s - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        let p: Vec<f64> = weights.iter().map(|w| R::result(w / total)).collect();
        let dp: Vec<f64> =
            seen.iter().map(|&at| R::result(factor(at) * dot(&d_o[query.clone()], &v[key(at.j)]))).collect();
        let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
        for (n, &at) in seen.iter().enumerate() {
            let (kept, ds) = (R::result(p[n] * factor(at)), R::result(p[n] * (dp[n] - delta)));
            add(&mut o[query.clone()], kept, &v[key(at.j)]);
            add(&mut dv[key(at.j)], kept, &d_o[query.clone()]);
            add(&mut dq[query.clone()], ds, &k[key(at.j)]);
            add(&mut dk[key(at.j)], ds, &q[query.clone()]);
        }
    }
    let finish = |x: Vec<f64>, scale: f64| x.iter().map(|x| R::result(x * scale)).collect();
    [finish(o, 1.0), finish(dq, scale), finish(dk, scale), finish(dv, 1.0)]
}

fn triples(b: usize, h: usize, t: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..b * h * t).map(move |n| (n / t / h, n / t % h, n % t))
}

/// Dropout off.
pub fn all_kept(_: Pair) -> f64 {
    1.0
}
