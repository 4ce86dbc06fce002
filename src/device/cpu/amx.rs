//! Tiles of a processor with AMX: whether this process may use them.

#[cfg(all(test, target_os = "linux"))]
pub mod trap;

use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Why an instruction set cannot be used whose bit in the processor's list is not set.
pub const HIDDEN: &str = "the processor does not have it, or the hypervisor hides it";

/// Bits of CPUID leaf 7, register EDX: tiles, and their products of bf16 and of bytes.
const TILES: u32 = 1 << 24;
pub const BF16: u32 = 1 << 22;
pub const BYTES: u32 = 1 << 25;
/// Bits of the register that says what the kernel saves for a process: the configuration of tiles, and their contents.
const SAVED: u64 = 0b11 << 17;

/// Asks the kernel for the tiles, once for the whole process; why it may not use them, or not with these products.
pub fn permission(products: u32) -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(ask).clone()?;
    if leaf() & products == products { Ok(()) } else { Err(HIDDEN.into()) }
}

fn leaf() -> u32 {
    // SAFETY: every x86-64 processor has CPUID. Newer compilers know that.
    #[allow(unused_unsafe)]
    unsafe {
        __cpuid_count(7, 0).edx
    }
}

fn ask() -> Result<(), String> {
    if leaf() & TILES != TILES {
        return Err(HIDDEN.into());
    }
    // SAFETY: a processor with tiles has XGETBV.
    if unsafe { xgetbv() } & SAVED != SAVED {
        return Err("the kernel does not save its tiles".into());
    }
    request()
}

/// # Safety
/// The processor must have XGETBV.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: the caller's contract.
    unsafe { _xgetbv(0) }
}

#[cfg(target_os = "linux")]
fn request() -> Result<(), String> {
    /// `ARCH_REQ_XCOMP_PERM` of `arch_prctl`, and the number of the state that holds the tiles.
    const REQUEST: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the request passes two numbers and no address.
    match unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) } {
        0 => Ok(()),
        _ => Err(format!("the kernel refuses it to this process ({})", std::io::Error::last_os_error())),
    }
}

#[cfg(not(target_os = "linux"))]
fn request() -> Result<(), String> {
    Err("only Linux is asked for it".into())
}
