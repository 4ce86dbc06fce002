//! f32 copies of what a call stores in bf16: widened when a CPU function asks for them, and rounded once at its end.

use super::convert::{narrow, widen};
use crate::device::call::Arg;
use half::bf16;
use std::cell::RefCell;

/// Copies kept for the next calls, and floats of the largest that is: most calls then find memory that this thread has
/// touched already, and that the caches may hold.
const SPARE: usize = 8;
const LARGEST: usize = 16 << 20;

thread_local! {
    static COPIES: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// The copies that a call's kernel has asked for.
#[derive(Default)]
pub struct Widened {
    inputs: RefCell<Vec<(Arg, Vec<f32>)>>,
    outputs: RefCell<Vec<(Arg, Vec<f32>)>>,
}

impl Widened {
    /// Address of the copy of an input; it stays until this value is dropped.
    pub fn input(&self, arg: &Arg) -> usize {
        let place = |arg: &Arg| (arg.address(), arg.len);
        let mut inputs = self.inputs.borrow_mut();
        if let Some((_, values)) = inputs.iter().find(|(other, _)| place(other) == place(arg)) {
            return values.as_ptr() as usize;
        }
        let values = widened(arg);
        let address = values.as_ptr() as usize;
        inputs.push((*arg, values));
        address
    }

    /// Address of a copy of an output, which [`Widened::round`] writes back.
    pub fn output(&self, arg: &Arg) -> usize {
        let mut values = widened(arg);
        let address = values.as_mut_ptr() as usize;
        self.outputs.borrow_mut().push((*arg, values));
        address
    }

    /// Rounds every output to where it belongs.
    pub fn round(self) {
        for (arg, wide) in self.outputs.into_inner() {
            // SAFETY: the call's arguments are valid for their lengths, and no output overlaps another argument.
            let to = unsafe { std::slice::from_raw_parts_mut(arg.address() as *mut bf16, arg.len) };
            narrow(to, &wide[..arg.len]);
            keep(wide);
        }
        self.inputs.into_inner().into_iter().for_each(|(_, wide)| keep(wide));
    }
}

/// The values of `arg`, and perhaps more behind them.
fn widened(arg: &Arg) -> Vec<f32> {
    // SAFETY: the call's arguments are valid for their lengths, and a kernel that asked for a copy has no slice of this.
    let from = unsafe { std::slice::from_raw_parts(arg.address() as *const bf16, arg.len) };
    let mut to = spare(arg.len);
    widen(&mut to[..arg.len], from);
    to
}

/// A copy that is kept and large enough, the smallest of these, or a new one.
fn spare(len: usize) -> Vec<f32> {
    COPIES.with_borrow_mut(|copies| {
        let fitting = copies.iter().enumerate().filter(|(_, copy)| copy.len() >= len);
        let smallest = fitting.min_by_key(|(_, copy)| copy.len()).map(|(place, _)| place);
        smallest.map_or_else(|| vec![0.0; len], |place| copies.swap_remove(place))
    })
}

/// Keeps a copy, in place of the smallest where there are enough.
fn keep(copy: Vec<f32>) {
    if copy.len() > LARGEST {
        return;
    }
    COPIES.with_borrow_mut(|copies| {
        copies.push(copy);
        if copies.len() > SPARE {
            let smallest =
                copies.iter().enumerate().min_by_key(|(_, copy)| copy.len()).map(|(place, _)| place);
            smallest.map(|place| copies.swap_remove(place));
        }
    });
}
