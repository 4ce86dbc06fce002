//! This rank's place among GPUs that exchange by NCCL: what lies in their memory goes from one to the other, on a stream
//! beside that of the kernels, and never over the host.

use super::Cuda;
use super::driver::{Context, is_idle};
use super::errors::refused;
use super::joint::{Joint, JointCounts, Offer, Way};
use super::nccl::{
    self, BFLOAT16, Config, FLOAT, Functions, Handle, IN_PROGRESS, SUCCESS, SUM, Status, UniqueId,
};
use super::recording::record;
use crate::collective::{Begun, Group};
use crate::device::Exchange;
use crate::device::graph::Op;
use crate::error::{Error, Result};
use crate::shape::DType;
use bytemuck::Zeroable;
use cudarc::driver::result::{DriverError, event, stream};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_int;
use std::rc::{Rc, Weak};

/// A communicator of all ranks, which is given up when dropped: whoever drops it has seen its last exchange done.
pub(super) struct Communicator {
    functions: &'static Functions,
    /// Null before it is made, and when it was given up.
    handle: Cell<Handle>,
    stream: CUstream,
    /// Where the kernels were when an exchange began.
    event: CUevent,
    /// Exchanges that NCCL has not been given yet, each with the address of its first element: it takes the next when it
    /// has put the last on the stream.
    waiting: RefCell<VecDeque<(Exchange, u64)>>,
    /// What went wrong with one of them.
    fault: RefCell<Option<Error>>,
    /// Whether the ranks have agreed on how the exchanges go that have begun.
    is_agreed: Cell<bool>,
    joint: Joint,
    group: Weak<Group>,
    context: Rc<Context>,
}

impl Communicator {
    /// Meets the GPUs of all ranks of `group`.
    pub fn meet(context: &Rc<Context>, group: &Rc<Group>) -> Result<Self> {
        let functions = nccl::load()?;
        group.agree("version of NCCL", &functions.version.to_string())?;
        let made = |e: DriverError| refused(e.0, "make a stream for exchanges");
        let this = Communicator {
            functions,
            handle: Cell::new(std::ptr::null_mut()),
            stream: stream::create(stream::StreamKind::NonBlocking).map_err(made)?,
            event: event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(made)?,
            waiting: RefCell::default(),
            fault: RefCell::default(),
            is_agreed: Cell::new(false),
            joint: Joint::default(),
            group: Rc::downgrade(group),
            context: context.clone(),
        };
        let mut id = UniqueId::zeroed();
        if group.is_first() {
            // SAFETY: NCCL writes one identifier.
            this.accept(unsafe { (functions.unique_id)(&mut id) }, "open a place to meet at")?;
        }
        let mut bytes = id.0.to_vec();
        group.broadcast(&mut bytes);
        id.0.copy_from_slice(&bytes);
        group.by_devices("meeting of GPUs", &Meeting { of: &this, id, group })?;
        Ok(this)
    }

    /// Begins `exchange`, or has it begin later; `address` is that of its first element. What goes wrong is told to who waits
    /// for it, together with the rank that has caused it.
    fn put(&self, exchange: &Exchange, address: u64) {
        self.waiting.borrow_mut().push_back((exchange.clone(), address));
        if let Err(error) = self.go_on() {
            self.fault.borrow_mut().get_or_insert(error);
        }
    }

    /// Gives NCCL what waits, as far as it takes it.
    fn go_on(&self) -> Result<()> {
        while !self.waiting.borrow().is_empty() && self.is_settled()? {
            let Some((exchange, address)) = self.waiting.borrow_mut().pop_front() else { break };
            self.begin(&exchange, address)?;
        }
        Ok(())
    }

    /// Puts this rank's part of `exchange` on the stream, after all that the kernels' stream has now.
    fn begin(&self, exchange: &Exchange, address: u64) -> Result<()> {
        self.order(self.context.stream, self.stream)?;
        let (Functions { all_reduce, reduce, broadcast, group_start, group_end, .. }, handle) =
            (self.functions, self.handle.get());
        let (stream, doing) = (self.stream.cast(), "exchange what the GPUs have");
        // SAFETY: `device::within` checked that a live block has so many elements at the address, and nothing else touches
        // them until they are waited for. The communicator and the stream live.
        unsafe {
            match exchange {
                Exchange::Sum(len, dtype) => {
                    let of = element(*dtype)?;
                    self.accept(all_reduce(address, address, *len, of, SUM, handle, stream), doing)
                }
                Exchange::Reduce(len, dtype, to) => {
                    let (of, to) = (element(*dtype)?, *to as c_int);
                    self.accept(reduce(address, address, *len, of, SUM, to, handle, stream), doing)
                }
                Exchange::Broadcast(len) => {
                    self.accept(broadcast(address, address, *len, FLOAT, 0, handle, stream), doing)
                }
                Exchange::Gather(parts) => {
                    self.accept(group_start(), doing)?;
                    for (rank, part) in parts.iter().enumerate() {
                        let at = address + (part.start * size_of::<f32>()) as u64;
                        let status = broadcast(at, at, part.len(), FLOAT, rank as c_int, handle, stream);
                        self.accept(status, doing)?;
                    }
                    self.accept(group_end(), doing)
                }
            }
        }
    }

    /// What `later` is given from now on comes after all that `earlier` has.
    fn order(&self, earlier: CUstream, later: CUstream) -> Result<()> {
        let ordered = |e: DriverError| refused(e.0, "order an exchange");
        // SAFETY: the event and both streams live.
        unsafe {
            event::record(self.event, earlier).map_err(ordered)?;
            stream::wait_event(later, self.event, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT).map_err(ordered)
        }
    }

    fn group(&self) -> Result<Rc<Group>> {
        self.group.upgrade().ok_or_else(|| Error::internal("the ranks have parted"))
    }

    /// What each rank would replay of the exchanges that begin now.
    fn agree(&self, ours: Offer) -> Result<Vec<Offer>> {
        self.is_agreed.set(true);
        Ok(self.group()?.gather(&[ours]).concat())
    }

    /// Whether NCCL has put all that it was given on the stream; fails where GPUs have lost each other.
    fn is_settled(&self) -> Result<bool> {
        let mut state = SUCCESS;
        // SAFETY: the communicator lives, and NCCL writes one number.
        let asked = unsafe { (self.functions.state)(self.handle.get(), &mut state) };
        self.accept(asked, "ask how an exchange goes")?;
        self.accept(state, "exchange with the other GPUs")?;
        Ok(state == SUCCESS)
    }

    /// Ends what was begun, on this rank alone.
    fn give_up(&self) {
        self.joint.forget();
        let handle = self.handle.replace(std::ptr::null_mut());
        if !handle.is_null() {
            // SAFETY: the communicator was made once and is given up once.
            unsafe { (self.functions.abort)(handle) };
        }
    }

    fn accept(&self, status: Status, doing: &str) -> Result<()> {
        match status {
            SUCCESS | IN_PROGRESS => Ok(()),
            _ => Err(self.functions.refusal(self.handle.get(), status, doing)),
        }
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.give_up();
        // SAFETY: both were made with this value, and what used them is given up. After a fault this fails, and so did what
        // matters.
        unsafe {
            let _ = event::destroy(self.event);
            let _ = stream::destroy(self.stream);
        }
    }
}

/// What NCCL calls the type of what is summed.
fn element(dtype: DType) -> Result<c_int> {
    match dtype {
        DType::F32 => Ok(FLOAT),
        DType::BF16 => Ok(BFLOAT16),
        other => Err(Error::internal(format!("a sum of {other:?} elements"))),
    }
}

/// The making of a communicator, by all ranks at once.
struct Meeting<'a> {
    of: &'a Communicator,
    id: UniqueId,
    group: &'a Group,
}

impl Begun for Meeting<'_> {
    fn begin(&self) -> Result<()> {
        let (mut handle, mut config) = (std::ptr::null_mut(), Config::non_blocking());
        let (rank, size) = (self.group.rank() as c_int, self.group.size() as c_int);
        // SAFETY: NCCL writes the handle, and has read the configuration when it returns; the GPU's context is current.
        let status = unsafe { (self.of.functions.init)(&mut handle, size, self.id, rank, &mut config) };
        self.of.handle.set(handle);
        self.of.accept(status, "meet the other GPUs")
    }

    fn is_done(&self) -> Result<bool> {
        self.of.is_settled()
    }

    fn give_up(&self) {
        self.of.give_up();
    }
}

impl Cuda {
    /// Begins `exchange` with the GPUs that this one has met; `address` is that of its first element.
    pub(super) fn exchange(&self, exchange: &Exchange, address: u64) -> Result<()> {
        self.with_communicator(|communicator| {
            if !communicator.is_agreed.get() {
                communicator.agree(Offer::NONE)?;
            }
            communicator.put(exchange, address);
            Ok(())
        })
    }

    fn with_communicator<R>(&self, work: impl FnOnce(&Communicator) -> Result<R>) -> Result<R> {
        let communicator = self.communicator.borrow();
        let unmet = || Error::internal(format!("GPU {} has met no other", self.gpu.ordinal));
        work(communicator.as_ref().ok_or_else(unmet)?)
    }

    /// Gives `exchange` to the streams that are being recorded.
    pub(super) fn record_exchange(&self, exchange: &Exchange, address: u64) -> Result<()> {
        self.with_communicator(|communicator| {
            let part = Recording { communicator, exchange, address };
            communicator.group()?.by_devices("recording of a step", &part)
        })
    }

    /// Ends the recording of the stream of exchanges in that of the kernels.
    pub(super) fn join_recorded_exchanges(&self) -> Result<()> {
        self.with_communicator(|communicator| communicator.order(communicator.stream, self.context.stream))
    }

    /// Runs `ops`, for which this rank makes an offer, as one graph of all ranks; whether they have agreed on that.
    pub(super) fn replay_jointly(&self, ours: Offer, ops: &[Op]) -> Result<bool> {
        self.with_communicator(|communicator| {
            // Those that have begun are not part of a graph.
            if communicator.is_agreed.get() {
                return Ok(false);
            }
            let (group, joint) = (communicator.group()?, &communicator.joint);
            let offers = communicator.agree(ours)?;
            match joint.decide(&offers) {
                Way::Apart => return Ok(false),
                Way::Replay => {}
                Way::Record => {
                    let recorded = record(self, ops).inspect_err(|why| self.refuse_graph(why)).ok();
                    let all_have = group.gather(&[u8::from(recorded.is_some())]).iter().all(|of| of == &[1]);
                    joint.keep(&offers, recorded.filter(|_| all_have));
                    if !all_have {
                        return Ok(false);
                    }
                }
            }
            joint.launch(&offers, self)?;
            let stream = self.context.stream;
            let what = "step with its exchanges";
            group.with_devices(what, &Working { cuda: self, communicator, stream, what })?;
            Ok(true)
        })
    }

    /// Takes over the sizes and scalars of op `index` of this rank's graph `number` wherever it is part of one of all ranks.
    pub(super) fn update_jointly(&self, number: u64, index: usize, op: &Op) -> Result<()> {
        self.with_communicator(|communicator| {
            communicator.joint.update(self, (communicator.group()?.rank(), number), index, op)
        })
    }

    /// How often steps ran as graphs of all ranks.
    pub fn joint_counts(&self) -> JointCounts {
        self.communicator.borrow().as_ref().map(|of| of.joint.counts()).unwrap_or_default()
    }

    /// Waits for all exchanges.
    pub(super) fn exchanged(&self, group: &Group, what: &'static str) -> Result<()> {
        let communicator = self.communicator.borrow();
        let Some(communicator) = &*communicator else { return Ok(()) };
        communicator.is_agreed.set(false);
        let stream = communicator.stream;
        group.by_devices(what, &Working { cuda: self, communicator, stream, what })
    }
}

/// Exchanges that have begun, and what else is on their stream.
struct Working<'a> {
    cuda: &'a Cuda,
    communicator: &'a Communicator,
    stream: CUstream,
    what: &'static str,
}

impl Begun for Working<'_> {
    fn begin(&self) -> Result<()> {
        self.communicator.fault.take().map_or(Ok(()), Err)
    }

    fn is_done(&self) -> Result<bool> {
        let communicator = self.communicator;
        communicator.go_on()?;
        // Until NCCL has put them there, the stream has nothing of them.
        if !communicator.waiting.borrow().is_empty() || !communicator.is_settled()? {
            return Ok(false);
        }
        let idle = is_idle(self.stream);
        let idle = idle.map_err(|code| self.cuda.failed(code, format_args!("do the {}", self.what)))?;
        // What went wrong on the way may have emptied it.
        Ok(idle && communicator.is_settled()?)
    }

    fn give_up(&self) {
        self.communicator.give_up();
    }
}

/// An exchange that NCCL's threads put on streams that are being recorded.
struct Recording<'a> {
    communicator: &'a Communicator,
    exchange: &'a Exchange,
    address: u64,
}

impl Begun for Recording<'_> {
    fn begin(&self) -> Result<()> {
        self.communicator.begin(self.exchange, self.address)
    }

    fn is_done(&self) -> Result<bool> {
        self.communicator.is_settled()
    }

    fn give_up(&self) {
        self.communicator.give_up();
    }
}

#[cfg(test)]
mod tests;
