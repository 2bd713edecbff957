//! Makes the test corpora from the published float32 model:
//!
//! * `corpus bf16 MODEL OUTPUT`: all tensors, rounded to BF16, as one file.
//! * `corpus demo MODEL DIRECTORY`: the weights that ship with the command, as two shards with an
//!   index.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a tool for developers")]

use std::path::Path;
use std::process::ExitCode;

use df11_tests::corpus;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["bf16", model, output] => {
            corpus::write(Path::new(output), &corpus::rounded(corpus::read(Path::new(model))));
        }
        ["demo", model, directory] => {
            let tensors = corpus::demonstration(&corpus::rounded(corpus::read(Path::new(model))));
            corpus::write_shards(Path::new(directory), &tensors, 2);
        }
        _ => {
            eprintln!("usage: corpus bf16 MODEL OUTPUT | corpus demo MODEL DIRECTORY");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
