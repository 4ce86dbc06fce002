//! Sums over ranks on hosts, in the order of the ranks, and what each rank has a part of.

use super::window::{self, Window};
use super::{Elements, Group, Lost, Result, Transport};
use crate::settings::name;
use crate::shape::Stored;
use half::bf16;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// Elements that are summed at a time where no memory is shared.
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
    pub fn sum(&self, values: &mut impl Elements, of: CommunicationType) -> Result<()> {
        let Some(watchdog) = &self.watchdog else { return Ok(()) };
        let awaited = watchdog.awaited();
        let summed = self.exchange("sum of gradients", |transport| {
            let window = self.window(transport)?;
            let most = if window.is_some() { window::PIECE } else { BUCKET };
            let mut piece = vec![0.0; most.min(values.count())];
            // From the end: the backward pass writes the last parameters' gradients first.
            for first in (0..values.count()).step_by(most).rev() {
                let piece = &mut piece[..most.min(values.count() - first)];
                if let Err(error) = values.read(first, piece) {
                    return Ok(Err(error));
                }
                match (window, of) {
                    (Some(window), CommunicationType::Fp32) => {
                        window.sum::<f32>(piece, transport, &awaited)?
                    }
                    (Some(window), CommunicationType::Bf16) => {
                        window.sum::<bf16>(piece, transport, &awaited)?
                    }
                    (None, CommunicationType::Fp32) => sum::<f32>(transport, piece)?,
                    (None, CommunicationType::Bf16) => sum::<bf16>(transport, piece)?,
                }
                if let Err(error) = values.write(first, piece) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        });
        summed.unwrap_or(Ok(()))
    }

    /// Gives every rank what the others have of their parts of `values`; `parts` are those of all ranks, in order.
    pub fn share(
        &self,
        values: &mut impl Elements,
        parts: &[Range<usize>],
        what: &'static str,
    ) -> Result<()> {
        let Some(watchdog) = &self.watchdog else { return Ok(()) };
        let awaited = watchdog.awaited();
        let shared = self.exchange(what, |transport| match self.window(transport)? {
            Some(window) => Ok(window.share(values, parts, transport, &awaited)?.map(|()| true)),
            None => Ok(Ok(false)),
        });
        if shared.unwrap_or(Ok(true))? {
            return Ok(());
        }
        let own = &parts[self.rank()];
        let mut ours = vec![0.0; own.len()];
        values.read(own.start, &mut ours)?;
        let all = self.gather(&ours);
        parts.iter().zip(&all).try_for_each(|(part, theirs)| values.write(part.start, theirs))
    }

    /// The memory of all ranks, where they can have one; all of them ask for it at once.
    fn window(&self, transport: &dyn Transport) -> Result<Option<&Window>, Lost> {
        if self.window.get().is_none() {
            let opened = Window::open(transport)?;
            let _ = self.window.set(opened);
        }
        Ok(self.window.get().and_then(Option::as_ref))
    }
}

/// Each rank sums one part of what all give, as `T`, and all gather the sums.
fn sum<T: Stored>(transport: &dyn Transport, values: &mut [f32]) -> Result<(), Lost> {
    let size = transport.size();
    let shard = values.len().div_ceil(size);
    let mut ours: Vec<T> = values.iter().map(|x| T::narrow(*x)).collect();
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
    values.iter_mut().zip(&ours).for_each(|(x, sum)| *x = sum.wide());
    Ok(())
}
