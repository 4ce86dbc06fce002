//! Graphs that the ranks record and replay together, with their exchanges in them.
//!
//! What NCCL is given while a stream is recorded must be recorded by all ranks at once, and replayed by all of them from what
//! they recorded then (NCCL user guide, CUDA graphs); but each rank's steps have shapes of their own. So the ranks tell each
//! other, before the first exchange of a step, which graph each of them would replay. A combination that comes again is recorded,
//! and from then on replayed; in any other step each rank replays the launches between its exchanges. All ranks have met the
//! same combinations in the same order, and decide the same.

use super::Cuda;
use super::recording::Recorded;
use crate::device::graph::Op;
use crate::error::{Error, Result};
use bytemuck::{Pod, Zeroable};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Combinations that are remembered.
const MET: usize = 16;

/// Combinations whose graphs are kept.
const KEPT: usize = 8;

/// What a rank would replay.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub(super) struct Offer {
    /// The graph by its number among those of the rank, from 1; 0 for none.
    pub graph: u64,
    /// How many exchanges it begins.
    pub exchanges: u64,
}

impl Offer {
    pub const NONE: Offer = Offer { graph: 0, exchanges: 0 };
}

/// How a step's exchanges go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Each rank for itself: exchanges are begun one by one.
    Apart,
    /// In one graph, which is to be recorded.
    Record,
    /// In one that was.
    Replay,
}

/// How often steps ran as one graph with their exchanges, and how many such graphs were recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JointCounts {
    pub recorded: u64,
    pub replayed: u64,
}

/// What the ranks have met together, by the offers of all of them; the same on every rank, graphs aside.
pub(super) struct Joint<G = Recorded> {
    met: RefCell<VecDeque<Vec<Offer>>>,
    /// Without a graph where it could not be recorded, or can no longer be what was.
    kept: RefCell<VecDeque<(Vec<Offer>, Option<G>)>>,
    counts: Cell<JointCounts>,
}

impl<G> Default for Joint<G> {
    fn default() -> Self {
        Joint { met: RefCell::default(), kept: RefCell::default(), counts: Cell::default() }
    }
}

impl<G> Joint<G> {
    pub fn counts(&self) -> JointCounts {
        self.counts.get()
    }

    /// What all do who make these offers.
    pub fn decide(&self, offers: &[Offer]) -> Way {
        let fits = |offer: &Offer| offer.graph != 0 && offer.exchanges == offers[0].exchanges;
        if !offers.iter().all(fits) {
            return Way::Apart;
        }
        if let Some((_, graph)) = self.kept.borrow().iter().find(|(of, _)| of == offers) {
            return if graph.is_some() { Way::Replay } else { Way::Apart };
        }
        let mut met = self.met.borrow_mut();
        if met.iter().any(|of| of == offers) {
            return Way::Record;
        }
        met.push_back(offers.to_vec());
        if met.len() > MET {
            met.pop_front();
        }
        Way::Apart
    }

    /// Keeps what was recorded of these offers; nothing where a rank could not.
    pub fn keep(&self, offers: &[Offer], graph: Option<G>) {
        let mut counts = self.counts.get();
        counts.recorded += u64::from(graph.is_some());
        self.counts.set(counts);
        let mut kept = self.kept.borrow_mut();
        kept.push_back((offers.to_vec(), graph));
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// Gives up all graphs, which NCCL waits for when it is given up.
    pub fn forget(&self) {
        self.kept.borrow_mut().clear();
    }
}

impl Joint {
    /// Puts the graph of these offers on the stream.
    pub fn launch(&self, offers: &[Offer], cuda: &Cuda) -> Result<()> {
        let kept = self.kept.borrow();
        let graph = kept.iter().find(|(of, _)| of == offers).and_then(|(_, graph)| graph.as_ref());
        let lost = || Error::internal("a graph of all ranks is not there");
        graph.ok_or_else(lost)?.launch(cuda)?;
        let mut counts = self.counts.get();
        counts.replayed += 1;
        self.counts.set(counts);
        Ok(())
    }

    /// Takes over the sizes and scalars of op `index` in all graphs in which rank `rank` has its graph `number`; fails where one
    /// would have other nodes, and then none of them is replayed any more.
    pub fn update(&self, cuda: &Cuda, (rank, number): (usize, u64), index: usize, op: &Op) -> Result<()> {
        let mut kept = self.kept.borrow_mut();
        let own = |offers: &[Offer]| offers[rank].graph == number;
        let mut graphs = kept.iter_mut().filter(|(offers, _)| own(offers)).map(|(_, graph)| graph);
        let updated = graphs.by_ref().flatten().try_for_each(|graph| graph.update(cuda, index, op));
        if updated.is_err() {
            kept.iter_mut().filter(|(offers, _)| own(offers)).for_each(|(_, graph)| *graph = None);
        }
        updated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(graphs: [u64; 2], exchanges: [u64; 2]) -> Vec<Offer> {
        graphs.into_iter().zip(exchanges).map(|(graph, exchanges)| Offer { graph, exchanges }).collect()
    }

    #[test]
    fn a_combination_that_comes_again_is_recorded_and_then_replayed() {
        let joint = Joint::<u8>::default();
        let (one, other) = (offers([1, 4], [3, 3]), offers([2, 4], [3, 3]));
        assert_eq!([&one, &other, &one].map(|of| joint.decide(of)), [Way::Apart, Way::Apart, Way::Record]);
        joint.keep(&one, Some(7));
        assert_eq!([&one, &other, &one].map(|of| joint.decide(of)), [Way::Replay, Way::Record, Way::Replay]);
        // What a rank could not record is not tried again.
        joint.keep(&other, None);
        assert_eq!([&other, &one].map(|of| joint.decide(of)), [Way::Apart, Way::Replay]);
        assert_eq!(joint.counts(), JointCounts { recorded: 1, replayed: 0 });
    }

    #[test]
    fn ranks_that_differ_in_what_they_exchange_go_apart() {
        let joint = Joint::<u8>::default();
        for of in [offers([1, 0], [3, 0]), offers([0, 0], [0, 0]), offers([1, 1], [3, 2])] {
            assert_eq!([joint.decide(&of), joint.decide(&of)], [Way::Apart; 2]);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let joint = Joint::<u8>::default();
        let of = |graph: u64| offers([graph, 1], [1, 1]);
        for graph in 1..=KEPT as u64 + 1 {
            assert_eq!([joint.decide(&of(graph)), joint.decide(&of(graph))], [Way::Apart, Way::Record]);
            joint.keep(&of(graph), Some(0));
        }
        assert_eq!([joint.decide(&of(2)), joint.decide(&of(1))], [Way::Replay, Way::Record]);
    }
}
