//! The `berth` binary: arguments to role to exit code.

use std::process::ExitCode;

use berth::{cli, roles};

fn main() -> ExitCode {
    cli::run(roles::run)
}
