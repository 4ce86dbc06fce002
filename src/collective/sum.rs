//! Sums over ranks on hosts, in the order of the ranks.

use super::{Group, Lost, Transport};
use crate::settings::name;
use crate::shape::Stored;
use half::bf16;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Elements that are summed at a time.
pub const BUCKET: usize = 1 << 22;

/// The type in which ranks exchange gradients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommunicationType {
    #[default]
    Fp32,
    /// Half the bytes: what a rank gives is rounded to 8 significant bits, and so is the sum.
    Bf16,
}

impl CommunicationType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            CommunicationType::Fp32 => 4,
            CommunicationType::Bf16 => 2,
        }
    }
}

impl fmt::Display for CommunicationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self))
    }
}

impl Group {
    /// Puts in each element the sum over all ranks: of what each gives, in f32 and in the order of the ranks. In bf16, what
    /// a rank gives is rounded first, and the sum last, each to the nearest. One process leaves them as they are.
    pub fn sum(&self, values: &mut [f32], of: CommunicationType) {
        self.exchange("sum of gradients", |transport| match of {
            CommunicationType::Fp32 => sum::<f32>(transport, values),
            CommunicationType::Bf16 => sum::<bf16>(transport, values),
        });
    }
}

/// Each rank sums one part of what all give, as `T`, and all gather the sums.
fn sum<T: Stored>(transport: &dyn Transport, values: &mut [f32]) -> Result<(), Lost> {
    let size = transport.size();
    // From the end: the backward pass writes the last parameters' gradients first.
    for bucket in values.rchunks_mut(BUCKET) {
        let shard = bucket.len().div_ceil(size);
        let mut ours: Vec<T> = bucket.iter().map(|x| T::narrow(*x)).collect();
        ours.resize(shard * size, T::narrow(0.0));
        let mut theirs = vec![T::narrow(0.0); shard * size];
        transport.all_to_all(bytemuck::cast_slice(&ours), bytemuck::cast_slice_mut(&mut theirs))?;
        let (first, others) = theirs.split_at(shard);
        let mut sum: Vec<f32> = first.iter().map(|x| x.wide()).collect();
        for other in others.chunks(shard) {
            sum.iter_mut().zip(other).for_each(|(sum, x)| *sum += x.wide());
        }
        let sum: Vec<T> = sum.into_iter().map(T::narrow).collect();
        transport.all_gather(bytemuck::cast_slice(&sum), bytemuck::cast_slice_mut(&mut ours))?;
        bucket.iter_mut().zip(&ours).for_each(|(x, sum)| *x = sum.wide());
    }
    Ok(())
}
