//! `hopgap-agent`: see `hopgap-agent --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hopgap_agent::cli::main()
}
