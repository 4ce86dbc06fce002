//! The report for people: one line for each thing that is here or missing.

use super::{Driver, Gpu, Instructions, Kernels, Products, Ranks, Report};
use crate::device::cuda;
use std::fmt;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { version, commit, target, profile, processor, .. } = self;
        writeln!(f, "program    wattention {version}, commit {commit}, {target}, {profile}")?;
        writeln!(f, "processor  {}, {} threads, {}", processor.name, processor.threads, processor.vectors)?;
        let Products { fp32, bf16, int8 } = &processor.products;
        writeln!(f, "products   fp32 by {fp32}, bf16 by {bf16}, int8 by {int8}")?;
        for Instructions { name, problem, .. } in &processor.instructions {
            if let Some(problem) = problem {
                writeln!(f, "           {name} is not used: {problem}")?;
            }
        }
        write_ranks(f, &self.ranks)?;
        write_driver(f, &self.cuda)?;
        for library in &self.libraries {
            let place = match (&library.path, library.loads) {
                (Some(path), _) => path.display().to_string(),
                (None, true) => "here".into(),
                (None, false) => "not found".into(),
            };
            let version = library.version.as_ref().map_or(String::new(), |version| format!("{version} "));
            writeln!(f, "library    {:<12} {version}{place}", library.name)?;
        }
        write_kernels(f, &self.kernels)?;
        writeln!(f, "simulator  {}", self.simulator.as_deref().unwrap_or("usable as --device sim"))?;
        write!(f, "sensor     {}", self.sensors.join("\nsensor     "))?;
        write_resources(f, &self.kernels)
    }
}

fn write_ranks(f: &mut fmt::Formatter<'_>, ranks: &Ranks) -> fmt::Result {
    let mpi = if ranks.mpi { "with MPI" } else { "without MPI" };
    match (&ranks.launch, &ranks.problem) {
        (Some(launch), _) if launch.world_size > 1 => {
            writeln!(f, "ranks      {launch}, started by {}; built {mpi}", launch.launcher)
        }
        (_, Some(problem)) => writeln!(f, "ranks      {problem}; built {mpi}"),
        _ => writeln!(f, "ranks      one process; built {mpi}"),
    }
}

fn write_driver(f: &mut fmt::Formatter<'_>, driver: &Driver) -> fmt::Result {
    if let Some(version) = &driver.version {
        writeln!(f, "driver     serves CUDA {version}")?;
    }
    if let Some(problem) = &driver.problem {
        writeln!(f, "driver     {problem}")?;
    }
    for Gpu { device, name, capability, memory, multiprocessors, code, problem } in &driver.gpus {
        let state = match (problem, code) {
            (Some(problem), _) => format!("not usable: {problem}"),
            (None, Some(code)) => format!("usable, runs {code}"),
            (None, None) => "usable".into(),
        };
        writeln!(
            f,
            "gpu        {device} {name}, compute capability {capability}, {memory}, {multiprocessors} \
             multiprocessors: {state}"
        )?;
    }
    Ok(())
}

fn write_kernels(f: &mut fmt::Formatter<'_>, kernels: &Kernels) -> fmt::Result {
    let Some(nvcc) = kernels.nvcc else {
        return writeln!(f, "kernels    none for GPUs: {}", kernels.problem.unwrap_or("built without nvcc"));
    };
    let (files, bytes) = (kernels.files.len(), kernels.bytes);
    writeln!(f, "kernels    {files} files, {bytes}, by nvcc {nvcc} for {}", cuda::compiled())?;
    for file in &kernels.files {
        writeln!(f, "           {:<24} {}", file.name, file.variants.join(" "))?;
    }
    Ok(())
}

fn write_resources(f: &mut fmt::Formatter<'_>, kernels: &Kernels) -> fmt::Result {
    if kernels.resources.is_empty() {
        return Ok(());
    }
    write!(
        f,
        "\n\n{:<36} {:<7} {:<7} {:>9} {:>6} {:>7}",
        "entry", "variant", "code", "registers", "stack", "spilled"
    )?;
    for usage in &kernels.resources {
        let spilled = usage.spill_stores + usage.spill_loads;
        write!(
            f,
            "\n{:<36} {:<7} {:<7} {:>9} {:>6} {spilled:>7}",
            usage.entry, usage.variant, usage.architecture, usage.registers, usage.stack
        )?;
    }
    Ok(())
}
