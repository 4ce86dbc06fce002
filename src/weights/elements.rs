//! Stored element types as `f32` and `i64`. Byte slices hold whole elements and are aligned to 8.

use bytemuck::cast_slice;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;

/// Appends stored elements to a vector.
pub(super) type Decode<T> = fn(&[u8], &mut Vec<T>);

pub(super) const FLOATS: &str = "F32, F16, BF16 and F64";
pub(super) const INTEGERS: &str = "I64, I32, U8 and BOOL";

/// How elements of `dtype` become `f32`: exactly, or rounded to nearest from `F64`.
pub(super) fn floats(dtype: Dtype) -> Option<Decode<f32>> {
    match dtype {
        Dtype::F32 => Some(|bytes, to| to.extend_from_slice(cast_slice(bytes))),
        Dtype::F16 => Some(|bytes, to| {
            let (halves, start) = (cast_slice::<u8, f16>(bytes), to.len());
            to.resize(start + halves.len(), 0.0);
            halves.convert_to_f32_slice(&mut to[start..]);
        }),
        Dtype::BF16 => Some(|bytes, to| {
            let (halves, start) = (cast_slice::<u8, bf16>(bytes), to.len());
            to.resize(start + halves.len(), 0.0);
            halves.convert_to_f32_slice(&mut to[start..]);
        }),
        Dtype::F64 => Some(|bytes, to| {
            to.extend(cast_slice::<u8, f64>(bytes).iter().map(|&x| x as f32));
        }),
        _ => None,
    }
}

/// How elements of `dtype` become `i64`.
pub(super) fn integers(dtype: Dtype) -> Option<Decode<i64>> {
    match dtype {
        Dtype::I64 => Some(|bytes, to| to.extend_from_slice(cast_slice(bytes))),
        Dtype::I32 => Some(|bytes, to| {
            to.extend(cast_slice::<u8, i32>(bytes).iter().map(|&x| i64::from(x)));
        }),
        Dtype::U8 | Dtype::BOOL => Some(|bytes, to| {
            to.extend(bytes.iter().map(|&x| i64::from(x)));
        }),
        _ => None,
    }
}

/// Where the first NaN or infinity is.
pub(super) fn first_nonfinite(values: &[f32]) -> Option<usize> {
    const INFINITY: u32 = f32::INFINITY.to_bits();
    // A maximum over magnitudes has no early exit, so it is vectorised; almost every call ends here.
    let largest = values.iter().fold(0, |max: u32, x| max.max(x.abs().to_bits()));
    if largest < INFINITY {
        return None;
    }
    values.iter().position(|x| !x.is_finite())
}
