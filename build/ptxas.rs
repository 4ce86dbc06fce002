//! What `ptxas -v` says about the kernels that it compiled.

/// What one entry takes on one architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub entry: String,
    /// As in `sm_90a`.
    pub arch: String,
    /// 32-bit registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of local memory of a thread, and of them what registers were written to and read from.
    pub stack: u32,
    pub spill_stores: u32,
    pub spill_loads: u32,
}

/// Every entry in the order of the log. Functions that were not inlined count with the entry before them.
pub fn parse(log: &str) -> Vec<Usage> {
    let mut found: Vec<Usage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let mut names = rest.split('\'').step_by(2);
            let (entry, arch) = (names.next().unwrap_or(""), names.next().unwrap_or(""));
            found.push(Usage { entry: entry.into(), arch: arch.into(), ..Usage::default() });
        } else if let Some(usage) = found.last_mut() {
            usage.registers = usage.registers.max(before(line, " registers"));
            usage.shared = usage.shared.max(before(line, " bytes smem"));
            usage.stack = usage.stack.max(before(line, " bytes stack frame"));
            usage.spill_stores += before(line, " bytes spill stores");
            usage.spill_loads += before(line, " bytes spill loads");
        }
    }
    found
}

/// The number that stands before `what`, 0 without one.
fn before(line: &str, what: &str) -> u32 {
    let number = || line.split_once(what)?.0.rsplit(' ').next()?.parse().ok();
    number().unwrap_or(0)
}
