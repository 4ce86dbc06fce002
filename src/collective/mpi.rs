//! MPI between the ranks of `mpirun` or `srun --mpi`.

use super::{Lost, Transport};
use crate::error::{Error, Result};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

pub struct Mpi {
    world: SimpleCommunicator,
    /// Ends MPI when it is dropped, which waits for the other ranks.
    _universe: Universe,
}

impl Mpi {
    pub fn start() -> Result<Self> {
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = started.ok_or_else(|| Error::internal("MPI was started twice"))?;
        Ok(Mpi { world: universe.world(), _universe: universe })
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn all_to_all(&self, ours: &[u8], theirs: &mut [u8]) -> std::result::Result<(), Lost> {
        self.world.all_to_all_into(ours, theirs);
        Ok(())
    }

    fn all_gather(&self, ours: &[u8], all: &mut [u8]) -> std::result::Result<(), Lost> {
        self.world.all_gather_into(ours, all);
        Ok(())
    }

    fn broadcast(&self, bytes: &mut [u8]) -> std::result::Result<(), Lost> {
        self.world.process_at_rank(0).broadcast_into(bytes);
        Ok(())
    }

    fn abort(&self, code: i32, _: Option<usize>) -> ! {
        self.world.abort(code)
    }
}
