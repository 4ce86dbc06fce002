//! Sums against i64, rounding against its bound, and the same bits by every way and on any number of threads.

use super::*;
use crate::device::cpu::simd::on_every_level;
use crate::noise::random;

/// Odd lengths, lengths of whole registers and of whole tiles, rows of one and of more than a task's.
const SIZES: [(usize, usize, usize); 13] = [
    (1, 1, 1),
    (1, 5, 63),
    (1, 770, 768),
    (2, 4, 64),
    (3, 9, 65),
    (5, 131, 100),
    (6, 8, 128),
    (7, 10, 333),
    (17, 32, 64),
    (33, 70, 192),
    (97, 6, 96),
    (200, 33, 257),
    (300, 133, 320),
];

fn bytes(seed: u64, n: usize) -> Vec<i8> {
    random(seed, n).into_iter().map(|x| (x * 127.0).round() as i8).collect()
}

/// Sums `[m, n]` of x `[m, k]` with W `[n, k]`, as they are made here.
fn all_sums(x: &[i8], w: &[i8], [m, n, k]: [usize; 3]) -> Vec<i32> {
    let (_, sums) = sums();
    let of_rows: Vec<i32> = x.chunks(k).map(|row| row.iter().map(|&x| i32::from(x)).sum()).collect();
    let mut all = vec![0; m * n];
    for first in (0..n).step_by(W_ROWS) {
        let group = std::array::from_fn(|j| &w[(first + j).min(n - 1) * k..][..k]);
        let mut out = vec![7; m * W_ROWS];
        // SAFETY: what is used here was detected, and all rows are k long.
        unsafe { sums(&mut out, x, &of_rows, group) };
        for (i, out) in out.chunks(W_ROWS).enumerate() {
            for (j, &sum) in (first..n).zip(out) {
                all[i * n + j] = sum;
            }
        }
    }
    all
}

fn truth(x: &[i8], w: &[i8], k: usize) -> Vec<i64> {
    let dot = |x: &[i8], w: &[i8]| x.iter().zip(w).map(|(&x, &w)| i64::from(x) * i64::from(w)).sum();
    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| dot(x, w))).collect()
}

#[test]
fn sums_are_those_of_integers() {
    on_every_level(|| {
        for (m, n, k) in SIZES {
            let (x, w) = (bytes(1, m * k), bytes(2, n * k));
            let got: Vec<i64> = all_sums(&x, &w, [m, n, k]).into_iter().map(i64::from).collect();
            assert_eq!(got, truth(&x, &w, k), "[{m}, {n}, {k}] by {}", way());
        }
    });
}

#[test]
fn the_largest_sums_of_either_sign_fit() {
    on_every_level(|| {
        for k in [LONGEST - 1, LONGEST] {
            for (x, w) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
                let got = all_sums(&vec![x; k], &vec![w; k], [1, 1, k]);
                assert_eq!(i64::from(got[0]), k as i64 * i64::from(x) * i64::from(w), "{x} x {w}, {}", way());
            }
        }
    });
}

#[test]
fn the_largest_sums_of_many_rows_fit() {
    let (m, n, k) = (17, 32, LONGEST);
    on_every_level(|| {
        for (x, w) in [(1.0, 127), (-1.0, 127), (1.0, -127), (-1.0, -127)] {
            let (values, mut c) = (vec![w; n * k], vec![0.0; m * n]);
            let rows = Rows { values: &values, scales: &[1.0; 32] };
            product(&mut c, n, &vec![x; m * k], rows, &[], Size { m, n, k });
            let sum = k as i32 * 127 * i32::from(w) * x as i32;
            assert!(c.iter().all(|&c| c == sum as f32 * (1.0 / MOST)), "{x} x {w}, {}", way());
        }
    });
}

#[test]
fn rounding_is_off_by_half_a_step_and_keeps_the_largest() {
    on_every_level(|| {
        for (rows, k) in [(1, 1), (3, 64), (5, 100), (60, 768)] {
            let mut x = random(3, rows * k);
            // Rows of very different sizes.
            for (i, row) in x.chunks_mut(k).enumerate() {
                row.iter_mut().for_each(|x| *x *= 10f32.powi(i as i32 % 7 - 3));
            }
            let (mut values, mut scales) = (vec![0; rows * k], vec![0.0; rows]);
            quantise(&mut values, &mut scales, &x);
            for ((x, values), &scale) in x.chunks(k).zip(values.chunks(k)).zip(&scales) {
                let largest = x.iter().fold(0.0, |most: f64, &x| most.max(f64::from(x).abs()));
                assert!((f64::from(scale) * 127.0 - largest).abs() <= 1e-7 * largest);
                assert_eq!(values.iter().map(|value| value.unsigned_abs()).max(), Some(127));
                for (&x, &value) in x.iter().zip(values) {
                    let error = (f64::from(value) * f64::from(scale) - f64::from(x)).abs();
                    // In f32, x / scale is off by 127 units in the last place at most.
                    assert!(error <= f64::from(scale) * (0.5 + 127.0 * 3e-7), "{x} became {value} x {scale}");
                }
            }
        }
    });
}

#[test]
fn rows_of_zeros_of_nothing_and_of_no_numbers() {
    let x = [0.0, -0.0, 0.0, 1.0, f32::NAN, 2.0, f32::INFINITY, 0.0, 1.0, 1e-39, 0.0, -1e-40];
    let (mut values, mut scales) = (vec![1; 12], vec![1.0; 4]);
    on_every_level(|| {
        let (mut values, mut scales) = (vec![1; 12], vec![1.0; 4]);
        quantise(&mut values, &mut scales, &x);
        assert_eq!(values, [0; 12]);
        assert!(
            scales[0] == 0.0 && scales[1].is_nan() && scales[2].is_nan() && scales[3] == 0.0,
            "{scales:?}"
        );
    });
    quantise(&mut values, &mut scales, &x);
    let w = [1.0f32; 3];
    let (mut w8, mut w_scale) = ([0; 3], [0.0]);
    quantise(&mut w8, &mut w_scale, &w);
    let mut c = [5.0; 4];
    product(&mut c, 1, &x, Rows { values: &w8, scales: &w_scale }, &[0.5], Size { m: 4, n: 1, k: 3 });
    assert!(c[0] == 0.5 && c[1].is_nan() && c[2].is_nan() && c[3] == 0.5, "a NaN is not hidden: {c:?}");
}

/// C of random operands with a gap behind each row, in bits.
fn product_of(m: usize, n: usize, k: usize) -> Vec<u32> {
    let (x, w, bias) = (random(4, m * k), random(5, n * k), random(6, n));
    let (mut values, mut scales) = (vec![0; n * k], vec![0.0; n]);
    quantise(&mut values, &mut scales, &w);
    let stride = n + 3;
    let mut c = vec![0.25f32; m * stride];
    product(&mut c, stride, &x, Rows { values: &values, scales: &scales }, &bias, Size { m, n, k });
    for (i, row) in c.chunks(stride).enumerate() {
        assert!(row[n..].iter().all(|&x| x == 0.25), "written beyond row {i}");
        let x = &x[i * k..][..k];
        let largest = x.iter().fold(0.0, |most: f64, &x| most.max(f64::from(x).abs()));
        for (j, &got) in row[..n].iter().enumerate() {
            let w = &w[j * k..][..k];
            let dot = |x: &[f32], w: &[f32]| -> f64 {
                x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
            };
            let size = |x: &[f32]| -> f64 { x.iter().map(|&x| f64::from(x).abs()).sum() };
            // Half a step of every weight times its value of x, half a step of every value of x times its weight, and
            // both at once.
            let (step_x, step_w) = (largest / 127.0, f64::from(scales[j]));
            let bound = 0.5 * (step_w * size(x) + step_x * size(w)) + 0.25 * step_w * step_x * k as f64;
            let error = (f64::from(got) - dot(x, w) - f64::from(bias[j])).abs();
            assert!(
                error <= bound * 1.001 + 1e-5,
                "[{m}, {n}, {k}] at ({i}, {j}): off by {error} of {bound}"
            );
        }
    }
    c.into_iter().map(f32::to_bits).collect()
}

#[test]
fn every_way_gives_the_same_bits() {
    for (m, n, k) in SIZES {
        let want = product_of(m, n, k);
        on_every_level(|| assert_eq!(product_of(m, n, k), want, "[{m}, {n}, {k}] by {}", way()));
    }
}

/// Packing, loops and the way back on a twin of the tiles in plain Rust.
#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_give_the_same_bits() {
    for (m, n, k) in [(17, 32, 64), (33, 64, 192), (64, 96, 128), (300, 32, 576)] {
        let (x, weight, bias) = (random(4, m * k), random(5, n * k), random(6, n));
        let (mut values, mut scales) = (vec![0; n * k], vec![0.0; n]);
        quantise(&mut values, &mut scales, &weight);
        let w = Rows { values: &values, scales: &scales };
        let (mut values, mut scales, mut sums) = (vec![0; m * k], vec![0.0; m], vec![0; m]);
        round(&mut values, &mut scales, &mut sums, &x);
        let size = Size { m, n, k };
        for bias in [&bias[..], &[]] {
            let of = |tiles: bool| {
                let x = Rounded { rows: Rows { values: &values, scales: &scales }, sums: &sums };
                let mut c = vec![f32::NAN; (m - 1) * (n + 5) + n];
                match tiles {
                    // SAFETY: the twin is plain Rust.
                    true => unsafe {
                        blocks::multiply(blocks::on_twin_of_tiles(), &mut c, n + 5, &x, w, bias, size)
                    },
                    false => multiply(&mut c, n + 5, x, w, bias, size),
                }
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert!(of(true) == of(false), "[{m}, {n}, {k}]");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (m, n, k) in [(1, 770, 768), (200, 333, 257), (300, 40, 1030)] {
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| product_of(m, n, k))
        };
        let want = of(1);
        for threads in [2, 3, 8] {
            assert_eq!(of(threads), want, "{threads} threads");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let (m, n, k) = (13, 9, 300);
    let (x, w) = (random(7, m * k), random(8, n * k));
    let (mut values, mut scales) = (vec![0; n * k], vec![0.0; n]);
    quantise(&mut values, &mut scales, &w);
    let w = Rows { values: &values, scales: &scales };
    let mut together = vec![0.0; m * n];
    product(&mut together, n, &x, w, &[], Size { m, n, k });
    for (x, want) in x.chunks(k).zip(together.chunks(n)) {
        let mut alone = vec![0.0; n];
        product(&mut alone, n, x, w, &[], Size { m: 1, n, k });
        assert_eq!(alone, want);
    }
}

#[test]
fn widened_rows_are_values_times_scales() {
    let (values, scales) = ([1i8, -127, 0, 5, 3, -2], [0.5f32, 2.0]);
    let mut to = [9.0; 6];
    widen(&mut to, Rows { values: &values, scales: &scales });
    assert_eq!(to, [0.5, -63.5, 0.0, 10.0, 6.0, -4.0]);
}
