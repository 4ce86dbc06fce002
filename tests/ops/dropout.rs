use crate::ops::case::check;
use crate::ops::device::poisoned;
use crate::ops::truth;
use crate::support::compare::bits;
use wattention::cases::elementwise as cases;
use wattention::ops::dropout::dropout;
use wattention::tape::{Dropout, Randomness, Tape};
use wattention::tensor::{Node, Tensor};

#[test]
fn gradients() {
    for case in cases::Dropout::all() {
        check(&case.case(), &|x| {
            let kept = |(e, x): (usize, &f64)| x * truth::dropout(case.at, e as u64);
            vec![x[0].iter().enumerate().map(kept).collect()]
        });
    }
}

#[test]
fn off_is_the_input_itself() {
    let x = Tensor::upload(&poisoned(), [2], &[1.0f32, 2.0]).unwrap();
    let x = x.with_node(Some(Node::fresh()));
    let y = dropout(&Tape::gradients(), &x, Dropout::OFF).unwrap();
    assert_eq!(y.node(), x.node());
}

#[test]
fn sites_and_steps_have_masks_of_their_own() {
    let device = poisoned();
    let x = Tensor::upload(&device, [256], &[1.0f32; 256]).unwrap();
    let masks = |step| {
        let tape = Tape::training(&device, Randomness { seed: 3, step }).unwrap();
        [0, 1].map(|_| {
            let y = dropout(&tape, &x, tape.dropout(0.5)).unwrap();
            bits(&y.read::<f32>().unwrap())
        })
    };
    let [[a, b], [c, d]] = [masks(0), masks(1)];
    assert!(a != b && a != c && b != d && b != c, "two sites share a mask");
    assert_eq!(masks(0), [a, b], "the same step draws other masks");
}
