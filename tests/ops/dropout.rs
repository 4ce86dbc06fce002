use crate::case::{Case, inputs};
use crate::compare::bits;
use crate::device::poisoned;
use crate::truth;
use wattention::ops::dropout::dropout;
use wattention::tape::{Dropout, Randomness, Tape};
use wattention::tensor::{Node, Tensor};

#[test]
pub fn gradients() {
    // 20000 elements are more than one task.
    for (n, p) in [(1, 0.5), (7, 0.25), (20000, 0.1)] {
        let at = Dropout { p, seed: 1 << 40 | 5, stream: 3 << 33 | 9 };
        Case {
            name: format!("dropout {n}"),
            inputs: inputs(&[[n].into()]),
            forward: &|tape, x| Ok(vec![dropout(tape, &x[0], at)?]),
            truth: &|x| {
                let kept = |(e, x): (usize, &f64)| x * truth::dropout(at, e as u64);
                vec![x[0].iter().enumerate().map(kept).collect()]
            },
            terms: 1,
            cancelling: 0.0,
        }
        .check();
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
        let tape = Tape::training(Randomness { seed: 3, step });
        [0, 1].map(|_| {
            let y = dropout(&tape, &x, tape.dropout(0.5)).unwrap();
            bits(&y.read::<f32>().unwrap())
        })
    };
    let [[a, b], [c, d]] = [masks(0), masks(1)];
    assert!(a != b && a != c && b != d && b != c, "two sites share a mask");
    assert_eq!(masks(0), [a, b], "the same step draws other masks");
}
