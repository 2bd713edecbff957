//! The program `df11`; its library has the details.

use std::process::ExitCode;

fn main() -> ExitCode {
    df11_cli::run(std::env::args_os()).into()
}
