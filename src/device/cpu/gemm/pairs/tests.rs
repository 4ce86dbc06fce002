//! The instruction against plain Rust, bit for bit, and panels multiplied by either.

use crate::device::cpu::gemm::block::{Panels, run};
use crate::device::cpu::gemm::product::{PASS, Pack, Product, right};
use crate::device::cpu::gemm::{Matrix, Output, Size, Store, blocked};
use crate::device::cpu::microkernel::{Baseline, Term};
use crate::device::cpu::pack::pack_pairs;
use crate::noise::{mixed, random};
use crate::shape::Stored;
use half::bf16;

/// What VDPBF16PS does to a lane (Intel SDM, volume 2): multiply-adds that are rounded once, of the odd values and then
/// of the even ones, with subnormal operands, sums and results taken for zeros of their sign.
fn add_pair(sum: f32, a: u32, b: u32) -> f32 {
    let flushed = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0f32.copysign(x) } else { x };
    let add = |sum: f32, a: u32, b: u32| {
        flushed(flushed(f32::from_bits(a)).mul_add(flushed(f32::from_bits(b)), flushed(sum)))
    };
    let odd = add(sum, a & 0xffff_0000, b & 0xffff_0000);
    add(odd, a << 16, b << 16)
}

/// Lanes are pairs of bf16, on any machine.
pub struct Twin;

// SAFETY: plain Rust.
unsafe impl Term<Baseline> for Twin {
    unsafe fn add(sum: Baseline, a: Baseline, b: Baseline) -> Baseline {
        sum.with_each(a, b, add_pair)
    }
}

fn twin() -> Product<bf16> {
    unsafe fn pairs(panels: Panels, sums: &mut [f32]) {
        // SAFETY: the caller's contract.
        unsafe { run::<Baseline, Twin, 4, 2>(panels, sums) }
    }
    let (pack_left, pack_right): (Pack<bf16>, Pack<bf16>) = (pack_pairs, pack_pairs);
    Product {
        name: "twin",
        mr: 4,
        nr: 8,
        values: 2,
        multiple: 1,
        parts: 1,
        depth: PASS,
        right: right(),
        reads_stored: true,
        direct: true,
        pack_left,
        pack_right,
        run: pairs,
    }
}

fn narrow(seed: u64, n: usize) -> Vec<bf16> {
    random(seed, n).into_iter().map(bf16::from_f32).collect()
}

/// Both orientations of both operands, over a scratch of another stride than C's columns.
fn products(of: &Product<bf16>, size: Size, store: Store) -> Vec<Vec<u32>> {
    let Size { m, n, k } = size;
    let (a, b) = (narrow(1, m * k), narrow(2, k * n));
    let lefts = [Matrix::rows(&a, k), Matrix::transposed(&a, m)];
    let rights = [Matrix::rows(&b, n), Matrix::transposed(&b, k)];
    let pairs = lefts.into_iter().flat_map(|left| rights.map(|right| (left, right)));
    let one = |(left, right): (Matrix<bf16>, Matrix<bf16>)| {
        let mut c = random(3, m * (n + 3));
        let out = Output { c: &mut c, stride: n + 3, alpha: 1.0, store, bias: &[] };
        blocked(of, out, left, right, size);
        for i in 0..m {
            for j in 0..n {
                let at = |x: &Matrix<bf16>, i: usize, j: usize| {
                    f64::from(x.data[i * x.row_stride + j * x.column_stride].wide())
                };
                let sum: f64 = (0..k).map(|p| at(&left, i, p) * at(&right, p, j)).sum();
                let old = if store == Store::Add {
                    f64::from(random(3, m * (n + 3))[i * (n + 3) + j])
                } else {
                    0.0
                };
                let error = (f64::from(c[i * (n + 3) + j]) - sum - old).abs();
                assert!(
                    error <= 1e-6 + 6e-8 * k as f64,
                    "{}: {size:?} at ({i}, {j}) off by {error}",
                    of.name
                );
            }
        }
        c.into_iter().map(f32::to_bits).collect()
    };
    pairs.map(one).collect()
}

#[test]
fn panels_by_the_instruction_and_by_its_twin_have_the_same_bits() {
    let sizes = [(1, 1, 1), (3, 50, 64), (9, 49, 33), (17, 100, 1600), (64, 97, 130)];
    for (m, n, k) in sizes {
        for store in [Store::Assign, Store::Add] {
            let size = Size { m, n, k };
            let want = products(&twin(), size, store);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx512bf16") {
                assert!(products(&super::product(), size, store) == want, "{size:?}");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let mut all = vec![twin()];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        all.push(super::product());
    }
    for product in all {
        let (m, n, k) = (130, 250, 300);
        let (a, b) = (narrow(1, m * k), narrow(2, k * n));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0f32; m * n];
            let (a, b) = (Matrix::rows(&a, k), Matrix::transposed(&b, k));
            let out = Output { c: &mut c, stride: n, alpha: 1.0, store: Store::Assign, bias: &[] };
            pool.install(|| blocked(&product, out, a, b, Size { m, n, k }));
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(on(1), on(2));
        assert_eq!(on(1), on(5));
    }
}

/// Lanes of every kind: any bits, numbers of middling size, sums and products that near the smallest, and subnormals
/// against large numbers.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_instruction_is_what_its_twin_says() {
    if !is_x86_feature_detected!("avx512bf16") {
        return;
    }
    let exponents = [(0, 256, 0, 256), (120, 14, 118, 20), (55, 14, 0, 20), (0, 2, 0, 30)];
    for (kind, (low, span, sum_low, sum_span)) in exponents.into_iter().enumerate() {
        let bits = |seed: u64, low: u32, span: u32| {
            let x = mixed(seed);
            (x as u32 & 0x807f_ffff) | (low + (x >> 32) as u32 % span) << 23
        };
        for round in 0..4000 {
            let seed = |i: usize, which: u64| (kind << 40 | round << 8 | i) as u64 * 8 + which;
            let word = |i: usize, which: u64| {
                let large = if kind == 3 { (240, 14) } else { (low, span) };
                bits(seed(i, which), low, span) >> 16
                    | (bits(seed(i, which + 1), large.0, large.1) & 0xffff_0000)
            };
            let a: [f32; 16] = std::array::from_fn(|i| f32::from_bits(word(i, 0)));
            let b: [f32; 16] = std::array::from_fn(|i| {
                f32::from_bits(word(i, 2).rotate_left(if kind == 3 { 16 } else { 0 }))
            });
            let sums: [f32; 16] =
                std::array::from_fn(|i| f32::from_bits(bits(seed(i, 4), sum_low, sum_span)));
            // SAFETY: the instruction was detected.
            let got = unsafe { by_instruction(sums, a, b) };
            for i in 0..16 {
                let want = add_pair(sums[i], a[i].to_bits(), b[i].to_bits());
                let same = got[i].to_bits() == want.to_bits() || got[i].is_nan() && want.is_nan();
                assert!(
                    same,
                    "{:e} {:08x} {:08x}: {:e}, not {want:e}",
                    sums[i],
                    a[i].to_bits(),
                    b[i].to_bits(),
                    got[i]
                );
            }
        }
    }
}

/// # Safety
/// AVX512_BF16 must have been detected.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn by_instruction(sums: [f32; 16], a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
    use std::arch::x86_64::*;
    // SAFETY: all of them are 64 bytes.
    unsafe {
        let [a, b] = [a, b].map(|x| std::mem::transmute::<[f32; 16], __m512bh>(x));
        let sums = std::mem::transmute::<[f32; 16], __m512>(sums);
        std::mem::transmute::<__m512, [f32; 16]>(_mm512_dpbf16_ps(sums, a, b))
    }
}
