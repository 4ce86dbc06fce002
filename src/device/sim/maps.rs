//! Maps of tensors as the simulator's copies read them: `SimMap` of kernels/sim/async.h, word by word.

use crate::device::Maps;
use crate::device::tensor_map::{Encoded, Packed, RANK, TensorMap};

/// `SIM_MAP_MARK`.
const MARK: u64 = 0x7ff4_70ad_3a9b_5c1e;

/// The bits of one map.
pub(in crate::device) fn encode(map: &TensorMap) -> Encoded {
    let ([column, head, position, sample], [a, b, c]) = (map.sizes, map.strides);
    let [w, x, y, z] = map.sides.map(u64::from);
    [MARK, RANK as u64, map.address, column, head, position, sample, a, b, c, w, x, y, z, 0, 0]
}

/// A pass' second argument.
pub(super) fn pack(maps: &Maps) -> Packed {
    Packed::of(maps.described().map(|both| both.each_ref().map(encode)))
}
