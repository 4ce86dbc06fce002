//! Attention on the kernels for compute capability 9.0 where tiles come by maps of their tensors, and where they come piece
//! by piece, for views that start anywhere cannot have maps: equal bits.

use crate::ops::device::{on_hopper, poisoned_in};
use crate::support::compare::{bits, random};
use wattention::cases::upload;
use wattention::device::sim::Order;
use wattention::device::{Device, Precision};
use wattention::error::Result;
use wattention::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::attention::window_attention::{Window, window_attention};
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

const B: usize = 2;
const H: usize = 2;

type Attention<'a> = &'a dyn Fn(&Tape, [&Tensor; 3]) -> Result<Tensor>;

/// o, dq, dk and dv of S tokens and heads of `d`, whose tensors start `from` elements into their storage.
fn outcome(device: &Device, [s, d, from]: [usize; 3], attention: Attention) -> Vec<Vec<u32>> {
    let n = B * s * H * d;
    let tensor = |seed: u64| {
        let values = [vec![f32::NAN; from], random(seed, n)].concat();
        upload(device, [from + n], &values).unwrap().slice(from, [B, s, H * d]).unwrap()
    };
    let [q, k, v, d_o] = [1, 2, 3, 4].map(tensor);
    let x = [q, k, v].map(|x| x.with_node(Some(Node::fresh())));
    let (tape, mut gradients) = (Tape::gradients(), Gradients::new());
    let o = attention(&tape, x.each_ref()).unwrap();
    let (saved, loss) = (o.clone(), Tensor::upload(device, [1], &[0f32]).unwrap());
    let loss = tape.record(&[&o], loss, move |_, gradients| gradients.add(&saved, d_o));
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    let gradient = |x: &Tensor| gradients.of(x).unwrap().read_floats().unwrap();
    std::iter::once(o.read_floats().unwrap()).chain(x.iter().map(gradient)).map(|x| bits(&x)).collect()
}

fn check(what: &str, s: usize, attention: Attention) {
    for d in [64, 40, 128] {
        for order in [Order::Forward, Order::Shuffled(5)] {
            let run =
                |from| on_hopper(order, || outcome(&poisoned_in(Precision::Bf16), [s, d, from], attention));
            let (by_maps, in_pieces) = (run(0), run(1));
            for (name, (one, other)) in ["o", "dq", "dk", "dv"].iter().zip(by_maps.iter().zip(&in_pieces)) {
                assert!(one == other, "{what}, heads of {d}, {order:?}: {name} depends on how tiles come");
            }
        }
    }
}

#[test]
fn dense_attention_is_the_same_by_maps() {
    // An odd number of queries: lse and delta of every other head start between pieces of 16 bytes.
    for s in [150, 131] {
        check("dense", s, &|tape, [q, k, v]| {
            let pattern =
                Dense { heads: H, key_len: s, causal: Some(0), key_state: None, dropout: Dropout::OFF };
            dense_attention(tape, q, k, v, pattern)
        });
    }
}

#[test]
fn window_attention_is_the_same_by_maps() {
    // Sample 0 has a global token and no padding, the other one the last 40 tokens masked.
    let state_of = |i| match i {
        70 => 2,
        0..620 => 1,
        _ => 0,
    };
    let state: Vec<i32> = (0..B * 330).map(state_of).collect();
    check("window", 330, &|tape, [q, k, v]| {
        let key_state = Tensor::upload(q.device(), [B, 330], &state)?;
        let global_index = Tensor::upload(q.device(), [B, 1], &[70, -1])?;
        let (key_state, global_index) = (&key_state, &global_index);
        let pattern = Window { heads: H, window: 128, key_state, global_index, dropout: Dropout::OFF };
        window_attention(tape, q, k, v, pattern)
    });
}

#[test]
fn block_sparse_attention_is_the_same_by_maps() {
    let n = 4;
    check("block-sparse", n * 64, &|tape, [q, k, v]| {
        // Every block sees every block once, which its transpose says, too.
        let row_ptr: Vec<i32> =
            (0..H).flat_map(|h| (0..=n).map(move |row| ((h * n + row) * n) as i32)).collect();
        let col: Vec<i32> = (0..H * n * n).map(|entry| (entry % n) as i32).collect();
        let table = [&row_ptr[..], &col[..], &vec![1; col.len()][..]];
        let blocks = Blocks::new(q.device(), H, table, table)?;
        let seen: Vec<i32> = (0..B * n * 64).map(|i| i32::from(i < 500)).collect();
        let key_state = Tensor::upload(q.device(), [B, n * 64], &seen)?;
        let pattern = BlockSparse { heads: H, block_size: 64, blocks: &blocks, key_state: &key_state };
        block_sparse_attention(tape, q, k, v, pattern)
    });
}
