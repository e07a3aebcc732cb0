//! `cargo lab`: the failover article's network on this machine.

mod cli;

use hopgap_lab::LabError;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            // The lab's own errors say their cause themselves.
            match error.downcast_ref::<LabError>() {
                Some(error) => eprintln!("error: {error}"),
                None => eprintln!("error: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}
