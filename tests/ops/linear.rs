use crate::ops::case::{check, weighted_sum};
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::compare::{bits, random};
use wattention::cases::products as cases;
use wattention::error::Error;
use wattention::ops::linear::{linear, linears};
use wattention::shape::DType;
use wattention::tape::{Gradients, Tape};
use wattention::tensor::{Node, Tensor};

#[test]
fn gradients() {
    for case in cases::Linear::all() {
        check(&case.case(), &|x| vec![truth::linear(&x[0], &x[1], x.get(2).map(Vec::as_slice), case.i)]);
    }
}

#[test]
fn a_batch_keeps_its_dimensions() {
    let device = poisoned();
    let new = |shape: &[usize; 3]| Tensor::persistent(&device, *shape, DType::F32).unwrap();
    let w = new(&[1, 5, 12]).reshape([5, 12]).unwrap();
    let y = linear(&Tape::off(), &new(&[2, 9, 12]), &w, None).unwrap();
    assert_eq!(y.shape(), [2, 9, 5].into());
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 2]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let tape = Tape::off();
    for (w, b) in [([5, 4], None), ([5, 3], Some(new([1, 4])))] {
        let got = linear(&tape, &new([2, 3]), &new(w), b.as_ref());
        assert!(matches!(got, Err(Error::Shape { op: "linear", .. })));
    }
}

/// Weights at equal distances are one product, which gives what a product for each would.
#[test]
fn alike_layers_together_are_the_same_as_alone() {
    let (n, i, o, gap, count) = (5, 7, 6, 16, 3);
    let device = poisoned();
    let step = o * i + gap;
    let values = random(1, count * step);
    let slab = Tensor::upload(&device, [values.len()], &values).unwrap();
    let part = |from: usize, shape: &[usize]| match *shape {
        [o] => slab.slice(from, [o]).unwrap(),
        _ => slab.slice(from, [o, i]).unwrap(),
    };
    let layers: Vec<[Tensor; 2]> = (0..count)
        .map(|p| [part(p * step, &[o, i]), part(p * step + o * i, &[o])])
        .map(|[w, b]| [w.with_node(Some(Node::fresh())), b.with_node(Some(Node::fresh()))])
        .collect();
    let x = Tensor::upload(&device, [n, i], &random(2, n * i)).unwrap().with_node(Some(Node::fresh()));
    let run = |together: bool| {
        let tape = Tape::gradients();
        let ys = match together {
            true => {
                let pairs: Vec<_> = layers.iter().map(|[w, b]| (w, Some(b))).collect();
                linears(&tape, &x, &pairs).unwrap()
            }
            false => layers.iter().map(|[w, b]| linear(&tape, &x, w, Some(b)).unwrap()).collect(),
        };
        let mut results: Vec<Vec<u32>> = ys.iter().map(|y| bits(&y.read::<f32>().unwrap())).collect();
        let mut gradients = Gradients::new();
        let loss = weighted_sum(&tape, &ys);
        tape.backward(&loss, 1.0, &mut gradients).unwrap();
        for leaf in layers.iter().flatten().chain([&x]) {
            results.push(bits(&gradients.of(leaf).unwrap().read::<f32>().unwrap()));
        }
        results
    };
    assert_eq!(run(true), run(false));
}
