//! The `wattention` command.

fn main() -> std::process::ExitCode {
    wattention::cli::main()
}
