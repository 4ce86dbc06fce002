//! Launches for compute capability 9.0, and attention by them through a stand-in for the driver.

use super::*;
use crate::device::cuda::stand_in;
use crate::device::plan::Plan;
use crate::device::sim::Sim;
use crate::device::{Arg, Block, Device, Executor, GraphCounts, Precision, Signature};
use crate::error::Result;
use crate::ops::attention::dense_attention::{Dense, dense_attention};
use crate::tape::{Dropout, Tape};
use crate::tensor::Tensor;
use half::bf16;
use std::rc::Rc;

#[test]
fn every_tile_fits_a_multiprocessor() {
    for d in [33, 64, 65, 128] {
        for tile in [Tile::forward(d), Tile::backward(d), Tile::lists(d), Tile::lists_backward(d)] {
            let pass = tile.pass(["small", "large"], 1000);
            assert_eq!((pass.entry, pass.grid[0]), (if d <= 64 { "small" } else { "large" }, 132));
            // What a block may ask for on compute capability 9.0.
            assert!(pass.block <= 512 && pass.shared <= 227 << 10, "{pass:?}");
        }
    }
    // Two of these share one.
    assert!(2 * (Tile::single().each("single", 1).shared + 1024) <= 228 << 10);
}

/// A call of two tensors in one block, `[B, rows, 2, d]`, the second from `offset` on.
fn call_of(d: usize, offset: usize) -> Call {
    let signature = Signature { kernel: "k", names: [&[], &["k", "v"], &["B", "H", "D"], &[]] };
    let block = Block { address: 0x7f00_0000_0000, bytes: 1 << 20, arena: false, id: 0 };
    let tensor = |offset| Arg { block, offset, len: 3 * 90 * 2 * d, dtype: DType::BF16 };
    let mut call = Call::new(signature);
    call.give_input("k", tensor(0)).unwrap();
    call.give_input("v", tensor(offset)).unwrap();
    for (name, size) in [("B", 3), ("H", 2), ("D", d)] {
        call.give_size(name, size).unwrap();
    }
    call
}

#[test]
fn maps_end_where_positions_may_not_be_read() {
    let Maps::Of([k, v]) = maps(&call_of(48, 4096), ["k", "v"], 90, 67) else {
        panic!("tensors that are aligned have maps");
    };
    assert_eq!((k.sizes, k.sides), ([48, 2, 67, 3], [64, 1, 64, 1]));
    assert_eq!(k.strides, [96, 192, 90 * 192], "a sample begins behind all rows of the one before");
    assert_eq!((k.address, v.address), (0x7f00_0000_0000, 0x7f00_0000_1000));
    assert_eq!(maps(&call_of(48, 2), ["k", "v"], 90, 67), Maps::Absent, "a view that starts anywhere");
    assert_eq!(maps(&call_of(37, 4096), ["k", "v"], 90, 67), Maps::Absent, "heads that start anywhere");
}

/// o of 70 queries over the first `key_len` of 200 keys, two heads of `d`.
fn attended(device: &Device, d: usize, key_len: usize) -> Result<Tensor> {
    let upload = |seed: usize, rows: usize| {
        let value = |i: usize| bf16::from_f32(((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0);
        let values: Vec<bf16> = (0..rows * 2 * d).map(value).collect();
        Tensor::upload(device, [1, rows, 2 * d], &values)
    };
    let pattern = Dense { heads: 2, key_len, causal: None, key_state: None, dropout: Dropout::OFF };
    dense_attention(&Tape::off(), &upload(1, 70)?, &upload(2, 200)?, &upload(3, 200)?, pattern)
}

/// Launched, recorded, and replayed with another number of keys, for which the maps of the graph's nodes are others.
#[test]
fn maps_pass_through_the_driver_in_launches_and_in_graphs() {
    if let Some(why) = stand_in::missing().unwrap() {
        return println!("skipped: {why}");
    }
    let read = |o: Tensor| o.read_floats().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    for d in [64, 37] {
        let plan = Plan::new(Precision::Bf16);
        plan.record();
        drop(attended(&Device::new(plan.clone()), d, 200).unwrap());
        let layout = plan.finish().unwrap().layout;
        let cuda = Rc::new(stand_in::open(Precision::Bf16, true).unwrap());
        if let Err(why) = cuda.set_engine(Engine::Hopper) {
            return println!("skipped: {why}");
        }
        let device = Device::new(cuda.clone());
        for key_len in [200, 200, 150, 67, 200] {
            device.begin_step(&layout).unwrap();
            let o = attended(&device, d, key_len).unwrap();
            device.end_step().unwrap();
            let sim = Sim::new(Precision::Bf16).unwrap();
            sim.set_engine(Engine::Hopper).unwrap();
            let want = attended(&Device::new(Rc::new(sim)), d, key_len).unwrap();
            assert!(read(o) == read(want), "{key_len} keys of heads of {d}");
        }
        let counts = GraphCounts { direct: 1, recorded: 1, replayed: 3, changed: 3, diverged: 0 };
        assert_eq!(cuda.graph_counts(), counts);
    }
}
