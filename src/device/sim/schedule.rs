//! Which block and which thread runs when: blocks spread over the cores, threads in a chosen order.

use super::block::{self, Failure};
use super::entries::Entry;
use crate::device::Pass;
use crate::error::Result;
use rayon::prelude::*;
use std::ffi::c_void;

/// The order of blocks, and of threads between two barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    Forward,
    Reverse,
    /// A pseudo-random order, another one after every barrier.
    Shuffled(u64),
}

/// One entry, ready to run.
pub(super) struct Launch {
    pub entry: Entry,
    pub pass: Pass,
    /// The kernel's argument struct, which every thread copies.
    pub arguments: *const c_void,
    /// Its maps of tensors, where it takes some.
    pub maps: *const c_void,
    pub order: Order,
}
// SAFETY: both structs outlive the launch and are only read.
unsafe impl Sync for Launch {}

/// Runs every block of the grid; the failure of the first block in grid order that failed.
pub(super) fn run(launch: &Launch) -> Result<(), Failure> {
    let [x, y, z] = launch.pass.grid.map(|n| n as u64);
    let blocks = x * y * z;
    let failure = (0..blocks).into_par_iter().map_init(
        || Shuffler::new(launch.order),
        |shuffler, i| {
            let index = shuffler.block(i, blocks);
            let block = [index % x, index / x % y, index / (x * y)].map(|n| n as u32);
            match block::with_worker(launch, |worker| worker.run(launch, block, shuffler)) {
                Ok(outcome) => outcome.err(),
                Err(e) => Some(Failure { block, thread: 0, what: e.to_string(), address: None }),
            }
        },
    );
    match failure.find_map_first(|failure| failure) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Hands out the orders.
pub(super) struct Shuffler {
    order: Order,
    state: u64,
    threads: Vec<usize>,
}

impl Shuffler {
    fn new(order: Order) -> Self {
        Shuffler { order, state: 0, threads: Vec::new() }
    }

    /// The block that runs as the `i`-th of `count`, and a fresh start for its threads.
    fn block(&mut self, i: u64, count: u64) -> u64 {
        match self.order {
            Order::Forward => i,
            Order::Reverse => count - 1 - i,
            Order::Shuffled(seed) => {
                // Multiplication by a unit permutes; threads depend on the block only, not on the worker.
                let step = (1..).map(|k| seed % 1000 + k).find(|k| gcd(*k, count) == 1).unwrap_or(1);
                let block = (i as u128 * step as u128 % count as u128) as u64;
                self.state = seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                block
            }
        }
    }

    /// Which of `copies` on their way lands before it has to, if one does.
    pub fn lands_early(&mut self, copies: usize) -> Option<usize> {
        let by_chance =
            matches!(self.order, Order::Shuffled(_)) && copies > 0 && self.random().is_multiple_of(4);
        by_chance.then(|| self.random() % copies)
    }

    /// Which of `copies` lands when nobody can go on before one does: the oldest, the newest or any.
    pub fn lands(&mut self, copies: usize) -> usize {
        match self.order {
            Order::Forward => 0,
            Order::Reverse => copies - 1,
            Order::Shuffled(_) => self.random() % copies,
        }
    }

    fn random(&mut self) -> usize {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) as usize
    }

    /// The order of the next round of `count` threads.
    pub fn threads(&mut self, count: usize) -> &[usize] {
        if self.threads.len() != count {
            self.threads = (0..count).collect();
            if self.order == Order::Reverse {
                self.threads.reverse();
            }
        }
        if let Order::Shuffled(_) = self.order {
            self.threads.sort_unstable();
            for i in (1..count).rev() {
                let other = self.random() % (i + 1);
                self.threads.swap(i, other);
            }
        }
        &self.threads
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
