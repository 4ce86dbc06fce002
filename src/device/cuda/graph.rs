//! A step as CUDA graphs: the launches between two uploads or exchanges are one graph, which the stream recorded. Where all
//! ranks agree (`joint.rs`), what lies between two uploads is one graph with its exchanges.
//!
//! Sizes and scalars that change are set in the nodes of the graph. What cannot be set, such as another shape of a
//! product, is launched by itself and recorded again once it stays the same.

use super::Cuda;
use super::joint::Offer;
use super::recording::{Recorded, record};
use crate::device::graph::{Op, Runner};
use crate::error::Result;
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// The pieces of a step, in order.
pub(in crate::device) struct Graph {
    pieces: Vec<Piece>,
    whole: Option<Whole>,
}

/// All exchanges of a step, between two uploads, and what is launched there.
struct Whole {
    ops: Range<usize>,
    exchanges: u64,
    /// By which ranks name what they would replay: another one as soon as it could not be what was recorded.
    number: Cell<u64>,
}

impl Whole {
    /// Of ops with exchanges that no upload tears apart.
    fn of(ops: &[Op], number: u64) -> Option<Self> {
        let is_exchange = |op: &Op| matches!(op, Op::Exchange { .. });
        let is_upload = |op: &Op| matches!(op, Op::Upload { .. });
        let (first, last) = (ops.iter().position(is_exchange)?, ops.iter().rposition(is_exchange)?);
        if ops[first..last].iter().any(is_upload) {
            return None;
        }
        let start = ops[..first].iter().rposition(is_upload).map_or(0, |upload| upload + 1);
        let end = ops[last..].iter().position(is_upload).map_or(ops.len(), |upload| last + upload);
        let exchanges = ops[first..=last].iter().filter(|op| is_exchange(op)).count() as u64;
        Some(Whole { ops: start..end, exchanges, number: Cell::new(number) })
    }
}

enum Piece {
    /// The op, by its index, that copies to the GPU, whose bytes may differ every time, or that begins an exchange: NCCL's own
    /// threads put that on a stream beside.
    Beside(usize),
    Launches(Range<usize>, RefCell<State>),
}

enum State {
    /// Something changed that a node cannot take over.
    Stale,
    /// To be recorded.
    Settled,
    Recorded(Recorded),
    /// It cannot be recorded, for a reason that the executor keeps.
    Refused,
}

impl Piece {
    /// Its first op.
    fn start(&self) -> usize {
        match self {
            Piece::Beside(index) => *index,
            Piece::Launches(ops, _) => ops.start,
        }
    }

    fn is_recorded(&self) -> bool {
        match self {
            Piece::Beside(_) => true,
            Piece::Launches(_, state) => matches!(*state.borrow(), State::Recorded(_)),
        }
    }
}

impl Graph {
    /// `number` is no other graph's.
    pub fn of(ops: &[Op], number: u64) -> Self {
        let mut pieces = Vec::new();
        let mut from = 0;
        let mut close = |pieces: &mut Vec<Piece>, to: usize, next: usize| {
            if ops[from..to].iter().any(|op| matches!(op, Op::Launch { .. })) {
                pieces.push(Piece::Launches(from..to, RefCell::new(State::Settled)));
            }
            from = next;
        };
        for (index, op) in ops.iter().enumerate() {
            if matches!(op, Op::Upload { .. } | Op::Exchange { .. }) {
                close(&mut pieces, index, index + 1);
                pieces.push(Piece::Beside(index));
            }
        }
        close(&mut pieces, ops.len(), ops.len());
        Graph { pieces, whole: Whole::of(ops, number) }
    }

    /// Takes over the sizes and scalars of op `index`.
    pub fn update(&self, cuda: &Cuda, index: usize, op: &Op) {
        let holds = |piece: &&Piece| matches!(piece, Piece::Launches(ops, _) if ops.contains(&index));
        let Some(Piece::Launches(ops, state)) = self.pieces.iter().find(holds) else {
            return;
        };
        let state = &mut *state.borrow_mut();
        let mut is_stale = match state {
            State::Recorded(recorded) => recorded.update(cuda, index - ops.start, op).is_err(),
            State::Settled => true,
            State::Stale | State::Refused => false,
        };
        let whole = self.whole.as_ref().filter(|whole| whole.ops.contains(&index));
        if let Some(whole) = whole {
            is_stale |= cuda.update_jointly(whole.number.get(), index - whole.ops.start, op).is_err();
        }
        if is_stale {
            *state = State::Stale;
            whole.inspect(|whole| whole.number.set(cuda.next_number()));
        }
    }

    pub fn replay(&self, cuda: &Cuda, ops: &[Op]) -> Result<()> {
        let mut whole = self.whole.as_ref();
        let mut done = 0..0;
        for piece in &self.pieces {
            if let Some(whole) = whole.take_if(|whole| whole.ops.contains(&piece.start()))
                && cuda.replay_jointly(self.offer(whole), &ops[whole.ops.clone()])?
            {
                done = whole.ops.clone();
            }
            match piece {
                _ if done.contains(&piece.start()) => {}
                Piece::Beside(index) => cuda.run(&ops[*index])?,
                Piece::Launches(range, state) => {
                    replay_launches(cuda, &ops[range.clone()], &mut state.borrow_mut())?;
                }
            }
        }
        Ok(())
    }

    /// What this rank would replay with the others, where all launches of it could be recorded.
    fn offer(&self, whole: &Whole) -> Offer {
        let is_within = |piece: &&Piece| whole.ops.contains(&piece.start());
        match self.pieces.iter().filter(is_within).all(Piece::is_recorded) {
            true => Offer { graph: whole.number.get(), exchanges: whole.exchanges },
            false => Offer::NONE,
        }
    }
}

fn replay_launches(cuda: &Cuda, ops: &[Op], state: &mut State) -> Result<()> {
    if matches!(state, State::Settled) {
        *state = match record(cuda, ops) {
            Ok(recorded) => State::Recorded(recorded),
            Err(why) => {
                cuda.refuse_graph(&why);
                State::Refused
            }
        };
    }
    if let State::Recorded(recorded) = state {
        return recorded.launch(cuda);
    }
    ops.iter().try_for_each(|op| cuda.run(op))?;
    if matches!(state, State::Stale) {
        *state = State::Settled;
    }
    Ok(())
}
