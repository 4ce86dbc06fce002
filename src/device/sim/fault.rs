//! Turns a fault inside a fiber (an address outside of every buffer) into the fiber's result.

use super::block::End;
use corosensei::trap::CoroutineTrapHandler;
use std::cell::Cell;
use std::sync::Once;

thread_local! {
    /// The fiber that runs on this operating-system thread.
    static RUNNING: Cell<Option<CoroutineTrapHandler<End>>> = const { Cell::new(None) };
}

/// Names the fiber that is about to run, or that none does.
pub(super) fn set_running(fiber: Option<CoroutineTrapHandler<End>>) {
    RUNNING.set(fiber);
}

/// Installs the handlers, once for the process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        linux::install();
    });
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use super::{End, RUNNING};
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    const SIGNALS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

    /// The handlers that were there before, for faults that are not a fiber's.
    struct Previous(UnsafeCell<[MaybeUninit<libc::sigaction>; 4]>);
    // SAFETY: written once in `install`, before the handlers that read it exist.
    unsafe impl Sync for Previous {}
    static PREVIOUS: Previous = Previous(UnsafeCell::new([const { MaybeUninit::uninit() }; 4]));

    pub(super) fn install() {
        for (i, signal) in SIGNALS.into_iter().enumerate() {
            // SAFETY: the handler only touches thread-local cells and the interrupted registers.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handler as *const () as usize;
                // On the alternate stack that Rust gives every thread: a fiber's may have overflowed.
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigaction(signal, &action, (*PREVIOUS.0.get())[i].as_mut_ptr());
            }
        }
    }

    extern "C" fn handler(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the system passes valid pointers; the fiber named is the one that runs.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let stack = registers[libc::REG_RSP as usize] as usize;
            if let Some(fiber) = RUNNING.get().filter(|fiber| fiber.stack_ptr_in_bounds(stack)) {
                let address = (*info).si_addr() as usize;
                let after = fiber.setup_trap_handler(move || End::Fault { signal, address });
                registers[libc::REG_RIP as usize] = after.rip as i64;
                registers[libc::REG_RSP as usize] = after.rsp as i64;
                registers[libc::REG_RBP as usize] = after.rbp as i64;
                registers[libc::REG_RDI as usize] = after.rdi as i64;
                registers[libc::REG_RSI as usize] = after.rsi as i64;
                return;
            }
            // Not ours: the handler that was there meets the fault again.
            let i = SIGNALS.iter().position(|&s| s == signal).unwrap_or(0);
            libc::sigaction(signal, (*PREVIOUS.0.get())[i].as_ptr(), std::ptr::null_mut());
        }
    }
}
