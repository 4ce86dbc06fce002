//! What the machine is, as far as it says.

/// The processor's name, or else its kind.
pub fn processor() -> String {
    let name = |text: String| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let file = std::fs::read_to_string("/proc/cpuinfo").ok();
    file.and_then(name).unwrap_or_else(|| std::env::consts::ARCH.to_string())
}
