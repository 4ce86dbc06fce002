//! Looks at what every launch writes, to find the first one that leaves the finite numbers.

use crate::device::{Arg, Call, Device};
use crate::error::Result;
use crate::shape::DType;
use crate::trace::{self, Phase};
use half::bf16;
use std::cell::RefCell;

/// The first value that is not finite, and the launch that wrote it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nonfinite {
    pub phase: Phase,
    pub kernel: &'static str,
    /// Its name in the kernel's signature.
    pub output: &'static str,
    pub value: f32,
}

/// Outputs that are minus infinity where nothing is attended to, as they should be.
const OF_SOFTMAX: [&str; 4] = ["lse", "scores", "part_max", "partial"];

/// Outputs with rows that are further apart than they are long: the kernel, and its sizes with the elements from one row
/// to the next and in a row. What lies between is nobody's.
const PADDED: [(&str, &str, &str); 2] = [("matmul", "c_row", "n"), ("cross_entropy_bwd", "pitch", "V")];

enum Watch {
    Off,
    Looking,
    Found(Nonfinite),
}

thread_local!(static WATCH: RefCell<Watch> = const { RefCell::new(Watch::Off) });

/// Runs `work`, outside of steps, and gives the first value that is not finite that its launches wrote.
pub fn first_nonfinite<R>(work: impl FnOnce() -> R) -> (R, Option<Nonfinite>) {
    WATCH.set(Watch::Looking);
    let result = work();
    match WATCH.replace(Watch::Off) {
        Watch::Found(found) => (result, Some(found)),
        _ => (result, None),
    }
}

/// Looks at the outputs of a finished launch, while values are watched and none has been found.
pub(super) fn look(device: &Device, kernel: &'static str, call: &Call) -> Result<()> {
    if !WATCH.with_borrow(|watch| matches!(watch, Watch::Looking)) {
        return Ok(());
    }
    for (output, arg) in call.named_outputs() {
        let masked = |value: f32| value == f32::NEG_INFINITY && OF_SOFTMAX.contains(&output);
        let bad = |value: &f32| !value.is_finite() && !masked(*value);
        let (row, columns) = match PADDED.iter().find(|(padded, ..)| *padded == kernel) {
            Some((_, row, columns)) => (call.size(row), call.size(columns)),
            None => (1, 1),
        };
        let values = floats(device, arg)?;
        if let Some(value) = values.chunks(row).flat_map(|row| row.iter().take(columns).copied()).find(bad) {
            let phase = trace::current();
            WATCH.set(Watch::Found(Nonfinite { phase, kernel, output, value }));
            return Ok(());
        }
    }
    Ok(())
}

/// An argument's elements; none if they are not floating-point numbers.
fn floats(device: &Device, arg: &Arg) -> Result<Vec<f32>> {
    match arg.dtype {
        DType::F32 => {
            let mut values = vec![0.0f32; arg.len];
            device.download(&arg.block, arg.offset, bytemuck::cast_slice_mut(&mut values))?;
            Ok(values)
        }
        DType::BF16 => {
            let mut values = vec![bf16::ZERO; arg.len];
            device.download(&arg.block, arg.offset, bytemuck::cast_slice_mut(&mut values))?;
            Ok(values.into_iter().map(bf16::to_f32).collect())
        }
        _ => Ok(Vec::new()),
    }
}
