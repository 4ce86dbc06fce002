//! The arguments of one launch: outputs, inputs, sizes, scalars, given and asked for by name.

use super::signature::{Kind, Signature};
use super::{Block, Engine};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::units::{Bytes, Flops};

/// A tensor argument: part of a block, or nothing for an absent optional one.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    pub block: Block,
    /// Bytes into the block.
    pub offset: usize,
    /// Elements.
    pub len: usize,
    pub dtype: DType,
}

impl Arg {
    /// Stands for an absent optional tensor of any type: a null pointer, an empty slice.
    pub const ABSENT: Arg = Arg {
        block: Block { address: 0, bytes: 0, arena: false, id: u64::MAX },
        offset: 0,
        len: 0,
        dtype: DType::F32,
    };

    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    /// Where the first element is, 0 where there is none.
    pub fn address(&self) -> usize {
        match self.len {
            0 => 0,
            _ => self.block.address + self.offset,
        }
    }

    pub(super) fn overlaps(&self, other: &Arg) -> bool {
        let (a, b) = (self.offset, other.offset);
        self.block.id == other.block.id && a < b + other.bytes() && b < a + self.bytes()
    }
}

/// What a launch costs, counted by the op from its shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written once each.
    pub bytes: Bytes,
    pub flops: Flops,
    pub exponentials: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Cost) {
        self.bytes += other.bytes;
        self.flops += other.flops;
        self.exponentials += other.exponentials;
    }
}

/// The arguments of one launch, each kind in the order of the signature.
#[derive(Debug, Clone, Default)]
pub struct Call {
    signature: Signature,
    pub(super) outputs: Vec<Arg>,
    pub(super) inputs: Vec<Arg>,
    pub(super) sizes: Vec<i32>,
    pub(super) scalars: Vec<f32>,
    /// The arguments that have been given, by [`Signature::bit`].
    given: u64,
    pub cost: Cost,
    /// Which of its attention kernels the device runs.
    pub(crate) engine: Option<Engine>,
}

impl Call {
    /// A call of which nothing is given yet.
    pub fn new(signature: Signature) -> Self {
        let count = |kind| signature.of(kind).len();
        Call {
            signature,
            outputs: vec![Arg::ABSENT; count(Kind::Output)],
            inputs: vec![Arg::ABSENT; count(Kind::Input)],
            sizes: vec![0; count(Kind::Size)],
            scalars: vec![0.0; count(Kind::Scalar)],
            given: 0,
            cost: Cost::default(),
            engine: None,
        }
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Place of an argument that is now given; fails for a name that the signature lacks, and for one given before.
    fn give(&mut self, kind: Kind, name: &str) -> Result<usize> {
        let place = self.signature.place(kind, name)?;
        let bit = self.signature.bit(kind, place);
        if self.given & bit != 0 {
            let kernel = self.signature.kernel;
            return Err(Error::internal(format!("{kernel}: {kind} `{name}` is given twice")));
        }
        self.given |= bit;
        Ok(place)
    }

    pub fn give_output(&mut self, name: &str, arg: Arg) -> Result<()> {
        let place = self.give(Kind::Output, name)?;
        self.outputs[place] = arg;
        Ok(())
    }

    pub fn give_input(&mut self, name: &str, arg: Arg) -> Result<()> {
        let place = self.give(Kind::Input, name)?;
        self.inputs[place] = arg;
        Ok(())
    }

    /// Kernels take sizes as `int`.
    pub fn give_size(&mut self, name: &str, size: usize) -> Result<()> {
        let place = self.give(Kind::Size, name)?;
        self.sizes[place] = i32::try_from(size).map_err(|_| {
            Error::DoesNotFit(format!("{}: size {name} = {size} is above 2^31", self.signature.kernel))
        })?;
        Ok(())
    }

    pub fn give_scalar(&mut self, name: &str, scalar: f32) -> Result<()> {
        let place = self.give(Kind::Scalar, name)?;
        self.scalars[place] = scalar;
        Ok(())
    }

    /// Whether every argument is given and no output shares memory with another argument.
    pub(super) fn check(&self) -> Result<()> {
        let kernel = self.signature.kernel;
        if let Some((kind, name)) = self.signature.first_missing(self.given) {
            return Err(Error::internal(format!("{kernel}: {kind} `{name}` is not given")));
        }
        for (i, out) in self.outputs.iter().enumerate() {
            let others = self.outputs[..i].iter().chain(&self.inputs);
            if others.into_iter().any(|other| out.overlaps(other)) {
                let name = self.signature.of(Kind::Output)[i];
                return Err(Error::internal(format!("{kernel}: output `{name}` overlaps another argument")));
            }
        }
        Ok(())
    }

    /// A name that the signature lacks is a defect, here and below, and panics.
    pub fn output(&self, name: &str) -> &Arg {
        &self.outputs[self.signature.known(Kind::Output, name)]
    }

    pub fn input(&self, name: &str) -> &Arg {
        &self.inputs[self.signature.known(Kind::Input, name)]
    }

    pub fn size(&self, name: &str) -> usize {
        self.sizes[self.signature.known(Kind::Size, name)] as usize
    }

    pub fn sizes<const N: usize>(&self, names: [&str; N]) -> [usize; N] {
        names.map(|name| self.size(name))
    }

    pub fn scalar(&self, name: &str) -> f32 {
        self.scalars[self.signature.known(Kind::Scalar, name)]
    }

    /// Every output with its name.
    pub fn named_outputs(&self) -> impl Iterator<Item = (&'static str, &Arg)> {
        self.signature.of(Kind::Output).iter().copied().zip(&self.outputs)
    }

    /// Every tensor with its name: outputs, then inputs.
    pub(super) fn named_tensors(&self) -> impl Iterator<Item = (&'static str, &Arg)> {
        self.named_outputs().chain(self.signature.of(Kind::Input).iter().copied().zip(&self.inputs))
    }

    /// Storage type of the kernel file's `real`: bf16 where any argument is, else f32.
    pub fn real(&self) -> DType {
        match self.outputs.iter().chain(&self.inputs).any(|arg| arg.dtype == DType::BF16) {
            true => DType::BF16,
            false => DType::F32,
        }
    }

    /// The bytes of the kernel file's argument struct, in words of 8: addresses, null for absent tensors, then sizes
    /// and scalars of 4 bytes each, the first of two in the low half, as in a struct of a little-endian host.
    pub(super) fn packed(&self) -> Vec<u64> {
        let tensors = self.outputs.iter().chain(&self.inputs).map(|arg| arg.address() as u64);
        let mut words: Vec<u64> = tensors.collect();
        let sizes = self.sizes.iter().map(|&size| size as u32);
        let numbers: Vec<u32> = sizes.chain(self.scalars.iter().map(|scalar| scalar.to_bits())).collect();
        let word = |pair: &[u32]| u64::from(pair[0]) | u64::from(*pair.get(1).unwrap_or(&0)) << 32;
        words.extend(numbers.chunks(2).map(word));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: Signature = Signature { kernel: "k", names: [&["y", "z"], &["x"], &["n", "m"], &["a"]] };

    fn tensor(offset: usize, len: usize) -> Arg {
        let block = Block { address: 0x7f00_0000_0000, bytes: 64, arena: false, id: 0 };
        Arg { block, offset, len, dtype: DType::F32 }
    }

    #[test]
    fn arguments_are_packed_as_the_struct_has_them() {
        let mut call = Call::new(SIGNATURE);
        // In any order.
        call.give_scalar("a", 1.5).unwrap();
        call.give_size("m", i32::MAX as usize).unwrap();
        call.give_size("n", 5).unwrap();
        call.give_input("x", tensor(16, 2)).unwrap();
        call.give_output("z", Arg::ABSENT).unwrap();
        call.give_output("y", tensor(0, 4)).unwrap();
        call.check().unwrap();
        let words = [0x7f00_0000_0000, 0, 0x7f00_0000_0010, 0x7fff_ffff_0000_0005, 1.5f32.to_bits().into()];
        assert_eq!(call.packed(), words);
        assert_eq!((call.sizes(["m", "n"]), call.input("x").offset), ([i32::MAX as usize, 5], 16));
    }

    #[test]
    fn a_wrong_name_is_an_error_that_names_kernel_kind_and_argument() {
        let mut call = Call::new(SIGNATURE);
        let said = |outcome: Result<()>| outcome.unwrap_err().to_string();
        assert!(said(call.give_input("y", tensor(0, 1))).contains("k has no input `y`"));
        call.give_size("n", 1).unwrap();
        assert!(said(call.give_size("n", 1)).contains("k: size `n` is given twice"));
        call.give_output("y", tensor(0, 1)).unwrap();
        assert!(said(call.check()).contains("k: output `z` is not given"));
        assert!(matches!(call.give_size("m", 1 << 31), Err(Error::DoesNotFit(_))));
    }
}
