//! Maps of tensors, encoded by the driver.

use super::driver::Version;
use super::errors;
use crate::device::Maps;
use crate::device::tensor_map::{Encoded, Packed, RANK, TensorMap};
use crate::error::Result;
use cudarc::driver::sys::{
    self, CUresult, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle,
};

/// The first CUDA whose drivers know maps.
const SINCE: Version = Version { major: 12, minor: 0 };

/// Fails where the started driver is older than maps.
pub(super) fn check(driver: Version) -> Result<()> {
    // SAFETY: the driver is loaded and stays so; the symbol is looked for and not called.
    let found = unsafe { sys::culib().get::<*const ()>(b"cuTensorMapEncodeTiled\0").is_ok() };
    match found && driver >= SINCE {
        true => Ok(()),
        false => Err(errors::no_maps(driver)),
    }
}

/// A pass' second argument.
pub(super) fn pack(maps: &Maps, driver: Version) -> Result<Packed> {
    let Some([first, second]) = maps.described() else {
        return Ok(Packed::of(None));
    };
    Ok(Packed::of(Some([encode(first, driver)?, encode(second, driver)?])))
}

fn encode(map: &TensorMap, driver: Version) -> Result<Encoded> {
    let mut encoded = CUtensorMap { opaque: [0; 16] };
    // SAFETY: the driver reads as many numbers as there are dimensions and writes one map; it does not touch the tensor.
    let status = unsafe {
        sys::cuTensorMapEncodeTiled(
            &mut encoded,
            CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            RANK as u32,
            map.address as *mut _,
            map.sizes.as_ptr(),
            map.strides.as_ptr(),
            map.sides.as_ptr(),
            [1; RANK].as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    match status {
        CUresult::CUDA_SUCCESS => Ok(encoded.opaque),
        CUresult::CUDA_ERROR_NOT_SUPPORTED => Err(errors::no_maps(driver)),
        code => Err(errors::refused(code, format_args!("make a map of a tensor ({map:?})"))),
    }
}
