//! The kernels as nvcc compiled them: what each entry takes, and the build script's reading of it.

#[allow(dead_code, reason = "the build script writes what the tests only read")]
#[path = "../build/archs.rs"]
mod archs;
#[path = "../build/ptxas.rs"]
mod ptxas;

use ptxas::Usage;
use std::collections::BTreeSet;
use std::path::Path;
use wattention::device::cuda::kernels::{MODULES, NVCC, RESOURCES};

/// Whether there is anything to look at.
fn compiled() -> bool {
    if NVCC.is_none() {
        println!("skipped: no nvcc");
    }
    NVCC.is_some()
}

/// (entry, variant) of which the file says `// spills: ENTRY in VARIANT: reason`.
fn declared(stem: &str) -> BTreeSet<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(stem).with_extension("cu");
    let text = std::fs::read_to_string(path).unwrap();
    let declarations = text.lines().filter_map(|line| line.strip_prefix("// spills: "));
    let named = declarations.map(|rest| {
        let (what, reason) = rest.split_once(": ").unwrap_or((rest, ""));
        let (entry, variant) = what.split_once(" in ").unwrap_or((what, ""));
        assert!(!variant.is_empty(), "{stem}: `spills: {what}` does not say in which variant");
        assert!(!reason.trim().is_empty(), "{stem}: `spills: {what}` without a reason");
        (entry.to_string(), variant.to_string())
    });
    named.collect()
}

#[test]
fn registers_spill_only_where_the_file_says_so() {
    if !compiled() {
        return;
    }
    let (mut wrong, mut stale) = (Vec::new(), BTreeSet::new());
    let stems: BTreeSet<&str> = MODULES.iter().map(|module| module.stem).collect();
    for stem in stems {
        stale.extend(declared(stem).into_iter().map(|place| (stem, place)));
    }
    for usage in RESOURCES {
        if usage.stack + usage.spill_stores + usage.spill_loads == 0 {
            continue;
        }
        let place = (usage.entry.to_string(), usage.variant.name().to_string());
        stale.remove(&(usage.stem, place.clone()));
        if !declared(usage.stem).contains(&place) {
            wrong.push(format!(
                "{} ({}, {}): {} registers, {} bytes of stack, {} stored and {} loaded for lack of registers",
                usage.entry,
                usage.variant.name(),
                usage.arch,
                usage.registers,
                usage.stack,
                usage.spill_stores,
                usage.spill_loads
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "free registers, or say `// spills: ENTRY in VARIANT: reason`:\n{}",
        wrong.join("\n")
    );
    assert!(stale.is_empty(), "these do not spill any more: {stale:?}");
}

#[test]
fn shared_memory_is_dynamic() {
    if !compiled() {
        return;
    }
    let fixed: Vec<&str> =
        RESOURCES.iter().filter(|usage| usage.shared > 0).map(|usage| usage.entry).collect();
    assert!(fixed.is_empty(), "use SHARED_DYN: {fixed:?}");
}

#[test]
fn every_entry_was_compiled_for_every_architecture() {
    if !compiled() {
        return;
    }
    for module in MODULES {
        let of = |usage: &&_| -> bool {
            let usage: &wattention::device::cuda::kernels::Resources = usage;
            usage.stem == module.stem && usage.variant == module.variant
        };
        let archs: BTreeSet<&str> = RESOURCES.iter().filter(of).map(|usage| usage.arch).collect();
        for arch in &archs {
            let entries = RESOURCES.iter().filter(of).filter(|usage| usage.arch == *arch);
            let entries: BTreeSet<&str> = entries.map(|usage| usage.entry).collect();
            assert_eq!(entries, module.entries.iter().copied().collect(), "{} on {arch}", module.stem);
        }
        let want = wattention::device::cuda::kernels::ARCHITECTURES.len();
        assert_eq!(archs.len(), want, "{}: {archs:?}", module.stem);
    }
}

#[test]
fn reports_of_ptxas_are_read() {
    let log = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'bwd' for 'sm_80'
ptxas info    : Function properties for bwd
    40 bytes stack frame, 44 bytes spill stores, 48 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 40 bytes cumulative stack size, 128 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 6.557 ms
ptxas info    : Function properties for helper
    160 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'fwd' for 'sm_90a'
ptxas info    : Function properties for fwd
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 18 registers, used 0 barriers
";
    let bwd = Usage {
        entry: "bwd".into(),
        arch: "sm_80".into(),
        registers: 32,
        shared: 128,
        stack: 160,
        spill_stores: 44,
        spill_loads: 48,
    };
    let fwd = Usage { entry: "fwd".into(), arch: "sm_90a".into(), registers: 18, ..Usage::default() };
    assert_eq!(ptxas::parse(log), [bwd, fwd]);
}

#[test]
fn architectures_are_parsed_and_refused() {
    let flags = |list: &str| archs::parse(list).map(|archs| archs::flags(&archs));
    assert_eq!(
        flags(archs::DEFAULT).unwrap(),
        ["-gencode=arch=compute_80,code=[sm_80,compute_80]", "-gencode=arch=compute_90a,code=sm_90a"]
    );
    assert_eq!(flags("90a, 86").unwrap(), flags("86,90a").unwrap());
    assert_eq!(flags("90a").unwrap(), ["-gencode=arch=compute_90a,code=sm_90a"]);
    for (list, says) in [
        ("", "'' is no architecture"),
        ("80,", "'' is no architecture"),
        ("sm_80", "'sm_80' is no architecture"),
        ("90aa", "'90aa' is no architecture"),
        ("75", "need 80"),
        ("80,80", "80 stands twice"),
    ] {
        let refusal = flags(list).unwrap_err();
        assert!(refusal.contains(says), "{list}: {refusal}");
    }
}
