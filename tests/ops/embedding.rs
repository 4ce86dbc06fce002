use crate::ops::case::check;
use crate::ops::device::poisoned;
use crate::support::compare::widened;
use wattention::cases::tables::Embedding;
use wattention::error::Error;
use wattention::ops::Position;
use wattention::ops::embedding::{Lookup, embedding};
use wattention::shape::DType;
use wattention::tape::Tape;
use wattention::tensor::Tensor;

const PAD: usize = Embedding::PAD;

#[test]
fn gradients() {
    for sizes in Embedding::all() {
        let Embedding { t, c, past, placed, scale, .. } = sizes;
        let (case, ids) = (sizes.case(), sizes.ids());
        // A constant pad row: lookups see its value and give it no gradient.
        let pad_row = widened(&case.inputs[0].values(0)[PAD * c..][..c]);
        check(&case, &|x| {
            let (table, positions) = (&x[0], &x[1]);
            let mut y = Vec::new();
            for (n, &id) in ids.iter().enumerate() {
                for channel in 0..c {
                    let token = match id as usize {
                        PAD => pad_row[channel],
                        id => table[id * c + channel],
                    };
                    let position = match n % t < placed {
                        true => positions[(past + n % t) * c + channel],
                        false => 0.0,
                    };
                    y.push(scale as f64 * token + position);
                }
            }
            vec![y]
        });
    }
}

#[test]
fn a_position_beyond_the_table_is_an_error() {
    let device = poisoned();
    let new = |shape: [usize; 2], dtype| Tensor::persistent(&device, shape, dtype).unwrap();
    let (table, positions) = (new([3, 2], DType::F32), new([4, 2], DType::F32));
    let first = new([1, 1], DType::I32);
    let lookup = |value| {
        let (table, positions) = (&table, &positions);
        let past = Some(Position { value, on_device: &first });
        Lookup { table, positions, scale: 1.0, pad: PAD, past, placed: 2 }
    };
    let ids = new([1, 2], DType::I32);
    assert!(embedding(&Tape::off(), &ids, lookup(2)).is_ok());
    let got = embedding(&Tape::off(), &ids, lookup(3));
    assert!(matches!(got, Err(Error::Usage(message)) if message.contains("position 4")));
}

#[test]
fn positions_of_another_width_are_an_error() {
    let device = poisoned();
    let new = |shape: [usize; 2], dtype| Tensor::persistent(&device, shape, dtype).unwrap();
    let (table, positions) = (new([3, 2], DType::F32), new([4, 3], DType::F32));
    let (table, positions) = (&table, &positions);
    let lookup = Lookup { table, positions, scale: 1.0, pad: PAD, past: None, placed: 2 };
    let got = embedding(&Tape::off(), &new([1, 2], DType::I32), lookup);
    assert!(matches!(got, Err(Error::Shape { op: "embedding", .. })));
}
