//! Every pattern against plain f64 loops over all pairs.

mod reference;

use super::*;
use crate::device::cpu::features::with_all;
use crate::device::cpu::gemm::Store;
use crate::device::cpu::simd::{level, on_every_level};
use crate::noise::random;
use crate::shape::Stored;
use crate::support::compare::assert_near;
use half::bf16;
use reference::{Reference, reference};
use way::twin_of_vectors;

/// Outputs that start as NaN, so that whatever is not written shows.
fn run<E: Stored>(way: impl Fn() -> Way<E>, a: &Attention<E>, dout: &[E], store: Store) -> [Vec<f32>; 5] {
    let mut o = vec![f32::NAN; a.q.len()];
    let mut lse = vec![f32::NAN; a.sizes.b * a.sizes.h * a.sizes.t];
    attention_forward(way(), &mut o, &mut lse, a);
    let start = if store == Store::Add { 0.5 } else { f32::NAN };
    let (mut dq, mut dk, mut dv) = (vec![start; a.q.len()], vec![start; a.k.len()], vec![start; a.k.len()]);
    let gradients = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv, store: [store; 3] };
    let stored: Vec<E> = o.iter().map(|&x| E::narrow(x)).collect();
    attention_backward(way(), gradients, dout, &stored, &lse, a);
    [o, lse, dq, dk, dv]
}

fn rounded(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::narrow(x)).collect()
}

fn check(sizes: Sizes, pattern: Pattern, dropout: Option<Mask>) {
    let Sizes { b, t, h, d, s_capacity, .. } = sizes;
    let (q, dout) = (random(1, b * t * h * d), random(4, b * t * h * d));
    let (k, v) = (random(2, b * s_capacity * h * d), random(3, b * s_capacity * h * d));
    let scale = 1.7 / (d as f32).sqrt();
    let a = Attention { q: &q, k: &k, v: &v, sizes, scale, pattern, dropout };
    let want = reference(&a, &dout);
    for store in [Store::Assign, Store::Add] {
        on_every_level(|| compare(&a, run(Way::floats, &a, &dout, store), store, &want, FLOATS));
    }
    let [rounded_q, rounded_k, rounded_v, rounded_dout] = [&q, &k, &v, &dout].map(|x| rounded(x));
    let wide = |x: &[bf16]| x.iter().map(|&x| x.wide()).collect::<Vec<f32>>();
    let [q, k, v, dout] = [&rounded_q, &rounded_k, &rounded_v, &rounded_dout].map(|x| wide(x));
    let want = reference(&Attention { q: &q, k: &k, v: &v, sizes, scale, pattern, dropout }, &dout);
    let (q, k, v) = (&rounded_q[..], &rounded_k[..], &rounded_v[..]);
    let a = Attention { q, k, v, sizes, scale, pattern, dropout };
    for (twin, on_processor) in PAIRS_OF_BF16 {
        for store in [Store::Assign, Store::Add] {
            let twin = run(twin, &a, &rounded_dout, store);
            if with_all(on_processor).is_some() {
                let pairs = run(|| with_all(on_processor).unwrap(), &a, &rounded_dout, store);
                let bits =
                    |all: &[Vec<f32>; 5]| all.concat().iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert!(bits(&pairs) == bits(&twin), "pairs are not those of the twin: {sizes:?}");
            }
            compare(&a, twin, store, &want, PAIRS);
        }
    }
}

/// A way in plain Rust, and the same of the processor, where it has it.
type Twins = (fn() -> Way<bf16>, fn() -> Option<Way<bf16>>);

/// The ways by pairs of bf16.
const PAIRS_OF_BF16: &[Twins] = &[
    (twin_of_vectors, Way::on_vectors),
    #[cfg(target_arch = "x86_64")]
    (Way::on_twin, Way::on_tiles),
];

/// How near o, lse, dq, dk and dv are to the truth.
const FLOATS: [f64; 5] = [2e-6, 2e-6, 5e-6, 1e-5, 1e-5];
/// A probability, and the gradient of a score, is rounded to 8 significant bits.
const PAIRS: [f64; 5] = [4e-3, 2e-6, 4e-3, 8e-3, 8e-3];

fn compare<E>(a: &Attention<E>, got: [Vec<f32>; 5], store: Store, want: &Reference, bounds: [f64; 5]) {
    let [o, lse, mut dq, mut dk, mut dv] = got;
    if store == Store::Add {
        for x in dq.iter_mut().chain(&mut dk).chain(&mut dv) {
            *x -= 0.5;
        }
    }
    let what = |name: &str| format!("{name} of {:?} {store:?} {:?}", a.sizes, level());
    assert_near(&what("o"), &o, &want.o, bounds[0]);
    assert_near(&what("lse"), &lse, &want.lse, bounds[1]);
    assert_near(&what("dq"), &dq, &want.dq, bounds[2]);
    assert_near(&what("dk"), &dk, &want.dk, bounds[3]);
    assert_near(&what("dv"), &dv, &want.dv, bounds[4]);
}

fn sizes(b: usize, t: usize, s: usize, h: usize, d: usize) -> Sizes {
    Sizes { b, t, s, h, d, s_capacity: s }
}

/// States with hidden keys here and there, and a hidden tail in the second sample.
fn states(b: usize, s: usize) -> Vec<i32> {
    let hidden = |b: usize, j: usize| (j * 7 + b) % 11 == 3 || b == 1 && j >= s - s / 3;
    (0..b * s).map(|at| !hidden(at / s, at % s) as i32).collect()
}

#[test]
fn dense() {
    for (t, s) in [(1, 1), (1, 70), (5, 3), (16, 64), (17, 65), (64, 64), (130, 200)] {
        for d in [12, 16, 33, 64] {
            let open = Pattern::Dense { causal: None, key_state: None };
            check(sizes(2, t, s, 2, d), open, None);
        }
    }
    check(sizes(1, 70, 70, 1, 128), Pattern::Dense { causal: None, key_state: None }, None);
}

/// Enough queries for tasks of several tiles each; the last ones see keys that the first do not.
#[test]
fn tiles_of_queries_together() {
    let (b, s, h, d) = (2, 600, 1, 16);
    let key_state = states(b, s);
    check(sizes(b, s, s, h, d), Pattern::Dense { causal: Some(0), key_state: Some(&key_state) }, None);
    for window in [20, 64, 100] {
        let (key_state, global_index) = window_tables(b, s, &[0, 70, 200]);
        let pattern = Pattern::Window { window, key_state: &key_state, global_index: &global_index };
        check(sizes(b, s, s, h, d), pattern, None);
    }
    let mask = Some(Mask::new(7, 3, 0.2));
    check(sizes(1, 600, 90, 2, d), Pattern::Dense { causal: None, key_state: None }, mask);
}

#[test]
fn dense_with_hidden_keys() {
    let (b, t, s) = (2, 66, 150);
    let mut key_state = states(b, s);
    check(sizes(b, t, s, 2, 16), Pattern::Dense { causal: None, key_state: Some(&key_state) }, None);
    // A whole tile hidden in one sample, everything in the other.
    key_state[..64].fill(0);
    key_state[s..].fill(0);
    check(sizes(b, t, s, 2, 16), Pattern::Dense { causal: None, key_state: Some(&key_state) }, None);
}

#[test]
fn causal_with_and_without_a_cache() {
    for (t, s, offset) in [
        (1, 1, 0),
        (70, 70, 0),
        (130, 130, 0),
        (1, 77, 76),
        (3, 100, 97),
        (5, 200, 60),
        (8, 600, 592),
        (12, 300, 288),
        (80, 20, 0),
    ] {
        let pattern = Pattern::Dense { causal: Some(offset), key_state: None };
        check(Sizes { s_capacity: s + 9, ..sizes(2, t, s, 2, 16) }, pattern, None);
    }
    // A cache that is not full, with a state for each of its rows.
    let key_state = states(2, 120);
    for t in [1, 100] {
        let pattern = Pattern::Dense { causal: Some(100 - t), key_state: Some(&key_state) };
        let cached = Sizes { s_capacity: 120, ..sizes(2, t, 100, 1, 32) };
        check(cached, pattern, None);
    }
}

/// Marks `globals` in every sample and lists those that are not hidden.
fn window_tables(b: usize, s: usize, globals: &[usize]) -> (Vec<i32>, Vec<i32>) {
    let mut key_state = states(b, s);
    let mut index = Vec::new();
    for sample in 0..b {
        let mut row = Vec::new();
        for &g in globals {
            if key_state[sample * s + g] != 0 {
                key_state[sample * s + g] = 2;
                row.push(g as i32);
            }
        }
        row.resize(globals.len(), -1);
        index.extend(row);
    }
    (key_state, index)
}

#[test]
fn window_with_global_keys() {
    let cases: [(usize, usize, &[usize]); 7] = [
        (1, 1, &[]),
        (1, 4, &[0]),
        (64, 1, &[0]),
        (130, 20, &[0, 5, 64, 100]),
        (200, 64, &[]),
        (300, 70, &[0, 299]),
        (150, 1000, &[1]),
    ];
    for (s, window, globals) in cases {
        for d in [12, 64] {
            let (key_state, global_index) = window_tables(2, s, globals);
            let pattern = Pattern::Window { window, key_state: &key_state, global_index: &global_index };
            check(sizes(2, s, s, 2, d), pattern, None);
        }
    }
    // More global keys than a tile holds.
    let many: Vec<usize> = (0..90).map(|g| 2 * g).collect();
    let (key_state, global_index) = window_tables(2, 200, &many);
    let pattern = Pattern::Window { window: 9, key_state: &key_state, global_index: &global_index };
    check(sizes(2, 200, 200, 1, 16), pattern, None);
}

/// A table of blocks per head: its own, its neighbours', the first twice over, and one row of all.
fn block_tables(h: usize, n: usize) -> [Vec<i32>; 3] {
    let (mut row_ptr, mut col, mut count) = (Vec::new(), Vec::new(), Vec::new());
    for head in 0..h {
        for row in 0..n {
            row_ptr.push(col.len() as i32);
            let listed: Vec<usize> = match row {
                0 => (0..n).collect(),
                _ => vec![0, row - 1, row, (row * 5 + head) % n],
            };
            for key in 0..n {
                let times = listed.iter().filter(|&&k| k == key).count() + (key == 0) as usize;
                if listed.contains(&key) {
                    col.push(key as i32);
                    count.push(times as i32);
                }
            }
        }
        row_ptr.push(col.len() as i32);
    }
    [row_ptr, col, count]
}

#[test]
fn block_sparse_with_multiplicities() {
    for (block, n, d) in
        [(1, 1, 12), (4, 5, 12), (16, 9, 16), (64, 4, 64), (64, 1, 33), (96, 3, 16), (128, 2, 16)]
    {
        let (b, h, s) = (2, 2, block * n);
        let [row_ptr, col, count] = block_tables(h, n);
        let key_state = states(b, s);
        let mut one_hidden = key_state.clone();
        one_hidden[..s].fill(0);
        let pattern = |key_state| Pattern::BlockSparse {
            block,
            row_ptr: &row_ptr,
            col: &col,
            count: &count,
            key_state,
        };
        check(sizes(b, s, s, h, d), pattern(&key_state), None);
        check(sizes(b, s, s, h, d), pattern(&one_hidden), None);
    }
}

#[test]
fn dropout_is_the_masks_own() {
    let mask = Some(Mask::new(77, 5, 0.25));
    check(sizes(2, 70, 90, 2, 16), Pattern::Dense { causal: None, key_state: None }, mask);
    check(sizes(2, 3, 90, 2, 16), Pattern::Dense { causal: Some(80), key_state: None }, mask);
    let (key_state, global_index) = window_tables(2, 130, &[0, 7, 100]);
    let pattern = Pattern::Window { window: 30, key_state: &key_state, global_index: &global_index };
    check(sizes(2, 130, 130, 2, 16), pattern, mask);
    let [row_ptr, col, count] = block_tables(2, 6);
    let key_state = states(2, 96);
    let pattern = Pattern::BlockSparse {
        block: 16,
        row_ptr: &row_ptr,
        col: &col,
        count: &count,
        key_state: &key_state,
    };
    check(sizes(2, 96, 96, 2, 12), pattern, mask);
}

#[test]
fn large_scores_do_not_overflow() {
    let sizes = sizes(1, 40, 100, 1, 16);
    let (q, k, v) = (random(1, 640), random(2, 1600), random(3, 1600));
    let pattern = Pattern::Dense { causal: None, key_state: None };
    let a = Attention { q: &q, k: &k, v: &v, sizes, scale: 300.0, pattern, dropout: None };
    let dout = random(4, 640);
    let of_floats = run(Way::floats, &a, &dout, Store::Assign);
    let [q, k, v, dout] = [&q, &k, &v, &dout].map(|x| rounded(x));
    let a = Attention { q: &q, k: &k, v: &v, sizes, scale: 300.0, pattern, dropout: None };
    for x in of_floats.into_iter().chain(run(twin_of_vectors, &a, &dout, Store::Assign)) {
        assert!(x.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn a_gradient_nobody_wants_is_left_out() {
    let sizes = sizes(1, 20, 30, 1, 16);
    let (q, k, v, dout) = (random(1, 320), random(2, 480), random(3, 480), random(4, 320));
    let pattern = Pattern::Dense { causal: None, key_state: None };
    let a = Attention { q: &q, k: &k, v: &v, sizes, scale: 0.25, pattern, dropout: None };
    let [o, lse, _, _, dv_all] = run(Way::floats, &a, &dout, Store::Assign);
    let mut dv = vec![f32::NAN; 480];
    let gradients = Gradients { dq: &mut [], dk: &mut [], dv: &mut dv, store: [Store::Assign; 3] };
    attention_backward(Way::floats(), gradients, &dout, &o, &lse, &a);
    assert_eq!(dv, dv_all);
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let (b, s, h, d) = (2, 300, 3, 16);
    let (key_state, global_index) = window_tables(b, s, &[0, 150]);
    let pattern = Pattern::Window { window: 50, key_state: &key_state, global_index: &global_index };
    let n = b * s * h * d;
    let (q, k, v, dout) = (random(1, n), random(2, n), random(3, n), random(4, n));
    let a =
        Attention { q: &q, k: &k, v: &v, sizes: sizes(b, s, s, h, d), scale: 0.25, pattern, dropout: None };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let outputs = pool.install(|| run(Way::floats, &a, &dout, Store::Assign));
        outputs.map(|x| x.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    assert_eq!(on(1), on(2));
    assert_eq!(on(1), on(5));
}
