//! This rank's place among GPUs that exchange by NCCL: what lies in their memory goes from one to the other, in the order
//! of the stream, and never over the host.

use super::Cuda;
use super::driver::Context;
use super::nccl::{self, Config, FLOAT, Functions, Handle, IN_PROGRESS, SUCCESS, SUM, Status, UniqueId};
use crate::collective::{Begun, Group};
use crate::device::Exchange;
use crate::error::{Error, Result};
use bytemuck::Zeroable;
use std::cell::Cell;
use std::ffi::c_int;
use std::rc::Rc;

/// A communicator of all ranks, which is given up when dropped: whoever drops it has seen its last exchange done.
pub(super) struct Communicator {
    functions: &'static Functions,
    /// Null before it is made, and when it was given up.
    handle: Cell<Handle>,
    context: Rc<Context>,
}

impl Communicator {
    /// Meets the GPUs of all ranks of `group`.
    pub fn meet(context: &Rc<Context>, group: &Group) -> Result<Self> {
        let functions = nccl::load()?;
        group.agree("version of NCCL", &functions.version.to_string())?;
        let this =
            Communicator { functions, handle: Cell::new(std::ptr::null_mut()), context: context.clone() };
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

    /// Puts this rank's part of `exchange` on the stream; `address` is that of its first element.
    pub fn begin(&self, exchange: &Exchange, address: u64) -> Result<()> {
        let (Functions { all_reduce, broadcast, group_start, group_end, .. }, handle) =
            (self.functions, self.handle.get());
        let stream = self.context.stream.cast();
        let doing = "exchange what the GPUs have";
        // SAFETY: `device::within` checked that a live block has so many elements at the address, and the caller waits
        // for the stream before it does anything else with them. The communicator and the stream live.
        unsafe {
            match exchange {
                Exchange::Sum(len) => {
                    self.accept(all_reduce(address, address, *len, FLOAT, SUM, handle, stream), doing)
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

    /// Whether all that was begun is on the stream; fails where GPUs have lost each other.
    pub fn is_settled(&self) -> Result<bool> {
        let mut state = SUCCESS;
        // SAFETY: the communicator lives, and NCCL writes one number.
        let asked = unsafe { (self.functions.state)(self.handle.get(), &mut state) };
        self.accept(asked, "ask how an exchange goes")?;
        self.accept(state, "exchange with the other GPUs")?;
        Ok(state == SUCCESS)
    }

    /// Ends what was begun, on this rank alone.
    pub fn give_up(&self) {
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
    /// Does `exchange` with the GPUs that this one has met; `address` is that of its first element.
    pub(super) fn exchange_among(&self, group: &Group, exchange: &Exchange, address: u64) -> Result<()> {
        let communicator = self.communicator.borrow();
        let unmet = || Error::internal(format!("GPU {} has met no other", self.gpu.ordinal));
        let communicator = communicator.as_ref().ok_or_else(unmet)?;
        group.by_devices(exchange.name(), &Exchanging { cuda: self, communicator, exchange, address })
    }
}

/// An exchange of what lies at an address.
struct Exchanging<'a> {
    cuda: &'a Cuda,
    communicator: &'a Communicator,
    exchange: &'a Exchange,
    address: u64,
}

impl Begun for Exchanging<'_> {
    fn begin(&self) -> Result<()> {
        self.communicator.begin(self.exchange, self.address)
    }

    fn is_done(&self) -> Result<bool> {
        // Until NCCL has put it there, the stream has nothing of it.
        if !self.communicator.is_settled()? {
            return Ok(false);
        }
        let idle = self.cuda.context.is_idle();
        let idle =
            idle.map_err(|code| self.cuda.failed(code, format_args!("do the {}", self.exchange.name())))?;
        // What went wrong on the way may have emptied it.
        Ok(idle && self.communicator.is_settled()?)
    }

    fn give_up(&self) {
        self.communicator.give_up();
    }
}

#[cfg(test)]
mod tests;
