//! Launches without the executor, on any memory: what stands behind the driver in tests of the `cuda` executor.

use super::entries::{self, Entry};
use super::schedule::{self, Launch};
use super::{Order, fault};
use crate::device::{Pass, Precision};
use crate::shape::DType;
use std::ffi::c_void;

#[derive(Clone, Copy)]
pub(in crate::device) struct Kernel(Entry);

impl Kernel {
    /// The entry `name`, where kernels can be simulated.
    pub fn find(name: &str, real: DType, precision: Precision) -> Option<Self> {
        entries::available().ok()?;
        fault::install();
        entries::find(name, real, precision).ok().map(Kernel)
    }

    /// Bytes of its argument struct.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Runs it on its argument struct.
    pub fn run(&self, pass: Pass, arguments: *const c_void) -> Result<(), String> {
        let launch = Launch { entry: self.0, pass, arguments, order: Order::Forward };
        schedule::run(&launch).map_err(|failure| {
            format!("block {:?}, thread {}: {}", failure.block, failure.thread, failure.what)
        })
    }
}
