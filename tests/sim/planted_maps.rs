//! `kernels/sim/planted_maps.cu`, fault by fault.

use crate::sim::planted::{Runs, descriptor, run};
use wattention::device::{Call, CpuCall, Gpu, Kernel, Maps, Pass, TensorMap};

/// Elements of x [2, 64, 2, 32] and of y.
const N: usize = 8192;
const SIZES: [u64; 4] = [48, 2, 40, 2];
/// Bytes of a head, of a position and of a sample.
const STRIDES: [u64; 3] = [128, 256, 16384];

/// The map that the kernels expect, in other sizes and strides. Its elements are halves of floats, which only this test has.
fn described(call: &Call, sizes: [u64; 4], strides: [u64; 3]) -> Maps {
    let map = TensorMap { address: call.input("x").address() as u64, sizes, strides, sides: [64, 1, 64, 1] };
    Maps::Of([map, map])
}

macro_rules! with_maps {
    ($name:literal) => {
        with_maps!($name, |call| described(call, SIZES, STRIDES))
    };
    ($name:literal, $maps:expr) => {{
        fn passes(call: &Call) -> Vec<Pass> {
            let maps: fn(&Call) -> Maps = $maps;
            vec![Pass::new($name, 4, 64).shared(8192 + 3 * 1024).maps(maps(call))]
        }
        run(descriptor!($name, passes), N)
    }};
}

/// Element (sample, position, head, column) of x, or zero outside of what the map has.
fn element(sample: usize, position: i64, head: usize, column: usize) -> f32 {
    match (0..40).contains(&position) && column < 24 {
        true => (((sample * 64 + position as usize) * 2 + head) * 32 + column + 1) as f32,
        false => 0.0,
    }
}

/// Element `at` of y for boxes from a position on.
fn boxed(at: usize, from: i64) -> f32 {
    let [block, row, column] = [at / 2048, at / 32 % 64, at % 32];
    element(block / 2, from + row as i64, block % 2, column)
}

fn gives(runs: &Runs, from: i64) {
    for outcome in &runs.outcomes {
        for (at, &bits) in outcome.as_ref().unwrap().iter().enumerate() {
            assert_eq!(f32::from_bits(bits), boxed(at, from), "element {at}");
        }
    }
}

/// Every order gives other numbers than are right, in more elements than a slip.
fn gives_others(runs: &Runs) {
    for outcome in &runs.outcomes {
        let bits = outcome.as_ref().unwrap();
        let wrong = bits.iter().enumerate().filter(|&(at, &bits)| f32::from_bits(bits) != boxed(at, 8));
        assert!(wrong.count() > 500, "another map or place gives the same numbers");
    }
}

#[test]
fn a_box_is_swizzled_and_zero_where_the_tensor_has_nothing() {
    gives(&with_maps!("planted_box"), 8);
    gives(&with_maps!("planted_box_before_the_start"), -8);
}

#[test]
fn copies_are_waited_for() {
    with_maps!("planted_box_no_wait").is_noticed();
    let first = with_maps!("planted_box_left_behind").outcomes.remove(0);
    assert!(first.unwrap_err().to_string().contains("1 bulk copies on their way"));
}

#[test]
fn barriers_count_the_bytes_of_whole_boxes() {
    with_maps!("planted_box_no_barrier").fails_with(&["there is no barrier at byte 1008 of shared memory"]);
    with_maps!("planted_box_no_init_fence").fails_with(&["was not fenced after mbarrier_init"]);
    with_maps!("planted_box_too_few_bytes").fails_with(&[
        "deadlock",
        "parity 0",
        "lacks 0 of 1 arrivals and",
    ]);
    with_maps!("planted_box_too_many_bytes").fails_with(&["16 bytes more than were announced"]);
}

#[test]
fn nobody_else_touches_where_a_box_goes() {
    let two = with_maps!("planted_box_by_two_threads");
    two.fails_with(&["tensor_copy: another one is on its way to the same bytes"]);
    let before = with_maps!("planted_box_written_before");
    before.fails_with(&["tensor_copy: its place was written by ordinary means and not fenced"]);
    let meanwhile = with_maps!("planted_box_written_meanwhile");
    meanwhile.fails_with(&["was written while a bulk copy is on its way"]);
}

#[test]
fn a_box_has_a_place_in_shared_memory_whose_address_decides_the_swizzle() {
    with_maps!("planted_box_misaligned").fails_with(&["its place is not a multiple of 128 bytes"]);
    gives_others(&with_maps!("planted_box_inside_the_pattern"));
    with_maps!("planted_box_outside").fails_with(&["an address outside of shared memory"]);
    with_maps!("planted_box_larger_than_shared").fails_with(&["a box larger than shared memory"]);
}

#[test]
fn what_a_map_has_wrong_is_named() {
    let none = "tensor_copy: there is no map that was encoded";
    with_maps!("planted_box_no_map").fails_with(&["thread 0", none]);
    with_maps!("planted_box", |_| Maps::Absent).fails_with(&["thread 0", none]);
    with_maps!("planted_box_no_map_to_fetch").fails_with(&["prefetch_map: there is no map"]);
    with_maps!("planted_box_map_misaligned").fails_with(&["a map lies at a multiple of 64 bytes"]);
    with_maps!("planted_box_three_dimensions").fails_with(&["the map is of 3 dimensions"]);
    with_maps!("planted_box_tensor_misaligned").fails_with(&["tensor is not aligned to 16 bytes"]);
    with_maps!("planted_box_stride").fails_with(&["a stride that is not a multiple of 16 bytes"]);
    with_maps!("planted_box_empty").fails_with(&["a dimension that is not 1 to 2^32"]);
    with_maps!("planted_box_wide_box").fails_with(&["a box that is not 1 to 256 wide"]);
    with_maps!("planted_box_wide_row").fails_with(&["are not those of its swizzle"]);
}

#[test]
fn a_map_of_another_tensor_shows() {
    gives_others(&with_maps!("planted_box_coordinates_swapped"));
    // Heads and positions that have changed places, and samples that follow each other too soon.
    gives_others(&with_maps!("planted_box", |call| described(call, [48, 40, 2, 2], [256, 128, 16384])));
    gives_others(&with_maps!("planted_box", |call| described(call, SIZES, [128, 256, 40 * 256])));
    let beyond = with_maps!("planted_box_beyond_the_tensor");
    beyond.fails_with(&["thread 0: touched memory outside", "byte 34", "of `x`, which has 32768"]);
}

#[test]
fn maps_are_given_to_entries_that_take_some() {
    let none = with_maps!("planted_box", |_| Maps::Unused);
    none.fails_with(&["planted_box takes 384 bytes of maps and its pass gives 0"]);
    let some = with_maps!("planted_none", |_| Maps::Absent);
    some.fails_with(&["planted_none takes 0 bytes of maps and its pass gives 384"]);
}
