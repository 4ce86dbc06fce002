//! An exchange among GPUs by one rank alone: what several ranks need of the library and the driver, as far as one GPU can
//! show it.

use crate::collective::{Backend, Group};
use crate::device::cuda::Library;
use crate::device::{Device, Exchange, Layout};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tape::add;
use crate::tensor::Tensor;
use std::rc::Rc;

/// More than a block, and no multiple of what a thread takes.
const ELEMENTS: usize = 4099;

/// The exchange becomes part of a graph in the fourth step of one kind, and is replayed from the fifth on.
const STEPS: usize = 6;

/// Whether a step with its exchange can be a graph on `device`; none where GPUs do not exchange, or NCCL is not here. Fails
/// where a sum over one rank is not what that rank has.
pub fn check(device: &Device) -> Result<Option<bool>> {
    if device.own_backend() == Backend::Host || !Library::Nccl.load() {
        return Ok(None);
    }
    let group = Rc::new(Group::alone().over(Some(Backend::Nccl)));
    device.meet(&group)?;
    let (sum, one) = (zeros(device)?, zeros(device)?);
    one.write(&[1.0; ELEMENTS])?;
    let layout = Rc::new(Layout::default());
    for _ in 0..STEPS {
        device.begin_step(&layout)?;
        let done = add(&sum, &one, true)
            .and_then(|()| sum.begin_exchange(&Exchange::Sum(ELEMENTS, DType::F32)))
            .and_then(|()| device.end_step());
        done.inspect_err(|_| device.abandon_step())?;
        device.finish_exchanges(&group, "sum of one rank")?;
    }
    let found: Vec<f32> = sum.read()?;
    match found.iter().find(|&&x| x != STEPS as f32) {
        None => Ok(Some(device.joint_replays() > 0)),
        Some(x) => Err(Error::internal(format!(
            "NCCL makes {x} of {STEPS} additions of 1 that one rank exchanges with nobody on {}",
            device.name()
        ))),
    }
}

fn zeros(device: &Device) -> Result<Tensor> {
    Tensor::persistent(device, [ELEMENTS], DType::F32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Precision;
    use crate::device::cuda::stand_in;

    #[test]
    fn an_exchange_of_one_rank_is_part_of_a_graph_where_there_are_graphs() {
        assert_eq!(check(&Device::cpu()).unwrap(), None);
        if let Some(why) = stand_in::missing().unwrap() {
            return println!("skipped: {why}");
        }
        for graphs in [true, false] {
            let device = Device::new(Rc::new(stand_in::open(Precision::Fp32, graphs).unwrap()));
            assert_eq!(check(&device).unwrap(), Some(graphs));
        }
    }
}
