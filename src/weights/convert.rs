//! Weights of any form as one safetensors file, one tensor in memory at a time.

use super::load::Found;
use super::save::header;
use super::{WEIGHTS, Wanted};
use crate::error::{Error, Result};
use crate::files;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What was written.
#[derive(Debug, PartialEq)]
pub struct Converted {
    pub tensors: usize,
    pub elements: usize,
    /// Length of the file.
    pub bytes: u64,
    /// The type of all tensors; none where they differ.
    pub dtype: Option<Dtype>,
}

/// Writes the tensors of the model directory `from` to `to/model.safetensors`, each under its own name.
///
/// `dtype` is `F32`, `BF16` or `F16`; without one each tensor keeps its own, `F64` becoming `F32`. On an error the
/// file that was there before is untouched.
pub fn convert(
    from: &Path,
    wanted: &[Wanted],
    dtype: Option<Dtype>,
    to: &Path,
    warn: &mut dyn FnMut(String),
) -> Result<Converted> {
    let found = Found::open(from, wanted, warn)?;
    let mut tensors = Vec::new();
    for (at, want) in wanted.iter().enumerate() {
        let target = match (found.dtype(at)?, dtype) {
            (None, _) => continue,
            (Some(_), Some(target)) => target,
            (Some(half @ (Dtype::F16 | Dtype::BF16)), None) => half,
            (Some(_), None) => Dtype::F32,
        };
        tensors.push((at, target, want));
    }
    // Wider elements first keeps every tensor aligned.
    tensors.sort_by(|a, b| b.1.cmp(&a.1).then(a.2.name.cmp(&b.2.name)));
    let elements = |want: &Wanted| want.shape.iter().product::<usize>();
    let header = header(tensors.iter().map(|(_, target, want)| {
        (want.name.as_str(), *target, &want.shape[..], elements(want) * (target.bitsize() / 8))
    }))?;

    let mut failure = None;
    let mut bytes = 0;
    let written = files::replace(&to.join(WEIGHTS), |file| {
        file.write_all(&header)?;
        for (at, target, want) in &tensors {
            let encoded = found
                .read(*at, warn)
                .and_then(|values| encode(&values.unwrap_or_default(), *target, &want.name));
            match encoded {
                Ok(encoded) => file.write_all(&encoded)?,
                Err(error) => {
                    failure = Some(error);
                    return Err(io::Error::other("the weights cannot be read"));
                }
            }
        }
        bytes = File::metadata(file)?.len();
        Ok(())
    });
    match failure {
        Some(error) => Err(error),
        None => written.map(|()| {
            let elements = tensors.iter().map(|(_, _, want)| elements(want)).sum();
            let first = tensors.first().map(|(_, target, _)| *target);
            let dtype = first.filter(|first| tensors.iter().all(|(_, target, _)| target == first));
            Converted { tensors: tensors.len(), elements, bytes, dtype }
        }),
    }
}

fn encode(values: &[f32], target: Dtype, name: &str) -> Result<Vec<u8>> {
    let (bytes, largest) = match target {
        Dtype::F32 => (bytemuck::cast_slice(values).to_vec(), f32::MAX),
        Dtype::BF16 => {
            let mut halves = vec![bf16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            (bytemuck::cast_slice(&halves).to_vec(), bf16::MAX.to_f32())
        }
        Dtype::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            (bytemuck::cast_slice(&halves).to_vec(), f16::MAX.to_f32())
        }
        other => return Err(Error::internal(format!("weights are not written as {other}"))),
    };
    match values.iter().position(|x| x.abs() > largest) {
        None => Ok(bytes),
        Some(at) => Err(Error::data(
            format!("tensor {name:?}"),
            format!("element {at} is {}, beyond the range of {target}; choose fp32 or bf16", values[at]),
        )),
    }
}
