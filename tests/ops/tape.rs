//! Gradient bookkeeping: sums over consumers and passes, untouched parameters, shared buffers.

use crate::ops::case::{Case, copied, inputs, weighted_sum};
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::compare::{assert_close, random, widened};
use wattention::device::Device;
use wattention::error::Error;
use wattention::ops::activation::{Activation, activation};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::layer_norm::{Affine, residual_layer_norm};
use wattention::ops::linear::linear;
use wattention::shape::DType;
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

const EPS: f32 = 1e-5;

fn parameter(device: &Device, seed: u64, shape: [usize; 2]) -> Tensor {
    let values = random(seed, shape[0] * shape[1]);
    Tensor::upload(device, shape, &values).unwrap().with_node(Some(Node::fresh()))
}

fn buffer(gradients: &mut Gradients, parameter: &Tensor, fill: f32) {
    let buffer = Tensor::persistent(parameter.device(), parameter.shape(), DType::F32).unwrap();
    buffer.write(&vec![fill; parameter.len()]).unwrap();
    gradients.register(parameter, buffer).unwrap();
}

fn read(gradients: &Gradients, parameter: &Tensor) -> Vec<f32> {
    gradients.of(parameter).unwrap().read().unwrap()
}

/// One residual gradient goes to both summands; their other consumers must not see each other.
#[test]
fn a_residual_gradient_is_not_corrupted_by_further_consumers() {
    let (n, c) = (3, 8);
    let residual = |tape: &Tape, x: &[Tensor], earlier: bool| {
        let (w, b) = (x[2].clone(), x[3].clone());
        let mut outputs = Vec::new();
        let others = |outputs: &mut Vec<Tensor>| -> wattention::error::Result<()> {
            outputs.push(activation(tape, &x[0], Activation::Gelu)?);
            outputs.push(activation(tape, &x[1], Activation::GeluNew)?);
            outputs.push(activation(tape, &x[0], Activation::GeluNew)?);
            Ok(())
        };
        if earlier {
            others(&mut outputs)?;
        }
        let affine = Affine { w, b, eps: EPS };
        let (s, y) = residual_layer_norm(tape, &x[0], &x[1], Dropout::OFF, &affine)?;
        if !earlier {
            others(&mut outputs)?;
        }
        outputs.extend([s, y]);
        Ok(outputs)
    };
    for earlier in [true, false] {
        Case {
            name: format!("residual, other consumers earlier: {earlier}"),
            inputs: inputs(&[[n, c].into(), [n, c].into(), [c].into(), [c].into()]),
            forward: &|tape, x| residual(tape, x, earlier),
            truth: &|x| {
                let each = |x: &[f64], f: fn(f64) -> f64| x.iter().map(|&x| f(x)).collect();
                let s: Vec<f64> = x[0].iter().zip(&x[1]).map(|(x, a)| x + a).collect();
                let y = truth::layer_norm(&s, &x[2], &x[3], EPS as f64);
                let others =
                    [each(&x[0], truth::gelu), each(&x[1], truth::gelu_tanh), each(&x[0], truth::gelu_tanh)];
                others.into_iter().chain([s, y]).collect()
            },
            terms: 4 * c,
            cancelling: 0.0,
        }
        .check();
    }
}

/// x + x: both summands are one tensor.
#[test]
fn a_tensor_added_to_itself_gets_twice_the_gradient() {
    let (n, c) = (2, 6);
    Case {
        name: "x + x".into(),
        inputs: inputs(&[[n, c].into(), [c].into(), [c].into()]),
        forward: &|tape, x| {
            let (w, b) = (x[1].clone(), x[2].clone());
            let affine = Affine { w, b, eps: EPS };
            let (s, y) = residual_layer_norm(tape, &x[0], &x[0], Dropout::OFF, &affine)?;
            Ok(vec![s, y])
        },
        truth: &|x| {
            let s: Vec<f64> = x[0].iter().map(|x| 2.0 * x).collect();
            let y = truth::layer_norm(&s, &x[1], &x[2], EPS as f64);
            vec![s, y]
        },
        terms: 4 * c,
        cancelling: 0.0,
    }
    .check();
}

/// x xᵀ: one tensor is both operands of a product.
#[test]
fn a_tensor_times_itself_gets_both_gradients() {
    let (n, c) = (3, 4);
    Case {
        name: "x xᵀ".into(),
        inputs: inputs(&[[n, c].into()]),
        forward: &|tape, x| Ok(vec![linear(tape, &x[0], &x[0], None)?]),
        truth: &|x| vec![truth::linear(&x[0], &x[0], None, c)],
        terms: n + c,
        cancelling: 0.0,
    }
    .check();
}

/// One backward kernel cannot write one buffer twice: that is an error, never a wrong sum.
#[test]
fn queries_that_are_also_keys_are_refused() {
    let device = poisoned();
    let parameter = parameter(&device, 1, [3, 4]);
    let mut gradients = Gradients::new();
    buffer(&mut gradients, &parameter, 0.0);
    let leaf = parameter.reshape([1, 3, 4]).unwrap();
    for activations in [false, true] {
        let tape = Tape::gradients();
        let x = match activations {
            true => copied(&tape, &leaf),
            false => leaf.clone(),
        };
        let (causal, key_state, dropout) = (None, None, Dropout::OFF);
        let pattern = Dense { heads: 1, key_len: 3, causal, key_state, dropout };
        let o = dense_attention(&tape, &x, &x, &x, pattern).unwrap();
        let loss = weighted_sum(&tape, &[o]);
        let got = tape.backward(&loss, 1.0, &mut gradients);
        assert!(matches!(got, Err(Error::Internal(m)) if m.contains("overlaps")));
    }
}

#[test]
fn passes_add_until_a_reset() {
    let device = poisoned();
    let (w, unused) = (parameter(&device, 1, [2, 3]), parameter(&device, 2, [4, 5]));
    let x = Tensor::upload(&device, [1, 3], &random(3, 3)).unwrap();
    let mut gradients = Gradients::new();
    buffer(&mut gradients, &w, f32::NAN);
    buffer(&mut gradients, &unused, f32::NAN);
    let pass = |gradients: &mut Gradients, scale: f32| {
        let tape = Tape::gradients();
        let loss = weighted_sum(&tape, &[linear(&tape, &x, &w, None).unwrap()]);
        tape.backward(&loss, scale, gradients).unwrap();
    };
    pass(&mut gradients, 1.0);
    let once = widened(&read(&gradients, &w));
    assert!(once.iter().all(|g| g.abs() > 0.0), "a NaN or no gradient: {once:?}");
    pass(&mut gradients, 0.5);
    gradients.finish().unwrap();
    let want: Vec<f64> = once.iter().map(|g| 1.5 * g).collect();
    assert_close("one and a half", &read(&gradients, &w), &want, 1);
    assert_eq!(read(&gradients, &unused), [0.0; 20], "untouched, yet not zero");

    gradients.reset();
    pass(&mut gradients, 1.0);
    assert_close("after a reset", &read(&gradients, &w), &once, 1);
    gradients.finish().unwrap();
    assert_close("after finish", &read(&gradients, &w), &once, 1);
}

#[test]
fn finish_zeroes_a_buffer_that_later_passes_add_to() {
    let device = poisoned();
    let w = parameter(&device, 1, [2, 3]);
    let x = Tensor::upload(&device, [1, 3], &random(3, 3)).unwrap();
    let mut gradients = Gradients::new();
    buffer(&mut gradients, &w, f32::NAN);
    gradients.finish().unwrap();
    let tape = Tape::gradients();
    let loss = weighted_sum(&tape, &[linear(&tape, &x, &w, None).unwrap()]);
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    assert!(read(&gradients, &w).iter().all(|g| g.abs() > 0.0));
}

#[test]
fn a_value_that_no_parameter_reaches_has_no_backward() {
    let x = Tensor::upload(&poisoned(), [1], &[1.0f32]).unwrap();
    let got = Tape::gradients().backward(&x, 1.0, &mut Gradients::new());
    assert!(matches!(got, Err(Error::Internal(_))));
}

#[test]
fn outputs_that_lead_nowhere_cost_nothing() {
    let device = poisoned();
    let w = parameter(&device, 1, [2, 3]);
    let x = Tensor::upload(&device, [1, 3], &random(3, 3)).unwrap();
    let mut gradients = Gradients::new();
    buffer(&mut gradients, &w, f32::NAN);
    let tape = Tape::gradients();
    let y = linear(&tape, &x, &w, None).unwrap();
    activation(&tape, &y, Activation::Relu).unwrap();
    let loss = weighted_sum(&tape, &[y]);
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    assert!(read(&gradients, &w).iter().all(|g| g.abs() > 0.0));
}
