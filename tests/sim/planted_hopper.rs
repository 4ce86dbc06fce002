//! `kernels/sim/planted_hopper.cu`, fault by fault.

use crate::sim::planted::{Runs, descriptor, planted, run};
use wattention::device::{Call, CpuCall, Gpu, Kernel, Pass};

macro_rules! copy {
    ($name:literal) => {
        run(planted!($name, 64, 64, 520), 128)
    };
}

/// Over a tile of 64 by 64.
macro_rules! product {
    ($name:literal) => {
        run(planted!($name, 128, 4096, 9216), 4096)
    };
}

/// The same with the other factor in shared memory, too.
macro_rules! operands {
    ($name:literal) => {
        run(planted!($name, 128, 4096, 17408), 4096)
    };
}

macro_rules! meeting {
    ($name:literal) => {
        run(planted!($name, 64, 64, 256), 128)
    };
}

macro_rules! hand {
    ($name:literal) => {
        run(planted!($name, 256, 256, 0), 256)
    };
}

/// Every order gives these values.
fn gives(runs: &Runs, want: impl Fn(usize) -> f32) {
    for outcome in &runs.outcomes {
        let bits = outcome.as_ref().unwrap();
        for (i, &got) in bits.iter().enumerate() {
            assert_eq!(f32::from_bits(got), want(i), "element {i}");
        }
    }
}

/// What [`product!`] should give: its tile by rows, and by columns.
fn unit_products(at: usize) -> f32 {
    let (row, column) = (at / 64, at % 64);
    ((64 * column + row) % 251) as f32 + 256.0 * ((64 * row + column) % 251) as f32
}

/// What [`operands!`] should give.
fn by_rows(at: usize) -> f32 {
    ((at % 64 * 64 + at / 64) % 251) as f32
}

/// Every order ends with other numbers than these.
fn gives_others(runs: &Runs, right: impl Fn(usize) -> f32) {
    for outcome in &runs.outcomes {
        let bits = outcome.as_ref().unwrap();
        let wrong = bits.iter().enumerate().filter(|&(i, &got)| f32::from_bits(got) != right(i));
        assert!(wrong.count() > 2048, "another layout gives the same numbers");
    }
}

#[test]
fn what_has_no_fault_is_right_in_every_order() {
    gives(&copy!("planted_copy"), |i| (i + 1) as f32);
    gives(&product!("planted_product"), unit_products);
    gives(&meeting!("planted_meeting"), |i| (i / 64 * 64 + 64 - i % 64) as f32);
    gives(&hand!("planted_hand"), |i| (i + 1) as f32);
}

#[test]
fn copies_that_are_not_waited_for_are_noticed() {
    copy!("planted_copy_no_wait").is_noticed();
    copy!("planted_copy_wrong_parity").is_noticed();
    copy!("planted_copy_no_expectation").is_noticed();
    // Where copies land as late as can be.
    let first = copy!("planted_copy_left_behind").outcomes.remove(0);
    assert!(first.unwrap_err().to_string().contains("1 bulk copies on their way"));
    copy!("planted_copy_stage_taken_early").shows_in_the_bits();
}

#[test]
fn phases_are_waited_for_one_by_one() {
    copy!("planted_copy_waits_twice").fails_with(&["parity 0", "a second time in one phase"]);
    copy!("planted_copy_leaves_out_a_phase").fails_with(&["parity 0", "went on without waiting"]);
}

#[test]
fn barriers_are_made_and_fenced_once_and_left_alone() {
    copy!("planted_copy_no_init_fence").fails_with(&["byte 512 was not fenced after mbarrier_init"]);
    copy!("planted_copy_no_init").fails_with(&["there is no barrier at byte 512"]);
    copy!("planted_copy_init_twice").fails_with(&["mbarrier_init", "byte 512 of shared memory is in use"]);
    copy!("planted_copy_written_over").fails_with(&["byte 512 of shared memory was written over"]);
}

#[test]
fn arrivals_and_bytes_are_counted() {
    copy!("planted_copy_too_many_arrivals").fails_with(&["thread 0", "byte 512 already has its 1 arrivals"]);
    let lacks = ["deadlock", "mbarrier_wait(parity 0)", "byte 512", "lacks 1 of 2 arrivals"];
    copy!("planted_copy_too_few_arrivals").fails_with(&lacks);
    copy!("planted_copy_too_few_bytes").fails_with(&[
        "deadlock",
        "parity 0",
        "lacks 0 of 1 arrivals and 272 bytes",
    ]);
    copy!("planted_copy_too_many_bytes").fails_with(&["byte 512 16 bytes more than were announced"]);
}

#[test]
fn copies_keep_to_pieces_of_16_bytes_and_to_a_place_of_their_own() {
    copy!("planted_copy_half_a_piece").fails_with(&["bulk_copy: not a multiple of 16 bytes"]);
    copy!("planted_copy_misaligned").fails_with(&["misaligned"]);
    copy!("planted_copy_two_to_one_place").fails_with(&["another one is on its way to the same bytes"]);
}

#[test]
fn what_products_read_is_fenced() {
    let unfenced = ["was written by ordinary means and not fenced"];
    product!("planted_product_no_proxy_fence").fails_with(&unfenced);
    product!("planted_product_proxy_fence_by_one").fails_with(&unfenced);
    product!("planted_product_no_fence").fails_with(&["a product without a wgmma_fence before it"]);
    product!("planted_product_operand_after_fence")
        .fails_with(&["registers of a product were written after"]);
    product!("planted_product_no_second_fence").fails_with(&["used again without a wgmma_fence"]);
}

#[test]
fn nothing_of_a_product_is_touched_before_its_end() {
    product!("planted_product_no_wait").shows_in_the_bits();
    product!("planted_product_wait_for_another").shows_in_the_bits();
    product!("planted_product_never_waited").fails_with(&["returned with products that it never waited for"]);
    product!("planted_product_sums_written").fails_with(&["accumulators were written before the wait"]);
    product!("planted_product_operand_written")
        .fails_with(&["an operand in registers was written before the wait"]);
    product!("planted_product_tile_written").fails_with(&["shared memory was written before the wait"]);
}

#[test]
fn descriptors_are_read_bit_by_bit() {
    gives_others(&product!("planted_product_no_swizzle"), unit_products);
    gives_others(&product!("planted_product_wrong_stride"), unit_products);
    product!("planted_product_not_transposed").fails_with(&["an operand reaches outside of shared memory"]);
    product!("planted_product_outside").fails_with(&["an operand reaches outside of shared memory"]);
    product!("planted_product_inside_the_pattern").fails_with(&["begins inside of its swizzle's pattern"]);
    product!("planted_product_base_offset").fails_with(&["has a base offset"]);
    product!("planted_product_loose_bits").fails_with(&["bits that mean nothing"]);
}

#[test]
fn both_operands_may_lie_in_shared_memory_in_rows_of_any_swizzle() {
    gives(&operands!("planted_operands_128"), by_rows);
    gives(&operands!("planted_operands_64"), by_rows);
    gives(&operands!("planted_operands_32"), by_rows);
    gives_others(&operands!("planted_operands_another_swizzle"), by_rows);
    operands!("planted_operands_not_fenced").fails_with(&["was written by ordinary means and not fenced"]);
    operands!("planted_operands_written").fails_with(&["shared memory was written before the wait"]);
}

#[test]
fn a_product_is_one_of_all_its_threads() {
    product!("planted_product_lanes_differ").fails_with(&["lanes of a warp issue different products"]);
    product!("planted_product_warps_differ")
        .fails_with(&["warps 0 and 2 of one warpgroup issued different products"]);
}

#[test]
fn named_barriers_have_a_number_and_a_count() {
    meeting!("planted_meeting_another_count")
        .fails_with(&["barrier 3 is for", "threads at one place and for"]);
    meeting!("planted_meeting_another_number").fails_with(&["deadlock", "named_barrier_sync(", "64)"]);
    meeting!("planted_meeting_no_barrier").fails_with(&["barrier 16 is not one of 1 to 15"]);
    meeting!("planted_meeting_no_warps").fails_with(&["63 threads are no whole warps"]);
    meeting!("planted_meeting_left_behind").fails_with(&["32 of 64 threads at barrier 3"]);
}

#[test]
fn registers_are_given_before_they_are_taken() {
    hand!("planted_hand_too_many").fails_with(&["deadlock", "registers_up<256>", "registers are free"]);
    hand!("planted_hand_up_is_down").fails_with(&["registers_up: from 248 registers to 240"]);
    hand!("planted_hand_one_warp")
        .fails_with(&["warps 4 and 5 of one warpgroup have different numbers of registers"]);
}
