//! The listed cases of attention in every format: bf16 and tf32 make at most twice the error of the same
//! formula computed plainly in that format; three products of tf32 stay in the bound of fp32.

use crate::ops::device::{poisoned_in, simulated};
use crate::support::attention::{Exact, Pair, Rounding, Sizes, backward};
use crate::support::compare::{assert_within, bound, largest, random, widened};
use half::bf16;
use wattention::cases::Case;
use wattention::device::{Device, Precision};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

/// Stored in bf16.
struct Bf16;

impl Rounding for Bf16 {
    fn result(x: f64) -> f64 {
        bf16::from_f32(x as f32).to_f64()
    }
}

/// Products of tf32.
struct Tf32;

impl Rounding for Tf32 {
    /// Ten bits of fraction, ties away from zero.
    fn operand(x: f64) -> f64 {
        f32::from_bits((x as f32).to_bits().wrapping_add(0x1000) & 0xffff_e000) as f64
    }
}

/// Where a result has fewer elements than this, the largest error of the plain program may be small by chance.
const FEW: usize = 1000;

/// o, dq, dk and dv of a case of q, k and v in every format but fp32, against f64.
pub fn check(case: &Case, sizes: Sizes, times: &dyn Fn(Pair) -> f64, factor: &dyn Fn(Pair) -> f64) {
    for precision in [Precision::Tf32, Precision::Tf32x3, Precision::Bf16] {
        check_in(precision, case, sizes, times, factor);
    }
}

/// Shapes of q, k, v and do.
fn shapes(sizes: Sizes) -> [[usize; 3]; 4] {
    let Sizes { b, t, rows, h, d, .. } = sizes;
    [[b, t, h * d], [b, rows, h * d], [b, rows, h * d], [b, t, h * d]]
}

/// q, k, v and do, rounded to the storage type before anybody sees them.
fn inputs(precision: Precision, sizes: Sizes) -> [Vec<f32>; 4] {
    let shapes = shapes(sizes);
    std::array::from_fn(|i| {
        let values = random(i as u64 + 21, shapes[i].iter().product());
        match precision {
            Precision::Bf16 => values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect(),
            _ => values,
        }
    })
}

/// o, dq, dk and dv as the device computes them.
pub fn outcome(precision: Precision, case: &Case, sizes: Sizes) -> [Vec<f32>; 4] {
    let device = poisoned_in(precision);
    let (shapes, values, d) = (shapes(sizes), inputs(precision, sizes), sizes.d);
    // A view that begins in the middle of 16 bytes, as in a slab of parameters.
    let skipped = (d == 32) as usize;
    let upload = |i: usize| upload(&device, precision, shapes[i], &values[i], skipped);
    let inputs = [0, 1, 2].map(|i| upload(i).with_node(Some(Node::fresh())));
    let d_o = upload(3);
    let tape = Tape::gradients();
    let o = (case.forward)(&tape, &inputs).unwrap().remove(0);
    let (saved, loss) = (o.clone(), Tensor::upload(&device, [1], &[0f32]).unwrap());
    let loss = tape.record(&[&o], loss, move |_, gradients| gradients.add(&saved, d_o));
    let mut gradients = Gradients::new();
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    let gradient = |x: &Tensor| gradients.of(x).unwrap().read_floats().unwrap();
    [o.read_floats().unwrap(), gradient(&inputs[0]), gradient(&inputs[1]), gradient(&inputs[2])]
}

/// The same in one format; gives what was compared.
pub fn check_in(
    precision: Precision,
    case: &Case,
    sizes: Sizes,
    times: &dyn Fn(Pair) -> f64,
    factor: &dyn Fn(Pair) -> f64,
) -> [Vec<f32>; 4] {
    let got = outcome(precision, case, sizes);
    let wide = inputs(precision, sizes).map(|x| widened(&x));
    let wide = wide.each_ref().map(|x| &x[..]);
    let exact = backward::<Exact>(wide, sizes, times, factor);
    let (plain, unit) = match precision {
        Precision::Fp32 | Precision::Tf32x3 => (exact.clone(), 0.0),
        Precision::Tf32 => (backward::<Tf32>(wide, sizes, times, factor), 1.0 / 1024.0),
        Precision::Bf16 => (backward::<Bf16>(wide, sizes, times, factor), 1.0 / 256.0),
    };
    for (((what, got), want), plain) in ["o", "dq", "dk", "dv"].iter().zip(&got).zip(&exact).zip(&plain) {
        let error = want.iter().zip(plain).map(|(w, p)| (w - p).abs()).fold(0.0, f64::max);
        let size = largest(want).max(case.cancelling);
        let tolerance = match precision {
            Precision::Fp32 | Precision::Tf32x3 => bound(case.terms) * size,
            _ if want.len() < FEW => 2.0 * error + unit * size,
            _ => 2.0 * error,
        };
        assert_within(&format!("{}, {}, {precision}: {what}", case.op, case.name), got, want, tolerance);
    }
    got
}

fn upload(
    device: &Device,
    precision: Precision,
    shape: [usize; 3],
    values: &[f32],
    skipped: usize,
) -> Tensor {
    let len = skipped + values.len();
    let values = vec![f32::NAN; skipped].into_iter().chain(values.iter().copied());
    let slab = match precision {
        Precision::Bf16 => {
            let values: Vec<bf16> = values.map(bf16::from_f32).collect();
            Tensor::upload(device, [len], &values)
        }
        _ => Tensor::upload(device, [len], &values.collect::<Vec<_>>()),
    };
    slab.unwrap().slice(skipped, shape).unwrap()
}

/// Tensor cores truncate where they add up: three products of tf32 that share a sum would be off by 1e-5 here, and
/// would not have the accuracy of fp32 at the lengths that this program is for.
#[test]
fn long_sums_of_three_products_are_as_accurate_as_fp32() {
    if !simulated() {
        println!("skipped: the CPU has no tensor cores");
        return;
    }
    const S: usize = 4096;
    let device = poisoned_in(Precision::Tf32x3);
    let values: Vec<f32> = random(31, S * 16).iter().map(|x| 1.5 + 0.5 * x).collect();
    let q = Tensor::upload(&device, [1, 1, 16], &[0.0f32; 16]).unwrap();
    let k = Tensor::upload(&device, [1, S, 16], &random(32, S * 16)).unwrap();
    let v = Tensor::upload(&device, [1, S, 16], &values).unwrap();
    let pattern = Dense { heads: 1, key_len: S, causal: None, key_state: None, dropout: Dropout::OFF };
    // Every key weighs the same: o is the mean of v.
    let o = dense_attention(&Tape::off(), &q, &k, &v, pattern).unwrap().read_floats().unwrap();
    let column = |d: usize| values.iter().skip(d).step_by(16).map(|&x| f64::from(x));
    let want: Vec<f64> = (0..16).map(|d| column(d).sum::<f64>() / S as f64).collect();
    assert_within("the mean of 4096 values", &o, &want, 1e-6);
}
