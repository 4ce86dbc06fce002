//! What a block has beside its threads: barriers in memory, copies and products on their way (`kernels/sim/async.h`).

use super::entries::state;
use super::guarded::Guarded;
use std::ffi::{CStr, c_char, c_void};

/// The state of one block at a time.
pub(super) struct Flight {
    /// Words, so that C++ finds its fields aligned; zeros that nobody has touched take no memory.
    state: Vec<u64>,
    /// Shared memory as copies and products of warpgroups see it.
    visible: Vec<u8>,
}

impl Flight {
    pub fn new() -> Self {
        // SAFETY: asks for a constant.
        let bytes = unsafe { state::bytes() };
        Flight { state: vec![0; bytes.div_ceil(8)], visible: Vec::new() }
    }

    /// What threads are told of it.
    pub fn pointer(&mut self) -> *mut c_void {
        self.state.as_mut_ptr().cast()
    }

    /// Forgets the block before; this one has so many threads.
    pub fn begin(&mut self, threads: usize, shared: &Guarded) {
        // What it holds does not matter before the state is opened.
        self.visible.resize(shared.bytes(), 0);
        let (visible, bytes) = (self.visible.as_mut_ptr(), self.visible.len());
        // SAFETY: the state has the bytes that it asked for, and `shared` as many as `visible`.
        unsafe {
            state::begin(self.pointer(), threads as u32, shared.address() as *mut u8, visible, bytes as u32);
        }
    }

    /// Copies that have not landed.
    pub fn copies(&mut self) -> usize {
        // SAFETY: a block has begun.
        unsafe { state::flying(self.pointer()) as usize }
    }

    /// Lands one of the copies, counted from the oldest.
    pub fn land(&mut self, which: usize) -> Result<(), String> {
        // SAFETY: a block has begun, and the caller counted its copies.
        verdict(unsafe { state::land(self.pointer(), which as u32) })
    }

    /// When all threads have returned.
    pub fn end(&mut self) -> Result<(), String> {
        // SAFETY: a block has begun.
        verdict(unsafe { state::end(self.pointer()) })
    }
}

fn verdict(said: *const c_char) -> Result<(), String> {
    match said.is_null() {
        true => Ok(()),
        // SAFETY: a string that C++ keeps until the next one.
        false => Err(unsafe { CStr::from_ptr(said) }.to_string_lossy().into_owned()),
    }
}
