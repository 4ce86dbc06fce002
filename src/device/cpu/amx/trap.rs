//! Tiles for tests on machines without: an instruction that the processor refuses is done here, as the manual has it
//! (Intel SDM, volume 2), so that the instructions themselves run in tests, their registers and addresses with them.

use std::cell::RefCell;
use std::ffi::c_int;
use std::sync::OnceLock;

const SIDE: usize = 16;
const WORDS: usize = SIDE * SIDE;
type Tile = [u32; WORDS];

/// The configuration of eight tiles of 16 rows of 64 bytes: the palette, bytes of a row of each, and rows of each.
const WHOLE: [u8; 64] = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = 16;
        tile += 1;
    }
    bytes
};

thread_local! {
    /// The registers of a thread, between their configuration and their release.
    static TILES: RefCell<Option<[Tile; 8]>> = const { RefCell::new(None) };
}

/// Makes refused instructions of tiles do their work from now on; false where the vectors around them are not there
/// either. To be called where the processor has no tiles.
pub fn set() -> bool {
    static SET: OnceLock<bool> = OnceLock::new();
    *SET.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let rest = is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl");
        if !(vectors && rest) {
            return false;
        }
        // SAFETY: the action is complete, and its handler of the kind that the flag says.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = refused as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
        }
    })
}

/// Does the instruction and goes on behind it; any other ends the process when it is tried again.
extern "C" fn refused(signal: c_int, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel hands over the context of this thread, whose next instruction can be read; what it addresses
    // is the tested code's to answer for.
    unsafe {
        let registers = &mut (*context).uc_mcontext.gregs;
        let start = registers[libc::REG_RIP as usize] as usize;
        match Instruction::at(start as *const u8, registers) {
            Some(instruction) if instruction.run() => {
                registers[libc::REG_RIP as usize] = (start + instruction.length) as i64;
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// An instruction with a prefix of three bytes from the map that those of tiles are in.
struct Instruction {
    opcode: u8,
    /// Which of the instructions that share the opcode.
    prefix: u8,
    /// Registers: the destination, the second factor, and, unless there is an address, the first one.
    destination: u8,
    second: u8,
    first: Option<u8>,
    base: usize,
    index: usize,
    length: usize,
}

impl Instruction {
    /// # Safety
    /// An instruction must begin there.
    unsafe fn at(start: *const u8, registers: &[i64]) -> Option<Self> {
        // SAFETY: the caller's contract; no instruction with this prefix is shorter than what is read before its length
        // is known.
        let byte = |at: usize| unsafe { start.add(at).read() };
        let (high, low) = (byte(1), byte(2));
        if byte(0) != 0xc4 || high & 0x1f != 2 || low & 0x84 != 0 {
            return None;
        }
        let (mode, middle, lower) = (byte(4) >> 6, byte(4) >> 3 & 7, byte(4) & 7);
        let mut instruction = Instruction {
            opcode: byte(3),
            prefix: low & 3,
            destination: middle,
            second: !(low >> 3) & 7,
            first: (mode == 3).then_some(lower),
            base: 0,
            index: 0,
            length: 5,
        };
        if mode == 3 {
            return Some(instruction);
        }
        // The prefix has the uppermost bits of registers inverted.
        let number = |lower: u8, bit: u8| usize::from(lower | if high & bit == 0 { 8 } else { 0 });
        let mut base = number(lower, 0x20);
        if lower == 4 {
            let scaled = byte(5);
            instruction.length = 6;
            base = number(scaled & 7, 0x20);
            let index = number(scaled >> 3 & 7, 0x40);
            // This number stands for none.
            if index != 4 {
                instruction.index = general(registers, index) << (scaled >> 6);
            }
        }
        let displacement = match mode {
            // Without a base, which compilers do not ask for here.
            0 if base & 7 == 5 => return None,
            0 => 0,
            1 => {
                instruction.length += 1;
                byte(instruction.length - 1) as i8 as isize
            }
            _ => {
                instruction.length += 4;
                let bytes = [4, 3, 2, 1].map(|back| byte(instruction.length - back));
                i32::from_le_bytes(bytes) as isize
            }
        };
        instruction.base = general(registers, base).wrapping_add_signed(displacement);
        Some(instruction)
    }

    /// Whether it is one of tiles, which is done then.
    ///
    /// # Safety
    /// What it addresses must exist.
    unsafe fn run(&self) -> bool {
        let destination = usize::from(self.destination);
        TILES.with_borrow_mut(|configured| {
            // LDTILECFG.
            if (self.opcode, self.prefix, self.first, destination) == (0x49, 0, None, 0) {
                // SAFETY: the caller's contract.
                let configuration = unsafe { (self.base as *const [u8; 64]).read_unaligned() };
                *configured = Some([[0; WORDS]; 8]);
                return configuration == WHOLE;
            }
            let Some(tiles) = configured else {
                return false;
            };
            match (self.opcode, self.prefix, self.first) {
                // TILERELEASE.
                (0x49, 0, Some(0)) if destination == 0 => *configured = None,
                // TILEZERO.
                (0x49, 3, Some(0)) => tiles[destination] = [0; WORDS],
                // TILELOADD, TILELOADDT1 and TILESTORED.
                (0x4b, 1..=3, None) => {
                    for (row, words) in tiles[destination].chunks_exact_mut(SIDE).enumerate() {
                        let line = self.base.wrapping_add(row * self.index) as *mut u32;
                        // SAFETY: the caller's contract.
                        unsafe {
                            match self.prefix {
                                2 => line.copy_from_nonoverlapping(words.as_ptr(), SIDE),
                                _ => words.as_mut_ptr().copy_from_nonoverlapping(line, SIDE),
                            }
                        }
                    }
                }
                // TDPBF16PS and TDPBSSD, whose registers differ.
                (0x5c, 2, Some(first)) | (0x5e, 3, Some(first)) => {
                    let [a, b] = [first, self.second].map(usize::from);
                    if a == b || a == destination || b == destination {
                        return false;
                    }
                    let (a, b) = (tiles[a], tiles[b]);
                    // SAFETY: the handler is set only where vectors are.
                    unsafe {
                        match self.opcode {
                            0x5c => add_pairs(&mut tiles[destination], &a, &b),
                            _ => add_bytes(&mut tiles[destination], &a, &b),
                        }
                    }
                }
                _ => return false,
            }
            true
        })
    }
}

/// A general register by the number that instructions have for it.
fn general(registers: &[i64], number: usize) -> usize {
    use libc::*;
    let first = [REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI];
    let rest = [REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15];
    registers[[first, rest].as_flattened()[number] as usize] as usize
}

/// Adds products of pairs of bf16: sums of the even and of the odd ones apart, each step rounded once; numbers below the
/// smallest normal one count as zeros.
///
/// # Safety
/// The instructions must be here.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn add_pairs(c: &mut Tile, a: &Tile, b: &Tile) {
    let value = |bits: u32| normal(f32::from_bits(bits & 0xffff_0000));
    for m in 0..SIDE {
        let mut sums = [[0f32; SIDE]; 2];
        for k in 0..SIDE {
            let pair = a[m * SIDE + k];
            for n in 0..SIDE {
                let other = b[k * SIDE + n];
                sums[0][n] = normal(value(pair << 16).mul_add(value(other << 16), sums[0][n]));
                sums[1][n] = normal(value(pair).mul_add(value(other), sums[1][n]));
            }
        }
        for n in 0..SIDE {
            let sum = normal(sums[0][n] + sums[1][n]);
            let c = &mut c[m * SIDE + n];
            *c = normal(normal(f32::from_bits(*c)) + sum).to_bits();
        }
    }
}

#[inline(always)]
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// Adds products of bytes with a sign, four in a word.
///
/// # Safety
/// The instructions must be here.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn add_bytes(c: &mut Tile, a: &Tile, b: &Tile) {
    let byte = |word: u32, at: u32| i32::from((word >> (8 * at)) as i8);
    for m in 0..SIDE {
        for k in 0..SIDE {
            let four = a[m * SIDE + k];
            for n in 0..SIDE {
                let other = b[k * SIDE + n];
                let sum = (0..4).map(|at| byte(four, at) * byte(other, at)).sum::<i32>();
                let c = &mut c[m * SIDE + n];
                *c = c.wrapping_add(sum as u32);
            }
        }
    }
}
