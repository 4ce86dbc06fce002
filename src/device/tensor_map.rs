//! Maps of tensors, by which kernels for compute capability 9.0 copy boxes of them (`TensorMap` of kernels/hopper.cuh).
//!
//! A pass says what is in a map; each executor encodes it, as the driver does or for the simulator. Tensors are bf16 of
//! four dimensions, the innermost first; a row of a box is 128 bytes, whose 16-byte pieces are swizzled in shared memory.

use super::Arg;
use crate::shape::DType;

/// Dimensions of a map.
pub const RANK: usize = 4;
/// Bytes of a row of a box, as the swizzle repeats.
const ROW: u64 = 128;
/// What the driver takes: bytes that addresses and strides are multiples of, and the limits of strides, of dimensions and of
/// the sides of a box.
const ALIGNMENT: u64 = 16;
const STRIDE_LIMIT: u64 = 1 << 40;
const MOST_SIZE: u64 = 1 << 32;
const MOST_BOX: u32 = 256;

/// What a map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorMap {
    pub address: u64,
    pub sizes: [u64; RANK],
    /// Bytes from one element to the next, of all dimensions but the innermost.
    pub strides: [u64; RANK - 1],
    /// Elements of the box in each dimension.
    pub sides: [u32; RANK],
}

impl TensorMap {
    /// The map of a tensor; none where the driver would refuse it.
    pub fn of(
        tensor: &Arg,
        sizes: [u64; RANK],
        strides: [u64; RANK - 1],
        sides: [u32; RANK],
    ) -> Option<Self> {
        let map = TensorMap { address: tensor.address() as u64, sizes, strides, sides };
        let kept = tensor.dtype == DType::BF16
            && map.address != 0
            && map.address.is_multiple_of(ALIGNMENT)
            && sizes.iter().all(|size| (1..=MOST_SIZE).contains(size))
            && strides.iter().all(|s| (1..STRIDE_LIMIT).contains(s) && s.is_multiple_of(ALIGNMENT))
            && sides.iter().all(|side| (1..=MOST_BOX).contains(side))
            && u64::from(sides[0]) * DType::BF16.size() as u64 == ROW;
        kept.then_some(map)
    }
}

/// The second argument of an entry: `Maps` of kernels/hopper.cuh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Maps {
    /// The entry has none.
    #[default]
    Unused,
    /// It has one, and a tensor that cannot have a map: the kernel copies by other means.
    Absent,
    Of([TensorMap; 2]),
}

impl Maps {
    /// Both, or none.
    pub fn of(maps: [Option<TensorMap>; 2]) -> Self {
        match maps {
            [Some(first), Some(second)] => Maps::Of([first, second]),
            _ => Maps::Absent,
        }
    }

    /// What there is to encode.
    pub(super) fn described(&self) -> Option<&[TensorMap; 2]> {
        match self {
            Maps::Unused | Maps::Absent => None,
            Maps::Of(maps) => Some(maps),
        }
    }
}

/// The bits of a map.
pub(super) type Encoded = [u64; 16];

/// [`Maps`] as the kernel has them.
#[repr(C, align(128))]
pub(super) struct Packed {
    maps: [Encoded; 2],
    present: i32,
}

impl Packed {
    /// Without maps where there are none to encode.
    pub fn of(maps: Option<[Encoded; 2]>) -> Self {
        Packed { maps: maps.unwrap_or_default(), present: maps.is_some().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Block;

    fn tensor(offset: usize, dtype: DType) -> Arg {
        let block = Block { address: 0x7f00_0000_0000, bytes: 1 << 20, arena: false, id: 0 };
        Arg { block, offset, len: 1 << 16, dtype }
    }

    #[test]
    fn what_the_driver_would_refuse_has_no_map() {
        let (sizes, strides, sides) = ([48, 2, 40, 3], [96, 192, 7680], [64, 1, 64, 1]);
        let right = TensorMap::of(&tensor(32, DType::BF16), sizes, strides, sides).unwrap();
        assert_eq!((right.address, right.sizes, right.strides), (0x7f00_0000_0020, sizes, strides));
        let none = |tensor: Arg, sizes, strides, sides| {
            assert_eq!(
                TensorMap::of(&tensor, sizes, strides, sides),
                None,
                "{sizes:?} {strides:?} {sides:?}"
            );
        };
        let bf16 = || tensor(32, DType::BF16);
        none(tensor(32, DType::F32), sizes, strides, sides);
        none(tensor(34, DType::BF16), sizes, strides, sides);
        none(Arg::ABSENT, sizes, strides, sides);
        none(bf16(), [48, 0, 40, 3], strides, sides);
        none(bf16(), [48, 2, (1 << 32) + 1, 3], strides, sides);
        none(bf16(), sizes, [90, 180, 7200], sides);
        none(bf16(), sizes, [96, 192, 1 << 40], sides);
        none(bf16(), sizes, [0, 192, 7680], sides);
        none(bf16(), sizes, strides, [64, 1, 257, 1]);
        none(bf16(), sizes, strides, [64, 0, 64, 1]);
        none(bf16(), sizes, strides, [32, 1, 64, 1]);
        none(bf16(), sizes, strides, [128, 1, 64, 1]);
    }

    #[test]
    fn one_tensor_without_a_map_leaves_both_out() {
        let map = TensorMap::of(&tensor(0, DType::BF16), [64, 1, 1, 1], [128; 3], [64, 1, 64, 1]);
        assert!(map.is_some());
        assert_eq!(Maps::of([map, None]), Maps::Absent);
        assert_eq!(Maps::of([map, map]).described(), map.map(|map| [map, map]).as_ref());
    }

    #[test]
    fn maps_lie_as_the_kernel_has_them() {
        assert_eq!((size_of::<Packed>(), align_of::<Packed>()), (384, 128));
        assert_eq!((std::mem::offset_of!(Packed, maps), std::mem::offset_of!(Packed, present)), (0, 256));
    }
}
