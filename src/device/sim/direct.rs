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

    /// Bytes of its argument struct, and of its maps of tensors.
    pub fn bytes(&self) -> [usize; 2] {
        [self.0.bytes, self.0.maps_bytes]
    }

    /// Runs it on its argument struct and its maps.
    pub fn run(&self, pass: Pass, [arguments, maps]: [*const c_void; 2]) -> Result<(), String> {
        let launch = Launch { entry: self.0, pass, arguments, maps, order: Order::Forward };
        schedule::run(&launch).map_err(|failure| {
            format!("block {:?}, thread {}: {}", failure.block, failure.thread, failure.what)
        })
    }
}
