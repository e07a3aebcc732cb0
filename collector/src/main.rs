//! `hopgap-collector`: see `hopgap-collector --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hopgap_collector::cli::main()
}
