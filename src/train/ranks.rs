//! What ranks do together in training: gradients and evaluations in one order, whoever computes which part.

use super::shard::Shard;
use super::step::{TrainState, norm_step};
use crate::collective::{Backend, CommunicationType, Elements, Group};
use crate::device::Exchange;
use crate::error::Result;
use crate::models::session::{Session, Side, Signature};
use crate::nn::{Parameters, STEP};
use crate::tensor::Tensor;
use crate::trace::{EXCHANGE, phase, timed};

/// Parts of which rank r of N has every Nth from the rth on, in the order that one process makes them in.
pub fn in_turn<T: Copy>(parts: &[Vec<T>]) -> impl Iterator<Item = T> {
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    (0..most).flat_map(move |turn| parts.iter().filter_map(move |of_rank| of_rank.get(turn).copied()))
}

/// The sum of all ranks' losses of micro-batches, in the order of those.
pub fn sum_losses(ours: &[f32], group: &Group) -> f32 {
    if group.is_alone() {
        return ours.iter().sum();
    }
    let _phase = phase(EXCHANGE);
    timed("sum of losses", || in_turn(&group.gather(ours)).sum())
}

/// Puts the sum of all ranks' gradients in place of this rank's: from GPU to GPU by NCCL, which may have begun, or else over
/// the host, so that every executor's ranks can be summed by whatever moves bytes. Every rank comes here in every step.
pub fn sum_gradients<X: AsRef<TrainState>>(
    session: &mut Session<X>,
    group: &Group,
    communication: CommunicationType,
) -> Result<()> {
    if group.is_alone() {
        return Ok(());
    }
    // A rank without a micro-batch in this step has nothing written, and other launches.
    let kind = match session.real().state.as_ref().is_fresh() {
        true => "gradients.none",
        false => "gradients",
    };
    session.step(Signature::new(kind, []), |side: &Side<X>| {
        let _phase = phase("optimizer");
        side.state.as_ref().complete_gradients()
    })?;
    let state = session.real().state.as_ref();
    let slab = state.gradients();
    let _phase = phase(EXCHANGE);
    timed("sum of gradients", || match slab.device().backend(group) {
        Backend::Nccl => {
            state.sums().begin_rest(slab)?;
            slab.device().finish_exchanges(group, "sum of gradients")?;
            state.sums().take(slab)
        }
        Backend::Host => group.sum(&mut Slab(slab), communication),
    })
}

/// The norm of all gradients, where each rank has the sums of a part of them.
pub fn shared_norm<X: AsRef<TrainState>>(session: &mut Session<X>, group: &Group) -> Result<Option<f32>> {
    if !session.real().state.as_ref().sums().are_shared_out() {
        return Ok(None);
    }
    let ours = norm_step(session)?;
    let _phase = phase(EXCHANGE);
    timed("sum of norms", || {
        let all = group.gather(&[ours]).concat();
        Ok(Some(all.into_iter().map(|norm| f64::from(norm).powi(2)).sum::<f64>().sqrt() as f32))
    })
}

/// Elements of a device, copied to its host and back.
struct Slab<'a>(&'a Tensor);

impl Elements for Slab<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        self.0.slice(first, [to.len()])?.read_into(to)
    }

    fn write(&mut self, first: usize, from: &[f32]) -> Result<()> {
        self.0.slice(first, [from.len()])?.write(from)
    }
}

/// Gives all ranks what `slab` has on the first.
pub fn broadcast(slab: &Tensor, group: &Group) -> Result<()> {
    match slab.device().backend(group) {
        Backend::Nccl => slab.exchange(group, &Exchange::Broadcast(slab.len())),
        Backend::Host => {
            let mut values: Vec<f32> = slab.read()?;
            group.broadcast_values(&mut values);
            slab.write(&values)
        }
    }
}

/// Gives every rank the parts of the weights that the others have updated.
pub fn gather_weights<X: AsRef<TrainState>>(session: &Session<X>, group: &Group) -> Result<()> {
    let side = session.real();
    let (parameters, part) = (&side.loaded.parameters, side.state.as_ref().part());
    let slab = &parameters.slab;
    if part.len() == slab.len() {
        return Ok(());
    }
    let _phase = phase(EXCHANGE);
    let parts = Shard::ranges(group.size(), slab.len(), STEP)?;
    timed("gathering of weights", || match slab.device().backend(group) {
        Backend::Nccl => slab.exchange(group, &Exchange::Gather(parts)),
        Backend::Host => group.share(&mut Slab(slab), &parts, "gathering of weights"),
    })?;
    parameters.refresh()
}

/// Fails, on every rank, unless all have the same weights, which `name` calls so.
pub fn agree_on_weights(parameters: &Parameters, group: &Group, name: &str) -> Result<()> {
    if group.is_alone() {
        return Ok(());
    }
    let mut hash = blake3::Hasher::new();
    let floats = |of: &Tensor| -> Result<Vec<f32>> { of.read() };
    hash.update(bytemuck::cast_slice(&floats(&parameters.slab)?));
    if let Some(int8) = &parameters.int8 {
        let values: Vec<i8> = int8.values.read()?;
        hash.update(bytemuck::cast_slice(&values)).update(bytemuck::cast_slice(&floats(&int8.scales)?));
    }
    group.agree(name, hash.finalize().to_hex().as_str())
}

/// The moments of all parameters, whoever has which part of them; every rank asks at once.
pub fn whole_moments(state: &TrainState, group: &Group, all: usize) -> Result<[Vec<f32>; 2]> {
    let [m, v] = state.moments();
    let whole = |slab: &Tensor| -> Result<Vec<f32>> {
        let ours = slab.read()?;
        Ok(if ours.len() == all { ours } else { group.gather(&ours).concat() })
    };
    Ok([whole(m)?, whole(v)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_those_of_one_process() {
        let all: Vec<usize> = in_turn(&[vec![0, 3, 6], vec![1, 4], vec![2, 5]]).collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(in_turn::<f32>(&[vec![], vec![]]).count(), 0);
    }
}
