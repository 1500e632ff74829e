//! The thin binary: arguments in, exit code out.
//!
//! Knows nothing but the door.

use std::process::ExitCode;

fn main() -> ExitCode {
    namegate::cli::run(std::env::args_os())
}
