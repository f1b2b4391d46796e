//! The `highwater` command: see `highwater --help`.

mod cli;
// The library's own, for the targets here.
#[cfg(test)]
mod fuzz;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
