//! Accuracy beside that of f32, and the same bits by instructions as by their twins.

use super::super::{Matrix, Output, Size, Store, blocked};
use super::*;
use crate::device::cpu::features::{Feature, has, with_all};
use crate::noise::random;

fn twin() -> Product<f32> {
    with("twin", run::<Twin>)
}

fn by(of: &Product<f32>, a: Matrix, b: Matrix, size: Size, store: Store) -> Vec<f32> {
    let mut c = random(3, size.m * size.n);
    let out = Output { c: &mut c, stride: size.n, alpha: 1.0, store, bias: &[] };
    blocked(of, out, a, b, size);
    c
}

/// Relative to the whole result, as the goldens are judged; f32 in order is worse.
#[test]
fn every_form_and_ragged_size_is_as_exact_as_f32() {
    for (m, n, k) in [(1, 1, 1), (7, 33, 65), (17, 20, 300), (16, 32, 1100)] {
        let (a, b) = (random(1, m * k), random(2, k * n));
        let lefts = [Matrix::rows(&a, k), Matrix::transposed(&a, m)];
        let rights = [Matrix::rows(&b, n), Matrix::transposed(&b, k)];
        for (left, right) in lefts.into_iter().flat_map(|left| rights.map(|right| (left, right))) {
            let size = Size { m, n, k };
            let at = |x: &Matrix, i: usize, j: usize| x.data[i * x.row_stride + j * x.column_stride];
            let got = by(&twin(), left, right, size, Store::Assign);
            let (mut error, mut in_order, mut norm) = (0.0, 0.0, 0.0);
            for (here, got) in got.iter().enumerate() {
                let terms = (0..k).map(|p| (at(&left, here / n, p), at(&right, p, here % n)));
                let want: f64 = terms.clone().map(|(a, b)| f64::from(a) * f64::from(b)).sum();
                let plain = terms.fold(0f32, |sum, (a, b)| a.mul_add(b, sum));
                error += (f64::from(*got) - want).powi(2);
                in_order += (f64::from(plain) - want).powi(2);
                norm += want * want;
            }
            let [error, in_order] = [error, in_order].map(|squares| (squares / norm).sqrt());
            let allowed = 3e-7f64.max(in_order);
            assert!(error <= allowed, "{size:?} off by {error:e}, f32 in order by {in_order:e}");
        }
    }
}

#[test]
fn bits_on_tiles_are_those_of_their_twin_and_do_not_depend_on_the_threads() {
    for (m, n, k) in [(5, 9, 33), (40, 70, 700)] {
        let (a, b, size) = (random(1, m * k), random(2, k * n), Size { m, n, k });
        let (a, b) = (Matrix::rows(&a, k), Matrix::transposed(&b, k));
        for store in [Store::Assign, Store::Add] {
            let on = |of: &Product<f32>, threads| -> Vec<u32> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let c = pool.install(|| by(of, a, b, size, store));
                c.into_iter().map(f32::to_bits).collect()
            };
            let want = on(&twin(), 1);
            assert_eq!(on(&twin(), 3), want);
            if let Some(product) = with_all(|| has(Feature::Amx).then(product)) {
                assert_eq!(on(&product, 2), want);
            }
        }
    }
}
