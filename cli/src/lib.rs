//! The command `df11`: compress checkpoints in the published DF11 layout or as frames, verify them,
//! look into them, restore them. Other programs call [`run`] to be this command.
//!
//! Exit codes: 0 done, 1 the data is wrong, 2 used wrongly, 3 input or output failed.

mod command;
mod output;
mod progress;
mod render;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};
use df11_model::Error;

use crate::command::{
    bench::Bench, compress::Compress, decompress::Decompress, demo, gpu, inspect::Inspect, judge::Judge,
    lint::Lint, transcode::Transcode, verify::Verify,
};
use crate::output::{Output, Verdict};
use crate::progress::Bars;

const AFTER_HELP: &str = "Exit codes: 0 done, 1 the data is wrong, 2 used wrongly, 3 input or output failed.";

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
    /// Threads to use; 0 for as many as there are processors.
    #[arg(long, global = true, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    threads: u16,
    /// Print one JSON document on standard output instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors (and the JSON document, with --json).
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Compress a checkpoint: a safetensors file, or a directory with config.json and one or more
    /// of them.
    Compress(Compress),
    /// Restore a compressed checkpoint: the original files, byte for byte.
    Decompress(Decompress),
    /// Check every rule of the layout, decode every weight, compare digests.
    Verify(Verify),
    /// Show what is in a compressed checkpoint, or what compression would make of a plain one.
    Inspect(Inspect),
    /// Compress, verify, restore and compare the weights that ship with this program.
    Demo,
    /// Measure how fast this machine encodes, decodes and verifies, beside the bare work on the two
    /// planes of the weights.
    ///
    /// GB/s are 1e9 bytes of BF16 weights a second, the median of all rounds with the least and the
    /// greatest, and "of roofline" is the share of what the same threads at the same level reach
    /// without any code, by merging two plain planes (decode, verify) or splitting into them
    /// (encode). The memory copy judges nothing, since on shared machines it swings between 5 and
    /// 13 GB/s.
    Bench(Bench),
    /// Report every rule of the specification that a compressed file bends, by clause. Fails only
    /// for what readers must refuse.
    Lint(Lint),
    /// Turn one tensor from one form into another: a DF11 unit, a frame, an archive of dietgpu,
    /// plain elements. The form of the input is seen from its first bytes; files that end in
    /// .safetensors, and directories, hold units and frames.
    Transcode(Transcode),
    /// List where can be decoded: the processor, the emulator, and the CUDA devices of this
    /// machine.
    Devices,
    /// What the GPU kernels do, and whether a device decodes as the CPU does.
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

/// Does what the arguments say, the name of the program first, and prints what came of it. Returns
/// the exit code.
///
/// Wrong arguments, `--help` and `--version` end the process.
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
