//! Weights in 8 bits with a scale for each output, and products with them; they have no gradient.

use super::{Launch, Tensor};
use crate::device::cpu::gemm::Size;
use crate::device::cpu::int8::{Rows, product, quantise, widen};
use crate::device::{CpuCall, Device, Gpu, Kernel};
use crate::error::{Error, Result};
use crate::shape::{DType, Shape};

pub static PRODUCT: Kernel = Kernel {
    name: "int8_product",
    outputs: &["y"],
    inputs: &["x", "values", "scales", "bias"],
    sizes: &["N", "O", "I", "pitch"],
    scalars: &[],
    cpu: |call: &mut CpuCall| {
        let [m, n, k, pitch] = call.sizes(["N", "O", "I", "pitch"]);
        let (y, x, bias) = (call.out::<f32>("y"), call.input::<f32>("x"), call.input::<f32>("bias"));
        product(y, pitch, x, rows(call), bias, Size { m, n, k });
    },
    gpu: Gpu::None,
};

pub static WIDEN: Kernel = Kernel {
    name: "int8_widen",
    outputs: &["y"],
    inputs: &["values", "scales"],
    sizes: &["O", "I"],
    scalars: &[],
    cpu: |call: &mut CpuCall| widen(call.out::<f32>("y"), rows(call)),
    gpu: Gpu::None,
};

fn rows<'a>(call: &CpuCall<'a>) -> Rows<'a> {
    Rows { values: call.input::<i8>("values"), scales: call.input::<f32>("scales") }
}

/// The refusal of weights in 8 bits on a device that has no product with them.
pub fn refusal(device: &str) -> Error {
    Error::usage(format!(
        "{device} has no kernels for int8 weights; use --device cpu, or leave --weights int8 out: --precision bf16 halves \
         the bytes of weights on every device"
    ))
}

/// Bytes of a weight of this shape, values and scales.
pub fn bytes(shape: Shape) -> usize {
    shape.len() * DType::I8.size() + shape.rows() * DType::F32.size()
}

/// A weight `[O, I]` in 8 bits: `values[o, i] * scales[o]`.
#[derive(Clone)]
pub struct Int8 {
    /// `[O, I]`, from -127 to 127.
    pub values: Tensor,
    /// `[O]` f32.
    pub scales: Tensor,
}

impl Int8 {
    /// Zeros that outlive steps.
    pub fn zeros(device: &Device, [o, i]: [usize; 2]) -> Result<Self> {
        Ok(Int8 {
            values: Tensor::persistent(device, [o, i], DType::I8)?,
            scales: Tensor::persistent(device, [o], DType::F32)?,
        })
    }

    /// Zeros that several weights share: `[values]` and `[scales]`.
    pub fn slab(device: &Device, values: usize, scales: usize) -> Result<Self> {
        Ok(Int8 {
            values: Tensor::persistent(device, [values], DType::I8)?,
            scales: Tensor::persistent(device, [scales], DType::F32)?,
        })
    }

    /// The weight `[O, I]` whose values and scales begin at these elements of a slab.
    pub fn part(&self, values: usize, scales: usize, [o, i]: [usize; 2]) -> Result<Self> {
        Ok(Int8 { values: self.values.slice(values, [o, i])?, scales: self.scales.slice(scales, [o])? })
    }

    /// Takes `weight` `[O, I]`, rounded to the nearest of 255 values between the largest of each row and its negative.
    pub fn write(&self, weight: &[f32]) -> Result<()> {
        let (mut values, mut scales) = (vec![0i8; weight.len()], vec![0.0f32; self.scales.len()]);
        quantise(&mut values, &mut scales, weight);
        self.values.write(&values)?;
        self.scales.write(&scales)
    }

    /// y = x Wᵀ + b for x `[.., I]`, each row of it rounded to 8 bits by its own largest value; row `n` of y starts at
    /// `n * pitch`.
    pub fn product(&self, y: &Tensor, pitch: usize, x: &Tensor, b: Option<&Tensor>) -> Result<()> {
        let [o, i] = self.values.shape().dims2("int8_product")?;
        let n = x.shape().rows();
        if x.shape().last() != i || b.is_some_and(|b| b.len() != o) || pitch < o || y.len() != n * pitch {
            let want = format!("[.., {i}] for a weight {}", self.values.shape());
            return Err(Error::shape("int8_product", want, x.shape()));
        }
        Launch::of(&PRODUCT)
            .output("y", y)
            .input("x", x)
            .input("values", &self.values)
            .input("scales", &self.scales)
            .input("bias", b)
            .sizes([("N", n), ("O", o), ("I", i), ("pitch", pitch)])
            .flops(2 * (n * o) as u64 * i as u64)
            .run(y.device())
    }

    /// What it stands for, in the device's storage type, for as long as the step.
    pub fn widened(&self) -> Result<Tensor> {
        let (device, [o, i]) = (self.values.device(), self.values.shape().dims2("int8_widen")?);
        let y = Tensor::empty(device, [o, i], device.precision().storage())?;
        Launch::of(&WIDEN)
            .output("y", &y)
            .input("values", &self.values)
            .input("scales", &self.scales)
            .sizes([("O", o), ("I", i)])
            .run(device)?;
        Ok(y)
    }
}
