//! The GPU architectures to compile for.

use std::fmt;

/// Ampere and Hopper; newer ones run PTX, which the driver compiles.
pub const DEFAULT: &str = "80,90a";

/// bf16 tensor cores and asynchronous copies came with 80.
const LOWEST: u32 = 80;

/// `90a`: code for compute capability 9.0, with features that later ones lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    pub number: u32,
    pub suffix: Option<char>,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        self.suffix.map_or(Ok(()), |suffix| write!(f, "{suffix}"))
    }
}

/// Architectures from a list such as `80,86,90a`, the lowest first.
pub fn parse(list: &str) -> Result<Vec<Arch>, String> {
    let mut archs = list.split(',').map(|name| arch(name.trim())).collect::<Result<Vec<_>, _>>()?;
    archs.sort_by_key(|arch| (arch.number, arch.suffix));
    match archs.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{} stands twice", pair[0])),
        None => Ok(archs),
    }
}

fn arch(name: &str) -> Result<Arch, String> {
    let wrong = || format!("'{name}' is no architecture; write them as in {DEFAULT}");
    let digits = name.trim_end_matches(['a', 'f']);
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    let suffix = match &name[digits.len()..] {
        "" => None,
        "a" => Some('a'),
        "f" => Some('f'),
        _ => return Err(wrong()),
    };
    match number >= LOWEST {
        true => Ok(Arch { number, suffix }),
        false => Err(format!("'{name}' is too low: the kernels need {LOWEST} or higher")),
    }
}

/// The architecture whose PTX is kept for all GPUs above it; what has a suffix runs on its own kind only.
pub fn portable(archs: &[Arch]) -> Option<Arch> {
    archs.first().copied().filter(|lowest| lowest.suffix.is_none())
}

/// What tells nvcc to compile for `archs` what is the same on all of them: once as PTX, which takes most of the time.
pub fn shared_flags(archs: &[Arch]) -> Vec<String> {
    let Some(lowest) = portable(archs) else { return flags(archs) };
    let codes: Vec<String> = archs.iter().map(|arch| format!("sm_{arch}")).collect();
    vec![format!("-gencode=arch=compute_{lowest},code=[{},compute_{lowest}]", codes.join(","))]
}

/// What tells nvcc to compile for each of `archs` with all that it has.
pub fn flags(archs: &[Arch]) -> Vec<String> {
    let flag = |arch: &Arch| match portable(archs) == Some(*arch) {
        true => format!("-gencode=arch=compute_{arch},code=[sm_{arch},compute_{arch}]"),
        false => format!("-gencode=arch=compute_{arch},code=sm_{arch}"),
    };
    archs.iter().map(flag).collect()
}
