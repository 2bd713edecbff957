//! `df11`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    df11_cli::run(std::env::args_os()).into()
}
