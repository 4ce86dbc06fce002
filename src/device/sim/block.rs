//! One thread block: fibers, run until all wait or have returned, then whatever is complete goes on.

use super::entries;
use super::fault;
use super::flight::Flight;
use super::guarded::{self, Guarded};
use super::schedule::{Launch, Shuffler};
use super::thread::{Index, Meeting, Scope, Thread, Wait, Yield};
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
#[derive(Clone, Copy)]
enum State {
    Ready,
    /// What it waits for, and the request on its suspended stack, which is far from what was used last.
    Waiting(Meeting, *mut Wait),
    Returned,
}

const WARP: usize = 32;
/// Deep enough for a kernel's registers, spilled by a compiler that has sixteen.
const STACK: usize = 256 << 10;

thread_local! {
    /// The worker of this operating-system thread, between two blocks.
    static IDLE: Cell<Option<Worker>> = const { Cell::new(None) };
}

/// What one operating-system thread needs to run blocks. It is kept from launch to launch: its mappings are slow to
/// make, and its states are large.
pub(super) struct Worker {
    /// Each where it is for good.
    threads: Vec<Box<Thread>>,
    stacks: Vec<DefaultStack>,
    shared: Guarded,
    flight: Flight,
    waiting: Vec<*mut Wait>,
}

/// Lends `run` the worker of this operating-system thread, as `launch` needs it.
pub(super) fn with_worker<T>(launch: &Launch, run: impl FnOnce(&mut Worker) -> T) -> Result<T> {
    let mut worker = Worker::ready(IDLE.take(), launch)?;
    let outcome = run(&mut worker);
    IDLE.set(Some(worker));
    Ok(outcome)
}

impl Worker {
    /// What `idle` has and the launch needs, and what is missing.
    fn ready(idle: Option<Worker>, launch: &Launch) -> Result<Self> {
        let (count, shared) = (launch.pass.block as usize, launch.pass.shared as usize);
        let mut worker = match idle {
            Some(worker) if worker.shared.bytes() == shared => worker,
            Some(worker) => Worker { shared: Guarded::new(shared)?, ..worker },
            None => Worker {
                threads: Vec::new(),
                stacks: Vec::new(),
                shared: Guarded::new(shared)?,
                flight: Flight::new(),
                waiting: Vec::new(),
            },
        };
        while worker.threads.len() < count {
            worker.threads.push(Thread::new());
        }
        while worker.stacks.len() < count {
            worker.stacks.push(DefaultStack::new(STACK).map_err(|e| {
                crate::error::Error::DoesNotFit(format!("no memory for the simulator's threads: {e}"))
            })?);
        }
        worker.waiting.clear();
        worker.waiting.resize(count, std::ptr::null_mut());
        Ok(worker)
    }

    /// Runs all threads of `block` to their end.
    pub fn run(&mut self, launch: &Launch, block: [u32; 3], shuffler: &mut Shuffler) -> Result<(), Failure> {
        // A NaN in every type: who reads what nobody wrote sees it.
        self.shared.fill(0xff);
        let count = launch.pass.block as usize;
        self.flight.begin(count, &self.shared);
        let mut fibers: Vec<Fiber> = Vec::with_capacity(count);
        for (i, stack) in self.stacks.drain(..count).enumerate() {
            let thread = &mut self.threads[i];
            thread.thread = Index { x: i as u32, y: 0, z: 0 };
            thread.block = Index { x: block[0], y: block[1], z: block[2] };
            thread.threads = Index { x: count as u32, y: 1, z: 1 };
            thread.blocks = Index { x: launch.pass.grid[0], y: launch.pass.grid[1], z: launch.pass.grid[2] };
            thread.index = i as u32;
            thread.shared = self.shared.address() as *mut u8;
            thread.shared_size = self.shared.bytes() as u32;
            (thread.copies, thread.group, thread.writes) = (0, 0, 0);
            thread.flight = self.flight.pointer();
            let run = launch.entry.run;
            let [arguments, maps] = [launch.arguments, launch.maps].map(|at| at as usize);
            let thread: *mut Thread = &mut **thread;
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
                unsafe { *slot = &mut *self.threads[i] };
                fault::set_running(Some(fibers[i].trap_handler()));
                states[i] = match fibers[i].resume(()) {
                    // SAFETY: a waiting thread's request lies on its suspended stack.
                    CoroutineResult::Yield(Yield::Wait(wait)) => {
                        State::Waiting(unsafe { (*wait).meeting() }, wait)
                    }
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
        let (shared, bytes) = (self.shared.address(), self.shared.bytes());
        let near_shared = (shared - guarded::ZONE..shared + bytes + guarded::ZONE).contains(&address);
        match signal {
            libc::SIGFPE => (thread, "divided an integer by zero".into(), None),
            libc::SIGILL => (thread, "made a misaligned vector access".into(), None),
            _ if near_shared => {
                let at = address as i64 - shared as i64;
                (thread, format!("touched byte {at} of shared memory, which has {bytes}"), None)
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
            let State::Waiting(Meeting { scope: Scope::State, .. }, wait) = *state else { continue };
            // SAFETY: a waiting thread's request lies on its suspended stack.
            if unsafe { (*wait).is_ready() } {
                *state = State::Ready;
                any = true;
            }
        }
        for warp in 0..states.len().div_ceil(WARP) {
            let lanes = warp * WARP..states.len().min((warp + 1) * WARP);
            for i in lanes.clone() {
                let State::Waiting(meeting, first) = states[i] else { continue };
                if meeting.scope != Scope::Lanes || meeting.mask & 1 << (i - lanes.start) == 0 {
                    continue;
                }
                let mut gathered = [std::ptr::null_mut(); WARP];
                let mut named = (0..WARP).filter(|lane| meeting.mask & 1 << lane != 0);
                let all = named.all(|lane| {
                    gathered[lane] = waiting(states, lanes.start + lane, meeting);
                    !gathered[lane].is_null()
                });
                if all {
                    // SAFETY: as above.
                    unsafe { (*first).perform(&mut gathered) };
                    release(states, lanes.start, &gathered);
                    any = true;
                }
            }
        }
        let State::Waiting(meeting, first) = states[0] else { return any };
        if meeting.scope == Scope::Block {
            let all = (0..states.len()).all(|i| {
                self.waiting[i] = waiting(states, i, meeting);
                !self.waiting[i].is_null()
            });
            if all {
                // SAFETY: as above.
                unsafe { (*first).perform(&mut self.waiting) };
                release(states, 0, &self.waiting);
                any = true;
            }
        }
        any
    }
}

/// Thread, what it did, and the address it touched.
type Stop = (usize, String, Option<usize>);

/// Thread `i`'s request if it waits at `meeting`, else null.
fn waiting(states: &[State], i: usize, meeting: Meeting) -> *mut Wait {
    match states.get(i) {
        Some(State::Waiting(here, wait)) if *here == meeting => *wait,
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
        State::Waiting(meeting, _) => Some(meeting),
        _ => None,
    };
    let of_state = |i: usize| waits(i).filter(|meeting| meeting.scope == Scope::State);
    if let Some((i, meeting)) = (0..states.len()).find_map(|i| Some((i, of_state(i)?))) {
        return (i, format!("deadlock: it waits at {}", meeting.describe()), None);
    }
    let Some((i, meeting)) = (0..states.len()).find_map(|i| Some((i, waits(i)?))) else {
        return (0, "no thread can run".into(), None);
    };
    let warp = i / WARP * WARP;
    let needed: Vec<usize> = match meeting.scope == Scope::Block {
        true => (0..states.len()).collect(),
        false => (0..WARP).filter(|lane| meeting.mask & 1 << lane != 0).map(|lane| warp + lane).collect(),
    };
    let here = meeting.describe();
    if meeting.scope == Scope::Lanes && !needed.contains(&i) {
        return (
            i,
            format!("waits at {here} with the mask {:#010x}, which leaves itself out", meeting.mask),
            None,
        );
    }
    let missing = needed.into_iter().find(|&j| waiting(states, j, meeting).is_null());
    let elsewhere = match missing {
        Some(j) if j >= states.len() => {
            format!("the mask {:#010x} names lanes that do not exist", meeting.mask)
        }
        Some(j) => match waits(j) {
            Some(other) if [other, meeting].iter().any(|meeting| meeting.scope == Scope::Block) => {
                format!("thread {j} waits at {}", other.describe())
            }
            Some(other) => {
                format!("thread {j} waits at {} with the mask {:#010x}", other.describe(), other.mask)
            }
            None => format!("thread {j} has returned"),
        },
        None => "nothing is missing".into(),
    };
    let kind = if meeting.scope == Scope::Block { "divergent barrier" } else { "mismatched warp" };
    (i, format!("{kind}: it waits at {here}, while {elsewhere}"), None)
}
