//! The kernels in this program, as the build script compiled them.

use std::fmt;

/// The storage type of a kernel file's `real`, and how its products are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variant {
    F32,
    Bf16,
    /// Stored as f32, products rounded to tf32. Files without products are the same as F32 and have none.
    Tf32,
    /// Stored as f32, each product made of three of tf32; as Tf32 otherwise.
    Tf32x3,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Variant::F32 => "f32",
            Variant::Bf16 => "bf16",
            Variant::Tf32 => "tf32",
            Variant::Tf32x3 => "tf32x3",
        }
    }
}

/// Code for a family of GPUs: 90 with suffix `a` is sm_90a.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    pub number: u32,
    pub suffix: Option<char>,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.number)?;
        self.suffix.map_or(Ok(()), |suffix| write!(f, "{suffix}"))
    }
}

/// One kernel file in one variant, for all architectures.
pub struct Module {
    /// The kernel file's name without its ending.
    pub stem: &'static str,
    pub variant: Variant,
    pub entries: &'static [&'static str],
    /// A fat binary, which the driver takes as it is.
    pub image: &'static Image<[u8]>,
}

/// The driver reads words of 8 bytes.
#[repr(align(16))]
pub struct Image<T: ?Sized>(pub T);

/// What ptxas said about one entry on one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    pub entry: &'static str,
    /// The kernel file's name without its ending.
    pub stem: &'static str,
    pub variant: Variant,
    /// As in `sm_90a`.
    pub arch: &'static str,
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of local memory of a thread, and of them what registers were written to and read from.
    pub stack: u32,
    pub spill_stores: u32,
    pub spill_loads: u32,
}

// NVCC: the compiler's version, or none where the program was built without kernels; MISSING: why it was.
// ARCHITECTURES, PTX: what they were compiled for, and the lowest compute capability of the portable form.
// MODULES, RESOURCES: every file in every variant; every entry in every variant on every architecture.
include!(concat!(env!("OUT_DIR"), "/cuda_kernels.rs"));

/// The module with an entry, in this variant or, for those of tf32, in the form that serves all.
pub fn module_of(entry: &str, variant: Variant) -> Option<&'static Module> {
    let find = |variant| MODULES.iter().find(|m| m.variant == variant && m.entries.contains(&entry));
    match variant {
        Variant::F32 | Variant::Bf16 => find(variant),
        Variant::Tf32 | Variant::Tf32x3 => find(variant).or_else(|| find(Variant::F32)),
    }
}

/// Which code serves a GPU of this compute capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Machine code of this architecture.
    Native(Architecture),
    /// Portable code from this capability, which the driver compiles at its first use.
    Ptx(u32),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Code::Native(architecture) => architecture.fmt(f),
            Code::Ptx(number) => write!(f, "compute_{number} (compiled by the driver at first use)"),
        }
    }
}

/// The code that the driver picks for compute capability `major.minor`, if any fits.
pub fn code_for(
    (major, minor): (u32, u32),
    architectures: &[Architecture],
    ptx: Option<u32>,
) -> Option<Code> {
    let number = 10 * major + minor;
    let fits = |architecture: &&Architecture| match architecture.suffix {
        // Arch-specific code runs nowhere else.
        Some('a') => architecture.number == number,
        // Machine code runs on later minor versions of its major version.
        _ => architecture.number / 10 == major && architecture.number <= number,
    };
    let native = architectures.iter().filter(fits).max_by_key(|a| (a.number, a.suffix));
    native
        .map(|&architecture| Code::Native(architecture))
        .or_else(|| ptx.filter(|&lowest| lowest <= number).map(Code::Ptx))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(number: u32, suffix: Option<char>) -> Architecture {
        Architecture { number, suffix }
    }

    #[test]
    fn a_gpu_gets_the_nearest_code_that_runs_on_it() {
        let (ampere, hopper) = (architecture(80, None), architecture(90, Some('a')));
        let code = |capability| code_for(capability, &[ampere, hopper], Some(80));
        assert_eq!(code((8, 0)), Some(Code::Native(ampere)));
        assert_eq!(code((8, 9)), Some(Code::Native(ampere)));
        assert_eq!(code((9, 0)), Some(Code::Native(hopper)));
        assert_eq!(code((10, 0)), Some(Code::Ptx(80)));
        assert_eq!(code((7, 5)), None);
        let more = [ampere, architecture(86, None), architecture(90, None), hopper];
        assert_eq!(code_for((8, 9), &more, None), Some(Code::Native(more[1])));
        assert_eq!(code_for((9, 0), &more, None), Some(Code::Native(hopper)));
        assert_eq!(code_for((12, 0), &more, None), None);
    }

    #[test]
    fn every_entry_is_there_in_both_storage_types() {
        for module in MODULES {
            for entry in module.entries {
                for variant in [Variant::F32, Variant::Bf16, Variant::Tf32, Variant::Tf32x3] {
                    assert!(module_of(entry, variant).is_some(), "{entry} {}", variant.name());
                }
            }
        }
    }
}
