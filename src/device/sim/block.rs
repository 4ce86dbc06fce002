//! One thread block: fibers, run until all wait or have returned, then whatever is complete goes on.

use super::entries;
use super::fault;
use super::flight::Flight;
use super::guarded::{self, Guarded};
use super::schedule::{Launch, Shuffler};
use super::thread::{Index, Scope, Thread, Wait, Yield};
use crate::error::Result;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use std::cell::Cell;
use std::ffi::c_void;

/// How a fiber ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    Returned,
    Fault { signal: i32, address: usize },
}

/// Why a launch stopped.
#[derive(Debug)]
pub(super) struct Failure {
    pub block: [u32; 3],
    pub thread: u32,
    pub what: String,
    /// The address that was touched, where that was the fault.
    pub address: Option<usize>,
}

type Fiber = Coroutine<(), Yield, End, DefaultStack>;

/// Where a thread stands.
enum State {
    Ready,
    Waiting(*mut Wait),
    Returned,
}

const WARP: usize = 32;
/// Deep enough for a kernel's registers, spilled by a compiler that has sixteen.
const STACK: usize = 256 << 10;

thread_local! {
    /// What workers of this operating-system thread left behind: a mapping for each stack is slow to make.
    static IDLE: Cell<(Vec<Thread>, Vec<DefaultStack>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// What one operating-system thread needs to run blocks, kept from block to block.
pub(super) struct Worker {
    threads: Vec<Thread>,
    stacks: Vec<DefaultStack>,
    shared: Guarded,
    shared_size: usize,
    flight: Flight,
    waiting: Vec<*mut Wait>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut idle = IDLE.take();
        idle.0.append(&mut self.threads);
        idle.1.append(&mut self.stacks);
        IDLE.set(idle);
    }
}

impl Worker {
    pub fn new(launch: &Launch) -> Result<Self> {
        let threads = launch.pass.block as usize;
        let shared_size = launch.pass.shared as usize;
        let mut idle = IDLE.take();
        let mut states = idle.0.split_off(idle.0.len().saturating_sub(threads));
        let mut stacks = idle.1.split_off(idle.1.len().saturating_sub(threads));
        IDLE.set(idle);
        states.resize_with(threads, Thread::new);
        while stacks.len() < threads {
            stacks.push(DefaultStack::new(STACK).map_err(|e| {
                crate::error::Error::DoesNotFit(format!("no memory for the simulator's threads: {e}"))
            })?);
        }
        Ok(Worker {
            threads: states,
            stacks,
            shared: Guarded::new(shared_size)?,
            shared_size,
            flight: Flight::new(shared_size),
            waiting: vec![std::ptr::null_mut(); threads],
        })
    }

    /// Runs all threads of `block` to their end.
    pub fn run(&mut self, launch: &Launch, block: [u32; 3], shuffler: &mut Shuffler) -> Result<(), Failure> {
        // A NaN in every type: who reads what nobody wrote sees it.
        self.shared.fill(0xff);
        let count = self.threads.len();
        self.flight.begin(count, &self.shared);
        let mut fibers: Vec<Fiber> = Vec::with_capacity(count);
        for (i, stack) in self.stacks.drain(..).enumerate() {
            let thread = &mut self.threads[i];
            thread.thread = Index { x: i as u32, y: 0, z: 0 };
            thread.block = Index { x: block[0], y: block[1], z: block[2] };
            thread.threads = Index { x: count as u32, y: 1, z: 1 };
            thread.blocks = Index { x: launch.pass.grid[0], y: launch.pass.grid[1], z: launch.pass.grid[2] };
            thread.index = i as u32;
            thread.shared = self.shared.address() as *mut u8;
            thread.shared_size = self.shared_size as u32;
            (thread.copies, thread.group, thread.writes) = (0, 0, 0);
            thread.flight = self.flight.pointer();
            let run = launch.entry.run;
            let [arguments, maps] = [launch.arguments, launch.maps].map(|at| at as usize);
            let thread = std::ptr::from_mut(thread);
            fibers.push(Coroutine::with_stack(stack, move |yielder, ()| {
                // SAFETY: the worker's threads outlive its fibers, and only this one touches its own.
                unsafe { (*thread).yielder = yielder };
                run(arguments as *const c_void, maps as *const c_void);
                End::Returned
            }));
        }
        let outcome = self.drive(&mut fibers, shuffler);
        for mut fiber in fibers {
            // SAFETY: C++ frames own nothing, and the closure of the fiber only copies.
            unsafe { fiber.force_reset() };
            self.stacks.push(fiber.into_stack());
        }
        fault::set_running(None);
        outcome.map_err(|(thread, what, address)| Failure { block, thread: thread as u32, what, address })
    }

    fn drive(&mut self, fibers: &mut [Fiber], shuffler: &mut Shuffler) -> Result<(), Stop> {
        let count = fibers.len();
        let mut states: Vec<State> = (0..count).map(|_| State::Ready).collect();
        let slot = entries::self_slot();
        loop {
            for &i in shuffler.threads(count) {
                if !matches!(states[i], State::Ready) {
                    continue;
                }
                // SAFETY: the slot belongs to this operating-system thread, which runs the fiber.
                unsafe { *slot = &mut self.threads[i] };
                fault::set_running(Some(fibers[i].trap_handler()));
                states[i] = match fibers[i].resume(()) {
                    CoroutineResult::Yield(Yield::Wait(wait)) => State::Waiting(wait),
                    CoroutineResult::Yield(Yield::Fail(what)) => return Err((i, what, None)),
                    CoroutineResult::Return(End::Returned) => self.returned(i)?,
                    CoroutineResult::Return(End::Fault { signal, address }) => {
                        return Err(self.faulted(i, signal, address));
                    }
                };
            }
            fault::set_running(None);
            // Copies land early in some orders, and as late as can be in the others.
            let copies = self.flight.copies();
            if let Some(which) = shuffler.lands_early(copies) {
                self.flight.land(which).map_err(|what| (0, what, None))?;
            }
            if states.iter().all(|state| matches!(state, State::Returned)) {
                return self.flight.end().map_err(|what| (0, what, None));
            }
            if self.complete(&mut states) {
                continue;
            }
            match self.flight.copies() {
                0 => return Err(diagnose(&states)),
                copies => self.flight.land(shuffler.lands(copies)).map_err(|what| (0, what, None))?,
            }
        }
    }

    fn returned(&self, i: usize) -> Result<State, Stop> {
        match self.threads[i].copies {
            0 => Ok(State::Returned),
            n => Err((i, format!("returned with {n} asynchronous copies that it never waited for"), None)),
        }
    }

    fn faulted(&self, thread: usize, signal: i32, address: usize) -> Stop {
        let shared = self.shared.address();
        let near_shared =
            (shared - guarded::ZONE..shared + self.shared_size + guarded::ZONE).contains(&address);
        match signal {
            libc::SIGFPE => (thread, "divided an integer by zero".into(), None),
            libc::SIGILL => (thread, "made a misaligned vector access".into(), None),
            _ if near_shared => {
                let at = address as i64 - shared as i64;
                (thread, format!("touched byte {at} of shared memory, which has {}", self.shared_size), None)
            }
            // Far from a page, the processor gives no address.
            _ if address < guarded::ZONE => (thread, "used a null pointer: an absent tensor?".into(), None),
            _ => (thread, "touched memory outside of every tensor".into(), Some(address)),
        }
    }

    /// Performs every operation that all its threads have reached; whether there was one.
    fn complete(&mut self, states: &mut [State]) -> bool {
        let mut any = false;
        for state in states.iter_mut() {
            // SAFETY: a waiting thread's request lies on its suspended stack.
            if matches!(state, State::Waiting(wait) if unsafe { (**wait).is_ready() }) {
                *state = State::Ready;
                any = true;
            }
        }
        for warp in 0..states.len().div_ceil(WARP) {
            let lanes = warp * WARP..states.len().min((warp + 1) * WARP);
            for i in lanes.clone() {
                let State::Waiting(first) = states[i] else { continue };
                // SAFETY: a waiting thread's request lies on its suspended stack.
                let wait = unsafe { &*first };
                if wait.scope() != Scope::Lanes || wait.mask & 1 << (i - lanes.start) == 0 {
                    continue;
                }
                let mut gathered = [std::ptr::null_mut(); WARP];
                let named = (0..WARP).filter(|lane| wait.mask & 1 << lane != 0);
                let all = named.into_iter().all(|lane| {
                    gathered[lane] = meeting(states, lanes.start + lane, wait);
                    !gathered[lane].is_null()
                });
                if all {
                    wait.perform(&mut gathered);
                    release(states, lanes.start, &gathered);
                    any = true;
                }
            }
        }
        let State::Waiting(first) = states[0] else { return any };
        // SAFETY: as above.
        let wait = unsafe { &*first };
        if wait.scope() == Scope::Block {
            let all = (0..states.len()).all(|i| {
                self.waiting[i] = meeting(states, i, wait);
                !self.waiting[i].is_null()
            });
            if all {
                wait.perform(&mut self.waiting);
                release(states, 0, &self.waiting);
                any = true;
            }
        }
        any
    }
}

/// Thread, what it did, and the address it touched.
type Stop = (usize, String, Option<usize>);

/// Thread `i`'s request if it waits for the same as `wait`, else null.
fn meeting(states: &[State], i: usize, wait: &Wait) -> *mut Wait {
    match states.get(i) {
        // SAFETY: a waiting thread's request lies on its suspended stack.
        Some(State::Waiting(other)) if unsafe { &**other }.meets(wait) => *other,
        _ => std::ptr::null_mut(),
    }
}

fn release(states: &mut [State], first: usize, gathered: &[*mut Wait]) {
    for (lane, wait) in gathered.iter().enumerate() {
        if !wait.is_null() {
            states[first + lane] = State::Ready;
        }
    }
}

/// Why nobody can go on: the first thread that waits, and one that it waits for in vain.
fn diagnose(states: &[State]) -> Stop {
    let waits = |i: usize| match states[i] {
        // SAFETY: a waiting thread's request lies on its suspended stack.
        State::Waiting(wait) => Some(unsafe { &*wait }),
        _ => None,
    };
    let of_state = |&i: &usize| waits(i).is_some_and(|wait| wait.scope() == Scope::State);
    if let Some(i) = (0..states.len()).find(of_state) {
        let here = waits(i).map(Wait::describe).unwrap_or_default();
        return (i, format!("deadlock: it waits at {here}"), None);
    }
    let Some(i) = (0..states.len()).find(|&i| waits(i).is_some()) else {
        return (0, "no thread can run".into(), None);
    };
    let Some(wait) = waits(i) else { return (i, "waits for nothing".into(), None) };
    let warp = i / WARP * WARP;
    let needed: Vec<usize> = match wait.scope() == Scope::Block {
        true => (0..states.len()).collect(),
        false => (0..WARP).filter(|lane| wait.mask & 1 << lane != 0).map(|lane| warp + lane).collect(),
    };
    let here = wait.describe();
    if wait.scope() == Scope::Lanes && !needed.contains(&i) {
        return (
            i,
            format!("waits at {here} with the mask {:#010x}, which leaves itself out", wait.mask),
            None,
        );
    }
    let missing = needed.into_iter().find(|&j| j >= states.len() || meeting(states, j, wait).is_null());
    let elsewhere = match missing {
        Some(j) if j >= states.len() => format!("the mask {:#010x} names lanes that do not exist", wait.mask),
        Some(j) => match waits(j) {
            Some(other) if [other, wait].iter().any(|wait| wait.scope() == Scope::Block) => {
                format!("thread {j} waits at {}", other.describe())
            }
            Some(other) => {
                format!("thread {j} waits at {} with the mask {:#010x}", other.describe(), other.mask)
            }
            None => format!("thread {j} has returned"),
        },
        None => "nothing is missing".into(),
    };
    let kind = if wait.scope() == Scope::Block { "divergent barrier" } else { "mismatched warp" };
    (i, format!("{kind}: it waits at {here}, while {elsewhere}"), None)
}
