//! Products against plain f64 sums.

use super::*;
use crate::device::cpu::simd::on_every_level;
use crate::noise::random;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Plain,
    Transposed,
}

fn operand(data: &[f32], rows: usize, columns: usize, form: Form) -> Matrix<'_> {
    match form {
        Form::Plain => Matrix::rows(data, columns),
        Form::Transposed => Matrix::transposed(data, rows),
    }
}

fn at(m: &Matrix, i: usize, j: usize) -> f64 {
    m.data[i * m.row_stride + j * m.column_stride] as f64
}

fn check(size: Size, form_a: Form, form_b: Form, alpha: f32, store: Store) {
    on_every_level(|| check_level(size, form_a, form_b, alpha, store));
}

fn check_level(size: Size, form_a: Form, form_b: Form, alpha: f32, store: Store) {
    let Size { m, n, k } = size;
    let (a, b) = (random(1, m * k), random(2, k * n));
    let (a, b) = (operand(&a, m, k, form_a), operand(&b, k, n, form_b));
    let stride = n + 3;
    let start = match store {
        Store::Assign => vec![f32::NAN; m * stride],
        Store::Add => random(3, m * stride),
    };
    let mut c = start.clone();
    gemm(&mut c, stride, a, b, size, alpha, store);
    for i in 0..m {
        for j in 0..n {
            let products = (0..k).map(|p| at(&a, i, p) * at(&b, p, j));
            let step = |(sum, squares): (f64, f64), x: f64| (sum + x, squares + (sum + x).powi(2));
            let (sum, squares) = products.fold((0.0, 0.0), step);
            let old = if store == Store::Add { start[i * stride + j] as f64 } else { 0.0 };
            let want = alpha as f64 * sum + old;
            // Each partial sum is rounded by at most half a unit of its own size, as if evenly drawn: five standard
            // deviations of all of them together, and the rounding of alpha and of C.
            let deviation = f64::from(f32::EPSILON) / 2.0 / 3f64.sqrt() * squares.sqrt();
            let tolerance = 1e-6 + 5.0 * f64::from(alpha.abs()) * deviation;
            let error = (c[i * stride + j] as f64 - want).abs();
            assert!(error <= tolerance, "{size:?} at ({i}, {j}): off by {error}");
        }
        let gap = i * stride + n..(i + 1) * stride;
        let same = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits();
        assert!(c[gap.clone()].iter().zip(&start[gap]).all(same), "wrote past row {i}");
    }
}

#[test]
fn every_form_and_ragged_size_matches_f64() {
    let sizes = [
        (1, 1, 1),
        (1, 7, 100),
        (3, 50, 64),
        (16, 97, 129),
        (17, 49, 65),
        (64, 64, 64),
        (65, 130, 33),
        (100, 200, 800),
    ];
    for (m, n, k) in sizes {
        for form_a in [Form::Plain, Form::Transposed] {
            for form_b in [Form::Plain, Form::Transposed] {
                check(Size { m, n, k }, form_a, form_b, 1.0, Store::Assign);
                check(Size { m, n, k }, form_a, form_b, -0.5, Store::Add);
            }
        }
    }
}

#[test]
fn more_than_one_block_in_every_direction() {
    let depth = f32::product().depth;
    check(Size { m: 18, n: 20, k: 2 * depth + 5 }, Form::Plain, Form::Plain, 0.5, Store::Assign);
    check(Size { m: 2 * ROWS + 9, n: 1000, k: 3 }, Form::Plain, Form::Plain, 1.0, Store::Assign);
    check(Size { m: LEFT / depth + 9, n: 9, k: depth - 1 }, Form::Plain, Form::Transposed, 1.0, Store::Add);
}

/// Sums over more values than are packed at a time are left out: C in bf16 takes complete ones only.
#[test]
fn a_bias_is_added_before_c_is_rounded() {
    on_every_level(|| {
        for (m, n, k) in [(1, 1, 1), (9, 50, 64), (33, 97, 130)] {
            let size = Size { m, n, k };
            let (a, b, bias) = (random(1, m * k), random(2, k * n), random(3, n));
            let (a, b) = (Matrix::rows(&a, k), Matrix::rows(&b, n));
            let (mut plain, mut wide) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
            let out = |c, bias| Output { c, stride: n, alpha: 1.0, store: Store::Assign, bias };
            gemm_into(out(&mut plain, &[]), a, b, size);
            gemm_into(out(&mut wide, &bias), a, b, size);
            let mut rounded = vec![bf16::NAN; m * n];
            let of = Output { c: &mut rounded[..], stride: n, alpha: 1.0, store: Store::Assign, bias: &bias };
            gemm_into(of, a, b, size);
            for at in 0..m * n {
                assert_eq!(wide[at], plain[at] + bias[at % n]);
                assert_eq!(rounded[at], bf16::from_f32(wide[at]));
            }
        }
    });
}

/// What is stored from registers, in two passes over C, is what is stored through memory.
#[test]
fn whole_tiles_are_stored_as_ragged_ones() {
    on_every_level(|| {
        let product = f32::product();
        let (m, n, k) = (2 * product.mr, 3 * product.nr, product.depth + 700);
        let (a, b, bias) = (random(1, m * k), random(2, k * n), random(4, n));
        let (a, b) = (Matrix::rows(&a, k), Matrix::transposed(&b, k));
        for (alpha, store, bias) in [
            (1.0, Store::Assign, &[][..]),
            (-0.3, Store::Assign, &bias),
            (1.0, Store::Add, &[]),
            (-0.3, Store::Add, &[]),
        ] {
            let whole = stored::<f32>(true, (a, b), Size { m, n, k }, alpha, store, bias);
            let ragged = stored::<f32>(false, (a, b), Size { m, n, k }, alpha, store, bias);
            assert!(whole.iter().zip(&ragged).all(|(x, y)| x.to_bits() == y.to_bits()), "{alpha} {store:?}");
            let size = Size { m, n, k: 300 };
            let whole = stored::<bf16>(true, (a, b), size, alpha, store, bias);
            let ragged = stored::<bf16>(false, (a, b), size, alpha, store, bias);
            assert!(whole.iter().zip(&ragged).all(|(x, y)| x.to_bits() == y.to_bits()), "{alpha} {store:?}");
        }
    });
}

/// Rows where they are stored, a panel's after the other, give the bits of packed ones; so do rows among longer ones, and
/// pairs that begin at an odd number, which are no words.
#[test]
fn rows_are_multiplied_where_they_are_stored_as_if_packed() {
    fn compare<E: Factor>(of: fn() -> Product<E>) {
        let product = of();
        let (m, n, k) = (3 * product.mr, 2 * product.nr + 5, 2 * product.depth + 26);
        let narrow = |seed, n| random(seed, n).into_iter().map(E::narrow).collect::<Vec<E>>();
        let (data, b) = (narrow(1, m * (k + 6) + 3), narrow(2, k * n));
        for (start, row_stride) in [(0, k), (0, k + 6), (3, k), (0, k + 1)] {
            let a = Matrix { data: &data[start..], row_stride, column_stride: 1 };
            let source = PanelSource { data: a.data, across: row_stride, along: 1, width: m, depth: k };
            let words = start.is_multiple_of(product.values) && row_stride.is_multiple_of(product.values);
            assert_eq!(product.stored_left(&source).is_some(), product.reads_stored && words);
            let [stored, packed] = [product.reads_stored, false].map(|reads_stored| {
                let product = Product { reads_stored, ..of() };
                let mut c = vec![f32::NAN; m * n];
                let out = Output { c: &mut c, stride: n, alpha: 1.0, store: Store::Assign, bias: &[] };
                blocked(&product, out, a, Matrix::transposed(&b, k), Size { m, n, k });
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(stored == packed, "{} from {start}, {row_stride} apart", product.name);
        }
    }
    on_every_level(|| compare(f32::product));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        compare(pairs::product);
    }
}

/// A product as `gemm_into` computes it, each tile by way of memory unless `direct`.
fn stored<C: Written>(
    direct: bool,
    (a, b): (Matrix, Matrix),
    size: Size,
    alpha: f32,
    store: Store,
    bias: &[f32],
) -> Vec<C> {
    let product = f32::product();
    let product = Product { direct: direct && product.direct, ..product };
    let mut c: Vec<C> = random(3, size.m * size.n).into_iter().map(C::narrow).collect();
    blocked(&product, Output { c: &mut c, stride: size.n, alpha, store, bias }, a, b, size);
    c
}

#[test]
fn nothing_to_sum() {
    let mut c = [f32::NAN; 6];
    let empty = Matrix::rows(&[], 0);
    gemm(&mut c, 3, empty, empty, Size { m: 2, n: 3, k: 0 }, 1.0, Store::Assign);
    assert_eq!(c, [0.0; 6]);
    gemm(&mut c, 3, empty, empty, Size { m: 2, n: 3, k: 0 }, 1.0, Store::Add);
    assert_eq!(c, [0.0; 6]);
    gemm(&mut [], 0, empty, empty, Size { m: 0, n: 0, k: 5 }, 1.0, Store::Assign);
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    for (m, n, k) in [(130, 250, 500), (4, 1000, 300)] {
        let (a, b) = (random(1, m * k), random(2, k * n));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0.0; m * n];
            let (a, b) = (Matrix::rows(&a, k), Matrix::transposed(&b, k));
            pool.install(|| gemm(&mut c, n, a, b, Size { m, n, k }, 1.0, Store::Assign));
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(on(1), on(2));
        assert_eq!(on(1), on(5));
    }
}

#[test]
#[should_panic(expected = "B is too short")]
fn a_short_operand_is_refused() {
    let x = [1.0; 4];
    let size = Size { m: 2, n: 3, k: 2 };
    gemm(&mut [0.0; 6], 3, Matrix::rows(&x, 2), Matrix::rows(&x, 3), size, 1.0, Store::Assign);
}
