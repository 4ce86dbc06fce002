//! Attention by products of warpgroups, on the simulator: against the same f64 truth and within the same bounds as
//! the other kernels in bf16, and the same bits in every order of threads and of what lands.

use crate::ops::attention_precision::{check_in, outcome};
use crate::ops::dense_attention::with_truth as with_dense_truth;
use crate::ops::device::on_hopper;
use crate::ops::window_attention::with_truth;
use crate::support::attention::{Pair, Sizes, all_kept};
use crate::support::compare::bits;
use wattention::cases::Case;
use wattention::cases::Site;
use wattention::cases::attention::{BlockSparse, Dense, Sample, Window};
use wattention::device::Precision;
use wattention::device::sim::Order;

/// The listed cases with heads that these kernels serve, and more: rows of every warpgroup, several rounds of the ring,
/// more tiles of rows than blocks, globals in tiles of their own, heads that are padded, and inputs of a few tokens.
fn cases() -> Vec<Window> {
    let of = |name, samples: &'static [Sample], [s, h, d, w]: [usize; 4], dropout| Window {
        name,
        samples,
        s,
        h,
        d,
        w,
        dropout,
    };
    let dropout = Window::all().iter().map(|case| case.dropout).find(|site| !site.is_off()).unwrap();
    let off = Site::OFF;
    let mut cases: Vec<Window> = Window::all().into_iter().filter(|case| case.d > 32).collect();
    cases.extend([
        of("three warpgroups", &[(450, &[0, 299]), (401, &[])], [450, 1, 64, 100], off),
        of("a wide window", &[(600, &[])], [600, 1, 64, 512], off),
        of("globals of two tiles", &[(150, &SEVENTY)], [150, 1, 64, 5], off),
        of("a single token", &[(1, &[]), (0, &[])], [1, 1, 64, 3], off),
        of("padded heads", &[(140, &[7])], [140, 2, 40, 30], off),
        of("heads that start anywhere", &[(140, &[7])], [140, 2, 37, 30], off),
        of("two warpgroups", &[(300, &[0]), (211, &[210])], [300, 1, 128, 90], off),
        of("padded heads of 128", &[(150, &[])], [150, 1, 100, 200], dropout),
        of("a wide window of heads of 128", &[(530, &[])], [530, 1, 128, 300], off),
        of("globals of two tiles, heads of 128", &[(150, &SEVENTY)], [150, 1, 104, 5], off),
        of("more tiles than blocks, heads of 128", &MORE_THAN_BLOCKS, [3, 1, 128, 1], off),
        of("dropout and globals", &[(300, &[0, 77]), (283, &[3])], [300, 1, 64, 80], dropout),
    ]);
    cases
}

const MORE_THAN_BLOCKS: [Sample; 133] = [(3, &[]); 133];

const SEVENTY: [usize; 70] = {
    let mut positions = [0; 70];
    let mut i = 0;
    while i < 70 {
        positions[i] = 2 * i;
        i += 1;
    }
    positions
};

#[test]
fn window_attention_is_right_and_the_same_in_every_order() {
    for case in cases() {
        with_truth(&case, |case, sizes, times, factor| check_in_orders(case, sizes, times, factor));
    }
}

fn check_in_orders(case: &Case, sizes: Sizes, times: &dyn Fn(Pair) -> f64, factor: &dyn Fn(Pair) -> f64) {
    let check = || check_in(Precision::Bf16, case, sizes, times, factor);
    let first = on_hopper(Order::Forward, check).map(|values| bits(&values));
    for order in [Order::Reverse, Order::Shuffled(3)] {
        let other = on_hopper(order, || outcome(Precision::Bf16, case, sizes)).map(|values| bits(&values));
        assert_eq!(other, first, "{}: {order:?}", case.name);
    }
}

#[test]
fn dense_attention_is_right_and_the_same_in_every_order() {
    let listed = Dense::all();
    let dropout = listed.iter().map(|case| case.dropout).find(|site| !site.is_off()).unwrap();
    let off = Site::OFF;
    let of = Dense::new;
    let more = [
        of("several rounds of the ring", [1, 70, 600, 600, 1, 64], None, false, off),
        of("causal, heads of 64", [1, 200, 200, 200, 2, 64], Some(0), false, off),
        of("causal from a past", [1, 70, 190, 200, 1, 64], Some(120), true, off),
        // Few queries over many keys, which blocks share, the last ones masked.
        of("split keys", [2, 5, 1300, 1310, 1, 64], None, true, off),
        of("padded heads that start anywhere", [1, 66, 130, 130, 2, 37], None, true, off),
        of("dropout, heads of 64", [1, 80, 150, 150, 1, 64], Some(70), true, dropout),
        of("one query", [1, 1, 90, 90, 1, 64], None, false, off),
        of("causal from a past, heads of 128", [1, 150, 290, 301, 1, 128], Some(140), true, off),
        of("split keys, heads of 128", [1, 5, 1300, 1310, 1, 128], None, true, off),
        of("dropout, heads of 100", [1, 80, 150, 150, 1, 100], Some(70), true, dropout),
    ];
    for case in listed.into_iter().filter(|case| case.d > 32).chain(more) {
        with_dense_truth(&case, |case, sizes, times, factor| check_in_orders(case, sizes, times, factor));
    }
}

#[test]
fn block_sparse_attention_is_right_and_the_same_in_every_order() {
    let of = |name, real, [n, k, h, d]: [usize; 4]| BlockSparse { name, real, n, k, h, d };
    for case in [
        of("one block", &[64, 1], [1, 64, 1, 64]),
        of("blocks and padding", &[320, 211], [5, 64, 2, 64]),
        of("blocks of two tiles", &[256, 100], [2, 128, 1, 64]),
        of("padded heads", &[190], [3, 64, 1, 37]),
        // Lists of more than 16 blocks, which are cut.
        of("long lists", &[1200], [19, 64, 1, 48]),
        of("blocks and padding, heads of 128", &[320, 211], [5, 64, 2, 128]),
        of("blocks of two tiles, heads of 100", &[256, 100], [2, 128, 1, 100]),
        of("long lists, heads of 72", &[1200], [19, 64, 1, 72]),
    ] {
        let BlockSparse { n, k, h, d, .. } = case;
        let (counts, state, s) = (case.counts(), case.key_state(), n * k);
        let sizes = Sizes::square(case.real.len(), s, h, d);
        let times = |at: Pair| {
            let visible = state[at.b * s + at.i] != 0 && state[at.b * s + at.j] != 0;
            visible as u8 as f64 * counts.at(at.h, at.i / k, at.j / k) as f64
        };
        check_in_orders(&case.case(), sizes, &times, &all_kept);
    }
}
