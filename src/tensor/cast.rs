//! Conversion between storage types.

use super::{Launch, Tensor};
use crate::device::{CpuCall, Gpu, Kernel, Pass, narrow};
use crate::error::Result;
use crate::shape::DType;
use half::bf16;
use rayon::prelude::*;

pub static CAST: Kernel = Kernel {
    name: "cast",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let x = call.input::<f32>("x");
        match call.stored_out("y") {
            DType::BF16 => narrow(call.out::<bf16>("y"), x),
            _ => copy(call.out::<f32>("y"), x),
        }
    },
    gpu: Gpu::Passes(|call| vec![Pass::new("cast", call.size("n").div_ceil(1024), 256)]),
};

pub static CAST_TO_F32: Kernel = Kernel {
    name: "cast_to_f32",
    outputs: &["y"],
    inputs: &["x"],
    sizes: &["n"],
    scalars: &[],
    cpu: |call: &mut CpuCall| copy(call.out::<f32>("y"), call.input::<f32>("x")),
    gpu: Gpu::Passes(|call| vec![Pass::new("cast_to_f32", call.size("n").div_ceil(1024), 256)]),
};

fn copy(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(1 << 15).zip(x.par_chunks(1 << 15)).for_each(|(y, x)| y.copy_from_slice(x));
}

/// y = x, rounded to y's type; x is f32.
pub fn cast(y: &Tensor, x: &Tensor) -> Result<()> {
    x.same_shape("cast", y)?;
    Launch::of(&CAST).output("y", y).input("x", x).size("n", x.len()).run(y.device())
}

/// y = x; y is f32, and x of any type.
pub fn cast_to_f32(y: &Tensor, x: &Tensor) -> Result<()> {
    x.same_shape("cast_to_f32", y)?;
    Launch::of(&CAST_TO_F32).output("y", y).input("x", x).size("n", x.len()).run(y.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, Precision};

    /// Lengths that end within a vector and a block, from places that no vector begins at.
    #[test]
    fn there_and_back_is_what_rounding_leaves() {
        for name in ["cpu", "sim"] {
            let Ok(device) = Device::open(name, Precision::Bf16) else {
                println!("skipped: there is no {name}");
                continue;
            };
            for (from, count) in [(0, 1), (0, 1024), (1, 7), (3, 2050)] {
                let values: Vec<f32> = (0..from + count).map(|i| (i as f32 - 700.3) * 1.001).collect();
                let x = Tensor::upload(&device, [values.len()], &values).unwrap();
                let stored = Tensor::empty(&device, [values.len()], DType::BF16).unwrap();
                let back = Tensor::empty(&device, [values.len()], DType::F32).unwrap();
                let part = |tensor: &Tensor| tensor.slice(from, [count]).unwrap();
                cast(&part(&stored), &part(&x)).unwrap();
                cast_to_f32(&part(&back), &part(&stored)).unwrap();
                let want: Vec<f32> = values[from..].iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
                assert_eq!(part(&back).read::<f32>().unwrap(), want, "{name}: {count} from {from}");
            }
        }
    }
}
