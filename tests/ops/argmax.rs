use crate::ops::case::on_threads;
use crate::ops::device::poisoned;
use crate::support::compare::random;
use wattention::error::Error;
use wattention::ops::argmax::argmax;
use wattention::tape::Tape;
use wattention::tensor::{Node, Tensor};

fn indices(rows: &[f32], v: usize) -> Vec<i32> {
    let x = Tensor::upload(&poisoned(), [rows.len() / v, v], rows).unwrap();
    argmax(&Tape::off(), &x).unwrap().read().unwrap()
}

#[test]
fn values() {
    let (n, v) = (70, 33);
    let x = random(6, n * v);
    let first_largest = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter().position(|&x| x == most).unwrap() as i32
    };
    let want: Vec<i32> = x.chunks(v).map(first_largest).collect();
    assert_eq!(indices(&x, v), want);
    assert_eq!(on_threads(1, || indices(&x, v)), on_threads(2, || indices(&x, v)));
    assert_eq!(indices(&[-3.0], 1), [0]);
    let mut long = random(7, 2 * 5003);
    [700, 4999, 5003 + 1, 5003 + 5002].into_iter().for_each(|i| long[i] = 2.0);
    [3, 5003 + 4000].into_iter().for_each(|i| long[i] = f32::NAN);
    assert_eq!(indices(&long, 5003), [700, 1], "in rows of many threads");
    assert_eq!(indices(&[1.0, 5.0, 5.0, 2.0], 4), [1], "the first of equals");
    assert_eq!(indices(&[f32::NAN, -2.0, f32::NAN, -1.0], 4), [3], "NaN is never chosen");
    assert_eq!(indices(&[f32::NEG_INFINITY; 3], 3), [0]);
}

#[test]
fn a_value_that_needs_a_gradient_is_refused() {
    let x = Tensor::upload(&poisoned(), [1, 2], &[1.0f32, 2.0]).unwrap();
    let wanted = x.clone().with_node(Some(Node::fresh()));
    let got = argmax(&Tape::gradients(), &wanted);
    assert!(matches!(got, Err(Error::NoGradient { op: "argmax", .. })));
    for (tape, x) in [(Tape::gradients(), &x), (Tape::off(), &wanted)] {
        assert!(argmax(&tape, x).is_ok());
    }
}
