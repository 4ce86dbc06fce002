//! The names of a kernel's arguments: what a launch gives and what its CPU function and its passes ask for.

use crate::error::{Error, Result};
use std::fmt;

/// The kinds of argument, in launch order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Output,
    Input,
    Size,
    Scalar,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Output, Kind::Input, Kind::Size, Kind::Scalar];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Output => "output",
            Kind::Input => "input",
            Kind::Size => "size",
            Kind::Scalar => "scalar",
        })
    }
}

/// A kernel's name and those of its arguments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signature {
    pub kernel: &'static str,
    /// By kind.
    pub names: [&'static [&'static str]; 4],
}

impl Signature {
    /// The names of one kind, in launch order.
    pub fn of(&self, kind: Kind) -> &'static [&'static str] {
        self.names[kind as usize]
    }

    /// Place of `name` among the arguments of its kind, or an error that names the kernel.
    pub fn place(&self, kind: Kind, name: &str) -> Result<usize> {
        let place = self.of(kind).iter().position(|own| *own == name);
        place.ok_or_else(|| Error::internal(format!("{} has no {kind} `{name}`", self.kernel)))
    }

    /// [`Signature::place`] where a missing name is a fault of the op's own file, which a test of its text excludes.
    pub(super) fn known(&self, kind: Kind, name: &str) -> usize {
        self.place(kind, name).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Place of the first argument of a kind among all.
    fn first(&self, kind: Kind) -> usize {
        self.names[..kind as usize].iter().map(|names| names.len()).sum()
    }

    /// The bit of argument `place` of a kind, in sets of arguments.
    pub(super) fn bit(&self, kind: Kind, place: usize) -> u64 {
        1 << (self.first(kind) + place)
    }

    /// The first argument that is not in a set.
    pub(super) fn first_missing(&self, given: u64) -> Option<(Kind, &'static str)> {
        let all = Kind::ALL.into_iter().flat_map(|kind| self.of(kind).iter().map(move |name| (kind, *name)));
        all.enumerate().find(|(place, _)| given >> place & 1 == 0).map(|(_, argument)| argument)
    }
}
