//! The `simplenet` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    simplenet::cli::main()
}
