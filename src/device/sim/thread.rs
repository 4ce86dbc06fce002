//! What a simulated thread and a kernel compiled by C++ tell each other (`kernels/sim/rendezvous.h`).

use corosensei::Yielder;
use std::ffi::{CStr, c_char, c_void};

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Index {
    pub x: u32,
    pub y: u32,
    pub z: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Copy16 {
    to: *mut c_void,
    from: *const c_void,
    bytes: u32,
    group: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Write {
    at: *mut c_void,
    bytes: u32,
}

/// As many as in rendezvous.h.
const COPIES: usize = 512;

/// One thread of the grid.
#[repr(C)]
pub(super) struct Thread {
    pub thread: Index,
    pub block: Index,
    pub threads: Index,
    pub blocks: Index,
    pub index: u32,
    pub shared_size: u32,
    pub shared: *mut u8,
    /// Asynchronous copies that have not landed.
    pub copies: u32,
    pub group: u32,
    copy: [Copy16; COPIES],
    written: [Write; COPIES],
    /// The block's own state, see [`super::flight`].
    pub flight: *mut c_void,
    /// Bytes written and not fenced.
    pub writes: u32,
    /// Beyond what C++ knows: how the fiber suspends.
    pub yielder: *const Yielder<(), Yield>,
}

impl Thread {
    pub fn new() -> Box<Self> {
        let mut thread = Box::<Self>::new_uninit();
        // SAFETY: every field is an integer or a pointer, for which zero is a value.
        unsafe {
            thread.as_mut_ptr().write_bytes(0, 1);
            thread.assume_init()
        }
    }
}

/// What a thread waits for; on its own stack.
#[repr(C)]
pub(super) struct Wait {
    what: *const c_char,
    scope: u32,
    mask: u32,
    perform: extern "C" fn(*mut *mut Wait, u32),
    file: *const c_char,
    line: u32,
    data: *mut c_void,
    ready: Option<extern "C" fn(*mut Wait) -> u32>,
}

/// Whom a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The lanes of its mask.
    Lanes,
    Block,
    /// Nobody in particular: what is in memory.
    State,
}

/// What threads have in common that wait at the same call for the same lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Meeting {
    // All threads of a launch run one object, in which a literal has one address.
    what: *const c_char,
    file: *const c_char,
    line: u32,
    pub scope: Scope,
    pub mask: u32,
}

impl Wait {
    pub fn meeting(&self) -> Meeting {
        let scope = match self.scope {
            0 => Scope::Lanes,
            1 => Scope::Block,
            _ => Scope::State,
        };
        Meeting { what: self.what, file: self.file, line: self.line, scope, mask: self.mask }
    }

    /// Whether what it waits for in memory is there.
    pub fn is_ready(&mut self) -> bool {
        self.ready.is_some_and(|ready| ready(self) != 0)
    }

    /// Does the work of the operation for all of `lanes`.
    pub fn perform(&self, lanes: &mut [*mut Wait]) {
        (self.perform)(lanes.as_mut_ptr(), lanes.len() as u32);
    }
}

impl Meeting {
    /// `__syncthreads at layer_norm.cu:40`.
    pub fn describe(&self) -> String {
        // SAFETY: literals of the C++ compiler.
        unsafe { format!("{} {}", text(self.what), place(self.file, self.line)) }
    }
}

/// Why a fiber came back before its kernel returned.
pub(super) enum Yield {
    Wait(*mut Wait),
    Fail(String),
}

#[repr(C)]
pub(super) struct Hooks {
    wait: extern "C" fn(*mut Thread, *mut Wait),
    fail: extern "C" fn(*mut Thread, *const c_char, *const c_char, u32),
}

pub(super) const HOOKS: Hooks = Hooks { wait, fail };

extern "C" fn wait(thread: *mut Thread, wait: *mut Wait) {
    // SAFETY: the running fiber's own thread, whose yielder was set when the fiber began.
    unsafe { (*(*thread).yielder).suspend(Yield::Wait(wait)) }
}

extern "C" fn fail(thread: *mut Thread, message: *const c_char, file: *const c_char, line: u32) {
    // SAFETY: literals of the C++ compiler; the thread as in `wait`, and it is never resumed.
    unsafe {
        let message = format!("{} {}", text(message), place(file, line));
        (*(*thread).yielder).suspend(Yield::Fail(message));
    }
}

/// # Safety
/// `from` must be a C string that lives on.
unsafe fn text(from: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

/// # Safety
/// As [`text`].
unsafe fn place(file: *const c_char, line: u32) -> String {
    // SAFETY: the caller's promise.
    let file = unsafe { text(file) };
    format!("at {}:{line}", file.rsplit('/').next().unwrap_or(&file))
}
