//! One task on every level, against f64 sums over the keys that it sees.

use super::*;
use crate::device::cpu::simd::on_every_level;
use crate::noise::random;
use crate::support::compare::assert_near;
use half::bf16;

const H: usize = 2;
/// Rows of the cache, and keys that each has room for.
const CACHE: (usize, usize) = (3, 170);
/// The keys of the task: two whole tiles and a ragged one, none of them where the cache begins or ends.
const KEYS_WALKED: std::ops::Range<usize> = 5..150;

#[derive(Clone, Copy, Debug)]
enum Hidden {
    Nothing,
    Some,
    /// All keys of the first tile, so that its softmax has nothing to begin with.
    FirstTile,
    Everything,
}

impl Hidden {
    fn hides(self, j: usize) -> bool {
        match self {
            Hidden::Nothing => false,
            Hidden::Some => j * 7 % 11 == 3,
            Hidden::FirstTile => j < KEYS_WALKED.start + TILE || j % 5 == 2,
            Hidden::Everything => true,
        }
    }
}

/// One query before the task's own, and its index: one cache row for all, or one for each key.
struct Case {
    t: usize,
    d: usize,
    columns: usize,
    hidden: Hidden,
}

impl Case {
    fn index(&self) -> Vec<i32> {
        let row = |at: usize| if self.columns == 1 { 1 } else { at * 5 / 3 % CACHE.0 };
        (0..(self.t + 1) * self.columns).map(|at| row(at) as i32).collect()
    }

    /// Places in the cache of the keys that query `n` sees.
    fn seen(&self, n: usize) -> Vec<usize> {
        let index = self.index();
        let column = |j| if self.columns == 1 { 0 } else { j };
        let place = |j| index[n * self.columns + column(j)] as usize * CACHE.1 + j;
        KEYS_WALKED.filter(|&j| !self.hidden.hides(j)).map(place).collect()
    }

    /// Keys or values; NaN in each that no query of the task sees.
    fn cache<E: Operand>(&self, seed: u64) -> Vec<E> {
        let mut cache = random(seed, CACHE.0 * CACHE.1 * H * self.d);
        let seen: Vec<usize> = (1..=self.t).flat_map(|n| self.seen(n)).collect();
        for (place, key) in cache.chunks_exact_mut(H * self.d).enumerate() {
            if !seen.contains(&place) {
                key.fill(f32::NAN);
            }
        }
        cache.into_iter().map(E::narrow).collect()
    }

    fn check<E: Operand>(&self) {
        let Case { t, d, columns, hidden } = *self;
        let (q, index) = (random(1, (t + 1) * H * d), self.index());
        let (k, v) = (self.cache::<E>(2), self.cache::<E>(3));
        let states: Vec<i32> = (0..CACHE.0 * CACHE.1).map(|at| !hidden.hides(at % CACHE.1) as i32).collect();
        let key_state = if matches!(hidden, Hidden::Nothing) { &[][..] } else { &states[..] };
        let sizes = Sizes { n: t + 1, h: H, d, s: KEYS_WALKED.end, rows: CACHE.1, columns };
        let scale = 3.0 / (d as f32).sqrt();
        let x = Decode { q: &q, k: &k, v: &v, key_state, index: &index, sizes, scale };
        x.check();
        on_every_level(|| {
            let mut part = vec![f32::NAN; t * H * (d + 2)];
            let mut scores = vec![f32::NAN; t * H * TILE];
            let task = Task { first: 1, count: t, from: KEYS_WALKED.start, to: KEYS_WALKED.end };
            attend(&mut part, &mut scores, &x, task);
            self.compare(&part, &x);
        });
    }

    fn compare<E: Operand>(&self, part: &[f32], x: &Decode<E>) {
        let Case { t, d, columns, hidden } = *self;
        let (max, rest) = part.split_at(t * H);
        let (sum, o) = rest.split_at(t * H);
        for row in 0..t * H {
            let (n, head) = (row / H + 1, row % H);
            let q = &x.q[(n * H + head) * d..][..d];
            let at = |place: usize, c: usize| (place * H + head) * d + c;
            let score = |place: &usize| {
                let product = |c| q[c] as f64 * x.k[at(*place, c)].wide() as f64;
                (0..d).map(product).sum::<f64>() * x.scale as f64
            };
            let seen = self.seen(n);
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let what = |name: &str| {
                format!("{name} of {t} x {d}, {columns} columns, {hidden:?} hidden, row {row} {:?}", level())
            };
            let want_max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_near(&what("max"), &max[row..=row], &[want_max], 2e-6);
            // Powers are of the maximum as it was rounded.
            let powers: Vec<f64> = scores.iter().map(|score| (score - max[row] as f64).exp()).collect();
            let want_sum: f64 = powers.iter().sum();
            assert_near(&what("sum"), &sum[row..=row], &[want_sum], 2e-6);
            let mean = |sum: f64, of: f64| if of == 0.0 { sum } else { sum / of };
            let weighed = |c| -> f64 {
                powers.iter().zip(&seen).map(|(p, &place)| p * x.v[at(place, c)].wide() as f64).sum()
            };
            let want: Vec<f64> = (0..d).map(|c| mean(weighed(c), want_sum)).collect();
            let got = o[row * d..][..d].iter().map(|&o| mean(o as f64, sum[row] as f64) as f32);
            assert_near(&what("o"), &got.collect::<Vec<_>>(), &want, 2e-6);
        }
    }
}

#[test]
fn queries_that_share_their_keys() {
    for d in [20, 64, 72, 128] {
        for t in 1..=5 {
            for hidden in [Hidden::Nothing, Hidden::Some, Hidden::FirstTile, Hidden::Everything] {
                let case = Case { t, d, columns: 1, hidden };
                case.check::<f32>();
                case.check::<bf16>();
            }
        }
    }
}

#[test]
fn a_query_whose_keys_lie_in_many_rows() {
    for d in [20, 64, 72, 128] {
        for hidden in [Hidden::Nothing, Hidden::Some, Hidden::FirstTile, Hidden::Everything] {
            let case = Case { t: 1, d, columns: CACHE.1, hidden };
            case.check::<f32>();
            case.check::<bf16>();
        }
    }
}
