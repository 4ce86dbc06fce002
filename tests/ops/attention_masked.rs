//! What masked keys and queries hold does not matter, not even NaN: padding may hold anything.

#[cfg(wattention_sim)]
use crate::ops::device::on_hopper;
use crate::ops::device::{poisoned_in, simulated};
use crate::support::compare::{bits, random};
use wattention::cases::upload;
#[cfg(wattention_sim)]
use wattention::device::sim::Order;
use wattention::device::{Device, Precision};
use wattention::error::Result;
use wattention::ops::attention::block_sparse_attention::{BlockSparse, Blocks, block_sparse_attention};
use wattention::ops::attention::dense_attention::{Dense, dense_attention};
use wattention::ops::attention::window_attention::{Window, window_attention};
use wattention::tape::{Dropout, Gradients, Tape};
use wattention::tensor::{Node, Tensor};

const H: usize = 2;
const D: usize = 16;

/// An attention of q, k and v `[1, S, H D]` whose keys are masked where the state is 0.
type Attention<'a> = &'a dyn Fn(&Tape, [&Tensor; 3], &Tensor) -> Result<Tensor>;

/// o, dq, dk and dv of heads of `d` where masked rows of k and v hold `held`.
fn outcome(device: &Device, state: &[i32], d: usize, held: f32, attention: Attention) -> Vec<Vec<u32>> {
    let (s, c) = (state.len(), H * d);
    let leaf = |seed: u64| {
        let mut values = random(seed, s * c);
        for (row, _) in values.chunks_mut(c).zip(state).filter(|(_, state)| seed > 1 && **state == 0) {
            row.fill(held);
        }
        upload(device, [1, s, c], &values).unwrap().with_node(Some(Node::fresh()))
    };
    let x = [1, 2, 3].map(leaf);
    let d_o = upload(device, [1, s, c], &random(4, s * c)).unwrap();
    let mask = Tensor::upload(device, [1, s], state).unwrap();
    let (tape, mut gradients) = (Tape::gradients(), Gradients::new());
    let o = attention(&tape, x.each_ref(), &mask).unwrap();
    let (saved, loss) = (o.clone(), Tensor::upload(device, [1], &[0f32]).unwrap());
    let loss = tape.record(&[&o], loss, move |_, gradients| gradients.add(&saved, d_o));
    tape.backward(&loss, 1.0, &mut gradients).unwrap();
    let gradient = |x: &Tensor| gradients.of(x).unwrap().read_floats().unwrap();
    std::iter::once(o.read_floats().unwrap()).chain(x.iter().map(gradient)).map(|x| bits(&x)).collect()
}

fn check(what: &str, state: &[i32], attention: Attention) {
    let formats: &[Precision] = match simulated() {
        true => &Precision::ALL,
        false => &[Precision::Fp32, Precision::Bf16],
    };
    for &precision in formats {
        check_in(precision, D, what, state, attention);
    }
    #[cfg(wattention_sim)]
    for d in [64, 128] {
        let on = format!("{what} by wgmma, heads of {d}");
        on_hopper(Order::Forward, || check_in(Precision::Bf16, d, &on, state, attention));
    }
}

fn check_in(precision: Precision, d: usize, what: &str, state: &[i32], attention: Attention) {
    let device = poisoned_in(precision);
    let want = outcome(&device, state, d, 0.0, attention);
    for held in [f32::NAN, f32::INFINITY] {
        let got = outcome(&device, state, d, held, attention);
        for (name, (got, want)) in ["o", "dq", "dk", "dv"].iter().zip(got.iter().zip(&want)) {
            assert!(got == want, "{what} in {precision}: {held} in masked keys shows in {name}");
        }
    }
}

/// Every fifth position and the tail are masked: in the middle of tiles, and whole tiles of nothing else.
fn state(s: usize) -> Vec<i32> {
    (0..s).map(|i| i32::from(i % 5 != 3 && i < s - 70)).collect()
}

#[test]
fn dense_attention_ignores_what_masked_keys_hold() {
    for causal in [None, Some(0)] {
        check("dense", &state(200), &|tape, [q, k, v], mask| {
            let key_state = Some(mask);
            let pattern = Dense { heads: H, key_len: 200, causal, key_state, dropout: Dropout::OFF };
            dense_attention(tape, q, k, v, pattern)
        });
    }
}

/// Rows of k and v behind the keys of a cache that is not full.
#[test]
fn dense_attention_ignores_what_lies_beyond_its_keys() {
    let state: Vec<i32> = (0..200).map(|i| i32::from(i < 90)).collect();
    for causal in [None, Some(0)] {
        check("dense with fewer keys than rows", &state, &|tape, [q, k, v], _| {
            let pattern = Dense { heads: H, key_len: 90, causal, key_state: None, dropout: Dropout::OFF };
            dense_attention(tape, q, k, v, pattern)
        });
    }
}

#[test]
fn window_attention_ignores_what_masked_keys_hold() {
    let mut state = state(200);
    state[10] = 2;
    check("window", &state, &|tape, [q, k, v], mask| {
        let global_index = Tensor::upload(q.device(), [1, 2], &[10, -1])?;
        let pattern = Window {
            heads: H,
            window: 40,
            key_state: mask,
            global_index: &global_index,
            dropout: Dropout::OFF,
        };
        window_attention(tape, q, k, v, pattern)
    });
}

#[test]
fn block_sparse_attention_ignores_what_masked_keys_hold() {
    for (n, k_size) in [(6, 32), (3, 64)] {
        check("block-sparse", &state(n * k_size), &|tape, [q, k, v], mask| {
            // Every block sees every block once, which its transpose says, too.
            let row_ptr: Vec<i32> =
                (0..H).flat_map(|h| (0..=n).map(move |row| ((h * n + row) * n) as i32)).collect();
            let col: Vec<i32> = (0..H * n * n).map(|entry| (entry % n) as i32).collect();
            let table = [&row_ptr[..], &col[..], &vec![1; col.len()][..]];
            let blocks = Blocks::new(q.device(), H, table, table)?;
            let pattern = BlockSparse { heads: H, block_size: k_size, blocks: &blocks, key_state: mask };
            block_sparse_attention(tape, q, k, v, pattern)
        });
    }
}
