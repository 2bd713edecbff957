//! The command `df11`. It compresses checkpoints in the published DF11 layout or as frames,
//! verifies them, inspects them and restores them. Other programs call [`run`] to act as this
//! command.
//!
//! Exit codes: 0 success, 1 invalid data, 2 invalid usage, 3 input or output failed.

mod command;
mod output;
mod progress;
mod render;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};
use df11_model::Error;

use crate::command::{
    bench::Bench, compress::Compress, decompress::Decompress, demo, gpu, inspect::Inspect, judge::Judge,
    lint::Lint, plan::Finish, plan::Plan, plan::Run, transcode::Transcode, verify::Verify,
};
use crate::output::{Output, Verdict};
use crate::progress::Bars;

const AFTER_HELP: &str = "Exit codes: 0 success, 1 invalid data, 2 invalid usage, 3 input or output failed.";

/// Lossless compression of BF16 model weights, by about 30 %, in the published DF11 layout.
#[derive(Parser)]
#[command(name = "df11", version, about, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    /// The number of threads; 0 means one for each processor.
    #[arg(long, global = true, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Print only errors (and the JSON document, with --json).
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Compress a checkpoint: a safetensors file, or a directory with config.json and one or more
    /// of them.
    Compress(Compress),
    /// Cut a compression into tasks that any number of machines can do, without reading weights.
    Plan(Plan),
    /// Do one task of a plan, on any machine, at any time, as often as it may happen.
    Run(Run),
    /// Make the output of a plan visible, if all its tasks are done.
    Finish(Finish),
    /// Restore a compressed checkpoint to the original files, byte for byte.
    Decompress(Decompress),
    /// Check every rule of the layout, decode every weight, compare digests.
    Verify(Verify),
    /// List the content of a compressed checkpoint, or what compression would make of a plain one.
    Inspect(Inspect),
    /// Compress, verify, restore and compare the weights that ship with this program.
    Demo,
    /// Measure how fast this machine encodes, decodes and verifies, beside copying the two planes
    /// of the weights.
    ///
    /// GB/s are 1e9 bytes of BF16 weights per second: the median of all rounds, with the lowest and
    /// the highest. "Of roofline" is the share of the speed that the same threads reach with the
    /// same instruction set without any code, by merging two plain planes (decode, verify) or
    /// splitting into them (encode). The memory copy is no reference: on shared machines it swings
    /// between 5 and 13 GB/s.
    Bench(Bench),
    /// Report every rule of the specification that a compressed file breaks, by clause. Fails only
    /// for what readers must refuse.
    Lint(Lint),
    /// Convert one tensor from one form to another: a DF11 unit, a frame, an archive of dietgpu,
    /// plain elements. The first bytes of the input tell its form. Files that end in .safetensors,
    /// and directories, hold units and frames.
    Transcode(Transcode),
    /// List the devices that can decode: the CPU, the emulator, and the CUDA devices of this
    /// machine.
    Devices,
    /// Report the work of the GPU kernels, and check that a device decodes as the CPU does.
    #[command(subcommand)]
    Gpu(gpu::Gpu),
    /// Judge another implementation of DF11 with the test vectors.
    #[command(subcommand, alias = "conformance")]
    Judge(Judge),
}

impl Command {
    fn run(self, output: &Output) -> Result<Verdict, Error> {
        match self {
            Command::Compress(command) => command.run(output),
            Command::Plan(command) => command.run(output),
            Command::Run(command) => command.run(output),
            Command::Finish(command) => command.run(output),
            Command::Decompress(command) => command.run(output),
            Command::Verify(command) => command.run(output),
            Command::Inspect(command) => command.run(output),
            Command::Demo => demo::run(output),
            Command::Bench(command) => command.run(output),
            Command::Lint(command) => command.run(output),
            Command::Transcode(command) => command.run(output),
            Command::Devices => gpu::devices(output),
            Command::Gpu(command) => command.run(output),
            Command::Judge(command) => command.run(output),
        }
    }
}

/// Runs the command with these arguments, whose first is the name of the program, and prints the
/// result. Returns the exit code.
///
/// The process ends for wrong arguments, `--help` and `--version`.
///
/// ```
/// assert_eq!(df11_cli::run(["df11", "demo", "--quiet"]), 0);
/// ```
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> u8 {
    let Cli { command, common } = Cli::parse_from(arguments);
    let Common { threads, json, quiet } = common;
    let output = Output { json, quiet, threads: threads.into(), progress: Bars::new(quiet || json) };
    let result = command.run(&output);
    output.end(result)
}
