//! The instruction sets beyond the baseline: which this processor has, which of them are used, and why not the others.

#[cfg(target_arch = "x86_64")]
use super::amx;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// The environment variable that takes instruction sets away.
pub const VARIABLE: &str = "WATTENTION_CPU_FEATURES";

/// One instruction set; each needs those that `needs` leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Vectors of 8 floats, multiplied and added in one instruction (AVX2 and FMA).
    Avx2,
    /// Vectors of 16 floats (AVX-512 F, BW, DQ and VL).
    Avx512,
    /// Products of pairs of bf16.
    Avx512Bf16,
    /// Products of bytes, four in each lane.
    Avx512Vnni,
    /// Products of tiles of bf16.
    Amx,
    /// Products of tiles of bytes.
    AmxInt8,
    /// Products of f32 as six of bf16, on tiles.
    Bf16x6,
    /// Tiles and their products in plain Rust, in the place of the processor's.
    AmxTwin,
}

impl Feature {
    pub const ALL: [Feature; 8] = [
        Feature::Avx2,
        Feature::Avx512,
        Feature::Avx512Bf16,
        Feature::Avx512Vnni,
        Feature::Amx,
        Feature::AmxInt8,
        Feature::Bf16x6,
        Feature::AmxTwin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Feature::Avx2 => "avx2",
            Feature::Avx512 => "avx512",
            Feature::Avx512Bf16 => "avx512-bf16",
            Feature::Avx512Vnni => "avx512-vnni",
            Feature::Amx => "amx",
            Feature::AmxInt8 => "amx-int8",
            Feature::Bf16x6 => "bf16x6",
            Feature::AmxTwin => "amx-twin",
        }
    }

    fn needs(self) -> Option<Feature> {
        match self {
            Feature::Avx2 | Feature::AmxTwin => None,
            Feature::Avx512 => Some(Feature::Avx2),
            Feature::Avx512Bf16 | Feature::Avx512Vnni | Feature::Amx => Some(Feature::Avx512),
            Feature::AmxInt8 | Feature::Bf16x6 => Some(Feature::Amx),
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What became of an instruction set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Used,
    /// Why it is not used.
    Unused(String),
}

/// Sets that are left out unless they are asked for, and why.
fn slower(feature: Feature) -> Option<&'static str> {
    match feature {
        // On Emerald Rapids two cycles for 32 products, which as multiply-adds of floats take one.
        Feature::Avx512Bf16 if is_intel() => Some(
            "on Intel's processors half as fast as multiply-adds of widened values; +avx512-bf16 uses it",
        ),
        // Its panels take three times the bytes of bf16, and it waits for memory as soon as others use that, too.
        Feature::Bf16x6 => Some("an option for fp32, faster only while memory keeps up; +bf16x6 uses it"),
        Feature::AmxTwin => Some("tiles in plain Rust, to test what is computed on them; +amx-twin uses it"),
        _ => None,
    }
}

/// What the processor and the kernel say of each, asked once.
static DETECTED: OnceLock<[std::result::Result<(), String>; Feature::ALL.len()]> = OnceLock::new();

/// The bits of the features that are used, beside [`CHOSEN`]; zero before anyone asks.
static USED: AtomicU16 = AtomicU16::new(0);
/// The same with those that are left out as slower.
static ALLOWED: AtomicU16 = AtomicU16::new(0);
const CHOSEN: u16 = 1 << 15;

/// Every instruction set with what became of it.
pub fn states() -> [(Feature, State); Feature::ALL.len()] {
    let used = used();
    let detected = DETECTED.get_or_init(|| Feature::ALL.map(detect));
    std::array::from_fn(|at| {
        let feature = Feature::ALL[at];
        let unused = |why: &str| State::Unused(why.into());
        let state = match (&detected[at], feature.needs()) {
            _ if used & feature.bit() != 0 => State::Used,
            (Err(why), _) => unused(why),
            (Ok(()), Some(needed)) if used & needed.bit() == 0 => unused(&format!("it needs {needed}")),
            (Ok(()), _) => unused(slower(feature).unwrap_or("taken away")),
        };
        (feature, state)
    })
}

/// Whether the instructions are here and used.
#[inline]
pub fn has(feature: Feature) -> bool {
    used() & feature.bit() != 0
}

/// Whether the instructions are here and were not taken away, though they may be slower for most work.
pub fn allows(feature: Feature) -> bool {
    let used = used();
    match used & feature.bit() {
        #[cfg(test)]
        0 if FORCED.get().is_some() => false,
        0 => ALLOWED.load(Ordering::Relaxed) & feature.bit() != 0,
        _ => true,
    }
}

#[inline]
fn used() -> u16 {
    #[cfg(test)]
    if let Some(used) = FORCED.get() {
        return used;
    }
    match USED.load(Ordering::Relaxed) {
        // Whoever opens a device has heard of a wrong text, which takes nothing away.
        0 => keep(environment().unwrap_or_default()),
        used => used,
    }
}

/// Uses what is here, but for what the wishes or the clock speak against, and what needs these.
fn keep(wishes: Wishes) -> u16 {
    let slower = Feature::ALL.into_iter().filter(|&feature| slower(feature).is_some());
    let slower = slower.map(Feature::bit).sum::<u16>() & !wishes.added;
    let used = without(wishes.removed | slower);
    ALLOWED.store(without(wishes.removed | slower & Feature::AmxTwin.bit()), Ordering::Relaxed);
    USED.store(used, Ordering::Relaxed);
    used
}

fn without(removed: u16) -> u16 {
    let detected = DETECTED.get_or_init(|| Feature::ALL.map(detect));
    let kept = |feature: Feature| removed & feature.bit() == 0;
    // The twin needs nothing, and with it neither do tiles.
    let twin = cfg!(target_arch = "x86_64") && kept(Feature::AmxTwin);
    Feature::ALL.into_iter().zip(detected).fold(CHOSEN, |used, (feature, here)| {
        let here = here.is_ok() || twin && feature >= Feature::Amx;
        let needs = feature.needs().filter(|_| !twin || feature != Feature::Amx);
        let kept = here && kept(feature) && needs.is_none_or(|needed| used & needed.bit() != 0);
        used | if kept { feature.bit() } else { 0 }
    })
}

/// Uses what is best of what the processor has but for what `text`, or else the environment, takes away or adds: names,
/// each behind a sign; an error where it says anything else. To be called before anything is computed. Returns what is
/// not used though it was to be added, and why.
pub fn choose(text: Option<&str>) -> Result<Vec<(Feature, String)>> {
    let wishes = text.map_or_else(environment, |text| parse("--cpu-features", text))?;
    keep(wishes);
    let in_vain = |(feature, state): (Feature, State)| match state {
        State::Unused(why) if wishes.added & feature.bit() != 0 => Some((feature, why)),
        _ => None,
    };
    Ok(states().into_iter().filter_map(in_vain).collect())
}

/// An error where the environment takes away what is no instruction set.
pub fn check_environment() -> Result<()> {
    environment().map(drop)
}

/// The bits of what is taken away, and of what is added though it is slower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wishes {
    removed: u16,
    added: u16,
}

fn environment() -> Result<Wishes> {
    std::env::var(VARIABLE).map_or(Ok(Wishes::default()), |text| parse(VARIABLE, &text))
}

fn parse(source: &str, text: &str) -> Result<Wishes> {
    let mut wishes = Wishes::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let name = word.trim_start_matches(['-', '+']);
        let sign = word.strip_suffix(name).unwrap_or_default();
        let bit = Feature::ALL.into_iter().find(|feature| feature.name() == name).map(Feature::bit);
        match (sign, bit) {
            ("-", Some(bit)) => wishes.removed |= bit,
            ("+", Some(bit)) => wishes.added |= bit,
            _ => {
                let names = Feature::ALL.map(Feature::name).join(", ");
                return Err(Error::usage(format!(
                    "{source}: '{word}' is no instruction set behind a minus sign, which takes it away, or a plus sign, \
                     which uses it though it is slower; there are {names}"
                )));
            }
        }
    }
    Ok(wishes)
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    use std::arch::x86_64::__cpuid;
    // SAFETY: every x86-64 processor has CPUID. Newer compilers know that.
    #[allow(unused_unsafe)]
    let leaf = unsafe { __cpuid(0) };
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn detect(feature: Feature) -> std::result::Result<(), String> {
    let here = match feature {
        Feature::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Feature::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        Feature::Avx512Bf16 => is_x86_feature_detected!("avx512bf16"),
        Feature::Avx512Vnni => is_x86_feature_detected!("avx512vnni"),
        Feature::Amx | Feature::Bf16x6 => return amx::permission(amx::BF16),
        Feature::AmxInt8 => return amx::permission(amx::BYTES),
        Feature::AmxTwin => true,
    };
    if here { Ok(()) } else { Err(amx::HIDDEN.into()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect(_: Feature) -> std::result::Result<(), String> {
    Err("an instruction set of x86-64".into())
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<u16>> = const { std::cell::Cell::new(None) };
}

/// What this machine has, and tiles whose instructions are done for it where it has none, for tests.
#[cfg(test)]
fn all() -> u16 {
    let all = without(Feature::AmxTwin.bit());
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if all & Feature::Amx.bit() == 0 && amx::trap::set() {
        return all | Feature::Amx.bit() | Feature::AmxInt8.bit() | Feature::Bf16x6.bit();
    }
    all
}

/// Runs a test with nothing beyond the baseline, then with one instruction set more each time, as far as this machine
/// has them or they are done for it, and with all of them and the tiles' twin; work given to other threads keeps what the
/// machine has.
#[cfg(test)]
pub fn with_ever_more(test: impl Fn()) {
    let all = all();
    let mut forced = CHOSEN;
    for feature in [None].into_iter().chain(Feature::ALL.map(Some)) {
        let bit = feature.map_or(0, Feature::bit);
        if all & bit == bit {
            forced |= bit;
            FORCED.set(Some(forced));
            test();
        }
    }
    FORCED.set(Some(without(0)));
    test();
    FORCED.set(None);
}

/// Runs a test with all but the tiles' twin.
#[cfg(test)]
pub fn with_all<R>(test: impl FnOnce() -> R) -> R {
    FORCED.set(Some(all()));
    let result = test();
    FORCED.set(None);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_takes_what_needs_it_along() {
        assert_eq!(without(u16::MAX), CHOSEN);
        let twin = Feature::AmxTwin.bit();
        assert_eq!(without(Feature::Avx2.bit() | twin), CHOSEN);
        let kept = without(Feature::Avx512.bit() | twin);
        assert_eq!(kept & !CHOSEN & !Feature::Avx2.bit(), 0);
        FORCED.set(Some(kept));
        let states = states();
        FORCED.set(None);
        for (feature, state) in states {
            match state {
                State::Used => assert_eq!(feature, Feature::Avx2),
                State::Unused(why) => assert!(!why.is_empty()),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_twin_of_tiles_needs_nothing() {
        let all = [Feature::Amx, Feature::AmxInt8, Feature::Bf16x6, Feature::AmxTwin];
        let bits = |features: &[Feature]| features.iter().map(|feature| feature.bit()).sum::<u16>();
        assert_eq!(without(Feature::Avx2.bit()), CHOSEN | bits(&all));
        let without_bytes = Feature::Avx2.bit() | Feature::AmxInt8.bit();
        assert_eq!(without(without_bytes), CHOSEN | bits(&[Feature::Amx, Feature::Bf16x6, Feature::AmxTwin]));
        assert_eq!(without(Feature::Avx2.bit() | Feature::Amx.bit()), CHOSEN | Feature::AmxTwin.bit());
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn tests_run_the_instructions_of_tiles_wherever_there_are_the_vectors_around_them() {
        assert_eq!(all() & Feature::Avx512.bit() != 0, all() & Feature::Amx.bit() != 0);
    }

    #[test]
    fn names_stand_behind_a_sign() {
        assert_eq!(parse("x", "").unwrap(), Wishes::default());
        let wishes =
            Wishes { removed: Feature::Amx.bit() | Feature::Avx2.bit(), added: Feature::Avx512Bf16.bit() };
        assert_eq!(parse("x", "-amx, -avx2,+avx512-bf16").unwrap(), wishes);
        for wrong in ["amx", "-sse", "--amx", "-+amx", "-", "-avx512,none"] {
            let said = parse("--cpu-features", wrong).unwrap_err().to_string();
            for feature in Feature::ALL {
                assert!(said.contains(feature.name()), "{said}");
            }
        }
    }
}
