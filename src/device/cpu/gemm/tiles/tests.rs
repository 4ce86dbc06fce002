//! Packing and loops over a twin of the tile instructions in plain Rust, and over the real ones where they are.

use super::*;
use crate::device::cpu::features::with_all;
use crate::device::cpu::gemm::{Matrix, Output, Size, Store, blocked};
use crate::noise::random;
use crate::shape::Stored;

fn twin() -> Product<bf16> {
    with("twin", run::<Twin>)
}

fn narrow(seed: u64, n: usize) -> Vec<bf16> {
    random(seed, n).into_iter().map(bf16::from_f32).collect()
}

const SIZES: [(usize, usize, usize); 6] =
    [(1, 1, 1), (3, 50, 64), (33, 49, 33), (32, 32, 32), (70, 64, 1600), (64, 97, 31)];

#[test]
fn every_form_and_ragged_size_matches_f64() {
    for (m, n, k) in SIZES {
        let (a, b) = (narrow(1, m * k), narrow(2, k * n));
        for left in [Matrix::rows(&a, k), Matrix::transposed(&a, m)] {
            for right in [Matrix::rows(&b, n), Matrix::transposed(&b, k)] {
                for (alpha, store) in [(1.0, Store::Assign), (1.0, Store::Add), (-0.5, Store::Add)] {
                    let start = match store {
                        Store::Assign => vec![f32::NAN; m * (n + 3)],
                        Store::Add => random(3, m * (n + 3)),
                    };
                    let mut c = start.clone();
                    let size = Size { m, n, k };
                    let out = Output { c: &mut c, stride: n + 3, alpha, store, bias: &[] };
                    blocked(&twin(), out, left, right, size);
                    let at = |x: &Matrix<bf16>, i: usize, j: usize| {
                        f64::from(x.data[i * x.row_stride + j * x.column_stride].wide())
                    };
                    for i in 0..m {
                        for j in 0..n + 3 {
                            let here = i * (n + 3) + j;
                            if j >= n {
                                assert_eq!(c[here].to_bits(), start[here].to_bits(), "wrote past row {i}");
                                continue;
                            }
                            let sum: f64 = (0..k).map(|p| at(&left, i, p) * at(&right, p, j)).sum();
                            let old = if store == Store::Add { f64::from(start[here]) } else { 0.0 };
                            let error = (f64::from(c[here]) - f64::from(alpha) * sum - old).abs();
                            assert!(
                                error <= 1e-6 + 6e-8 * k as f64,
                                "{size:?} at ({i}, {j}): off by {error}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn bits_are_those_of_the_registers_and_do_not_depend_on_the_threads() {
    for (m, n, k) in SIZES {
        let (a, b) = (narrow(1, m * k), narrow(2, k * n));
        let on = |product: &Product<bf16>, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0f32; m * n];
            let (a, b) = (Matrix::rows(&a, k), Matrix::transposed(&b, k));
            let out = Output { c: &mut c, stride: n, alpha: 1.0, store: Store::Assign, bias: &[] };
            pool.install(|| blocked(product, out, a, b, Size { m, n, k }));
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let want = on(&twin(), 1);
        assert_eq!(on(&twin(), 3), want);
        if let Some(product) = with_all(|| has(Feature::Amx).then(product)) {
            assert_eq!(on(&product, 1), want);
            assert_eq!(on(&product, 3), want);
        }
    }
}

#[test]
fn a_round_is_four_products_of_tiles() {
    // SAFETY: plain Rust.
    let (of_bf16, of_bytes) = unsafe { (rounds_on::<Twin, false>(3), rounds_on::<Twin, true>(3)) };
    assert_eq!(of_bf16, (3 * 4 * 16 * 16 * 32, 0.0));
    assert_eq!(of_bytes, (3 * 4 * 16 * 16 * 64, 0.0));
}
