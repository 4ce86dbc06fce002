//! Exchanges of several ranks on the stand-ins for NVIDIA's libraries.

use super::super::{nccl, stand_in};
use super::*;
use crate::collective::Backend;
use crate::collective::tests::threads::ranks_over;
use crate::device::{Device, Executor, Lifetime, Precision};
use crate::shape::Stored;
use half::bf16;
use std::ffi::c_void;

/// More than the stand-in sums at a time, and no multiple of the number of ranks.
const COUNT: usize = 40_001;

fn is_here() -> bool {
    let missing = stand_in::missing().unwrap();
    missing.inspect(|why| println!("skipped: {why}")).is_none()
}

fn value(rank: usize, i: usize) -> f32 {
    ((rank * 7919 + i * 104_729) % 1013) as f32 * 1e-3 - 0.5
}

/// What is in the GPU of each of `size` ranks after `exchange`, where that gives anything.
fn after<T: Stored>(
    size: usize,
    exchange: &(dyn Fn(usize) -> Exchange + Sync),
) -> Vec<Result<Vec<T>, (i32, String)>> {
    ranks_over(size, Some(Backend::Nccl), |group| {
        let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, true).unwrap()));
        let values: Vec<T> = (0..COUNT).map(|i| T::narrow(value(group.rank(), i))).collect();
        let block = device.allocate(size_of::<T>() * COUNT, Lifetime::Persistent).unwrap();
        device.upload(&block, 0, bytemuck::cast_slice(&values)).unwrap();
        let exchange = exchange(group.rank());
        let begun = device.meet(group).and_then(|()| device.begin_exchange(&exchange, &block, 0));
        let done = begun.and_then(|()| device.finish_exchanges(group, exchange.name()));
        let mut after = vec![T::narrow(0.0); COUNT];
        device.download(&block, 0, bytemuck::cast_slice_mut(&mut after)).unwrap();
        device.release(block);
        done.map(|()| after).map_err(|error| (error.exit_code(), error.to_string()))
    })
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn what_gpus_exchange_is_what_hosts_would() {
    if !is_here() {
        return;
    }
    for size in [2, 3] {
        let sum = |i| (1..size).fold(value(0, i), |sum, rank| sum + value(rank, i));
        for values in after::<f32>(size, &|_| Exchange::Sum(COUNT, DType::F32)) {
            assert!(bits(values.unwrap()) == bits((0..COUNT).map(sum)), "a sum of {size}");
        }
        for values in after::<f32>(size, &|_| Exchange::Broadcast(COUNT - 1)) {
            let values = values.unwrap();
            assert!(values[..COUNT - 1].iter().enumerate().all(|(i, x)| *x == value(0, i)));
        }
        // The last part is shorter, as the last shard may be.
        let part = COUNT.div_ceil(size);
        let parts: Vec<_> = (0..size).map(|rank| rank * part..((rank + 1) * part).min(COUNT)).collect();
        for values in after::<f32>(size, &|_| Exchange::Gather(parts.clone())) {
            let want = (0..COUNT).map(|i| value(i / part, i));
            assert!(bits(values.unwrap()) == bits(want), "parts of {size}");
        }
    }
}

/// NCCL adds in the type of what it is given: each sum is rounded.
#[test]
fn sums_in_bf16_are_rounded_at_every_addition() {
    if !is_here() {
        return;
    }
    for size in [2, 3] {
        let of = |rank: usize, i: usize| bf16::from_f32(value(rank, i));
        let sum = |i| (1..size).fold(of(0, i), |sum, r| bf16::from_f32(sum.to_f32() + of(r, i).to_f32()));
        for values in after::<bf16>(size, &|_| Exchange::Sum(COUNT, DType::BF16)) {
            let values = values.unwrap();
            assert!(values.iter().enumerate().all(|(i, x)| x.to_bits() == sum(i).to_bits()), "{size} ranks");
        }
    }
}

#[test]
fn exchanges_that_differ_by_rank_end_all_of_them() {
    if !is_here() {
        return;
    }
    let differing: [&(dyn Fn(usize) -> Exchange + Sync); 3] = [
        &|rank| Exchange::Sum(COUNT - rank, DType::F32),
        &|rank| match rank {
            0 => Exchange::Sum(COUNT, DType::F32),
            _ => Exchange::Broadcast(COUNT),
        },
        &|rank| Exchange::Sum(COUNT, [DType::F32, DType::BF16][rank]),
    ];
    for exchange in differing {
        for outcome in after::<f32>(2, exchange) {
            let (code, text) = outcome.unwrap_err();
            assert_eq!(code, 69, "{text}");
            for part in ["NCCL cannot exchange", "NCCL_DEBUG=WARN", "--ddp-backend host"] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}

/// What the stand-in is for: NCCL lets pass what later hangs or gives wrong sums.
#[test]
fn the_stand_in_refuses_what_nccl_leaves_undefined() {
    if !is_here() {
        return;
    }
    const REFUSED: Status = 5;
    let all = ranks_over(2, Some(Backend::Nccl), |group| {
        let cuda = stand_in::open(Precision::Fp32, true).unwrap();
        cuda.meet(group).unwrap();
        let block = cuda.allocate(4, Lifetime::Persistent).unwrap();
        cuda.begin_exchange(&Exchange::Sum(1, DType::F32), &block, 0).unwrap();
        cuda.finish_exchanges(group, "sum").unwrap();
        let functions = nccl::load().unwrap();
        let communicator = cuda.communicator.borrow();
        let communicator = communicator.as_ref().unwrap();
        let (at, handle) = (block.address as u64, communicator.handle.get());
        let (own, other) = (communicator.stream.cast(), cuda.context.stream.cast());
        // What NCCL's stream was not told to wait for.
        cuda.upload(&block, 0, &[0; 4]).unwrap();
        // SAFETY: the block and the communicator live; a stream that is refused is not used.
        let statuses = unsafe {
            let sum = |type_, operation, stream: *mut c_void| {
                (functions.all_reduce)(at, at, 1, type_, operation, handle, stream)
            };
            let streams = [sum(FLOAT, SUM, other), sum(FLOAT, SUM, own)];
            let [of_integers, product] = [sum(2, SUM, own), sum(FLOAT, 1, own)];
            [streams[0], streams[1], of_integers, product, (functions.group_end)()]
        };
        cuda.release(block);
        statuses
    });
    assert_eq!(all, [[REFUSED; 5]; 2]);
}
