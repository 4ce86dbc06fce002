//! Ranks that are threads of one process, for tests.

use super::super::{Backend, Elements, Group, Launch, Launcher, Result};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

/// The launches of `size` ranks on this machine, which meet at a port that is free now.
pub(super) fn launches(size: usize) -> Vec<Launch> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let master = Some(format!("localhost:{port}"));
    let of = |rank| Launch {
        launcher: Launcher::Torchrun,
        rank,
        world_size: size,
        local_rank: rank,
        local_size: size,
        master: master.clone(),
        ..Launch::alone()
    };
    (0..size).map(of).collect()
}

/// What `work` gives on each of `size` ranks.
pub(super) fn ranks<R: Send>(size: usize, work: impl Fn(&Rc<Group>) -> R + Sync) -> Vec<R> {
    ranks_over(size, None, work)
}

/// The same on ranks that exchange gradients and weights over `backend`.
pub(crate) fn ranks_over<R: Send>(
    size: usize,
    backend: Option<Backend>,
    work: impl Fn(&Rc<Group>) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    let rank = |launch: Launch| {
        let group = Group::join(&launch, Duration::from_secs(60), &|| false).unwrap();
        let group = Rc::new(group.over(backend));
        let found = work(&group);
        group.wait_for_all();
        group.finish();
        found
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = launches(size).into_iter().map(|of| scope.spawn(move || rank(of))).collect();
        started.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

impl Elements for Vec<f32> {
    fn count(&self) -> usize {
        self.len()
    }

    fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        to.copy_from_slice(&self[first..][..to.len()]);
        Ok(())
    }

    fn write(&mut self, first: usize, from: &[f32]) -> Result<()> {
        self[first..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}
