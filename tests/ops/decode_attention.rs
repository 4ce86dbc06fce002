use crate::ops::case::on_threads;
use crate::ops::device::poisoned;
use crate::support::attention::{Sizes, all_kept, attention};
use crate::support::compare::{assert_close, bits, widened};
use wattention::cases::decoding::Decode;
use wattention::error::Error;
use wattention::ops::Position;
use wattention::ops::attention::decode_attention::{Cached, Keys, decode_attention};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

/// Every query by itself, its keys gathered as the index says.
fn truth(case: &Decode, inputs: &[Vec<f64>]) -> Vec<f64> {
    let Decode { n, s, rows, h, d, columns, .. } = *case;
    let (c, index, state) = (h * d, case.index(), case.key_state());
    let mut o = Vec::new();
    for query in 0..n {
        let places: Vec<usize> = (0..s)
            .map(|j| index[query * columns + if columns == 1 { 0 } else { j }] as usize * rows + j)
            .collect();
        let gathered =
            |x: &[f64]| -> Vec<f64> { places.iter().flat_map(|&p| &x[p * c..][..c]).copied().collect() };
        let (k, v) = (gathered(&inputs[1]), gathered(&inputs[2]));
        let sizes = Sizes { b: 1, t: 1, s, rows: s, h, d };
        let visible = |j: usize| state.as_ref().is_none_or(|state| state[places[j]] != 0);
        let times = |at: crate::support::attention::Pair| visible(at.j) as u8 as f64;
        o.extend(attention([&inputs[0][query * c..][..c], &k, &v], sizes, &times, &all_kept).0);
    }
    o
}

#[test]
fn values() {
    for decode in Decode::all() {
        let case = decode.case();
        let inputs: Vec<Vec<f32>> = case.inputs.iter().enumerate().map(|(i, x)| x.values(i)).collect();
        let run = || {
            let device = poisoned();
            let upload = |(x, values): (&wattention::cases::Input, &Vec<f32>)| {
                Tensor::upload(&device, x.shape, values).unwrap()
            };
            let x: Vec<Tensor> = case.inputs.iter().zip(&inputs).map(upload).collect();
            (case.forward)(&Tape::off(), &x).unwrap()[0].read::<f32>().unwrap()
        };
        let wide: Vec<Vec<f64>> = inputs.iter().map(|x| widened(x)).collect();
        let got = on_threads(1, run);
        assert_close(decode.name, &got, &truth(&decode, &wide), case.terms);
        assert_eq!(bits(&got), bits(&on_threads(2, run)), "{}: other bits on two threads", decode.name);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let device = poisoned();
    let new = |shape: [usize; 3]| Tensor::persistent(&device, shape, DType::F32).unwrap();
    let (k, q) = (new([2, 4, 6]), new([3, 1, 6]));
    let at = Tensor::persistent(&device, [1], DType::I32).unwrap();
    let up_to = |value| Keys::UpTo(Position { value, on_device: &at });
    let run = |q: &Tensor, heads, columns, keys, states: Option<usize>| {
        let index = Tensor::persistent(&device, [3, columns], DType::I32).unwrap();
        let state = states.map(|n| Tensor::persistent(&device, [n], DType::I32).unwrap());
        let cached = Cached { heads, k: &k, v: &k, index: &index, beams: 1, keys, key_state: state.as_ref() };
        decode_attention(&Tape::off(), q, cached)
    };
    let first = Keys::First;
    assert!(run(&q, 2, 4, first(3), Some(8)).is_ok() && run(&q, 2, 4, up_to(3), Some(8)).is_ok());
    // Another width, another number of queries, heads that do not divide C, too many keys, too few
    // columns, a short mask.
    for got in [
        run(&new([3, 1, 4]), 2, 4, first(3), None),
        run(&new([2, 1, 6]), 2, 4, first(3), None),
        run(&q, 4, 4, first(3), None),
        run(&q, 2, 1, first(5), None),
        run(&q, 2, 4, up_to(4), None),
        run(&q, 2, 2, first(3), None),
        run(&q, 2, 2, up_to(2), None),
        run(&q, 2, 4, first(3), Some(4)),
    ] {
        assert!(matches!(got, Err(Error::Shape { op: "decode_attention", .. })));
    }
}
