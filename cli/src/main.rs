//! `df11`: compress BF16 checkpoints in the published DF11 layout, verify them, look into them, restore them.
//!
//! Exit codes: 0 done, 1 the data is wrong, 2 used wrongly, 3 input or output failed.

mod bars;
mod bench;
mod demo;
#[cfg(all(target_os = "linux", feature = "gpu"))]
mod devices;
mod gpu;
mod judge;
mod print;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use df11::frame::ElementType;
#[cfg(all(target_os = "linux", feature = "gpu"))]
use df11_gpu::Target;
use df11_model::{
    Codec, CompressOptions, DecompressOptions, DecompressReport, Error, ErrorKind, Form, PatternDict,
    Purpose, TranscodeOptions, compress, decompress, inspect, transcode, verify,
};
use serde::Serialize;
use serde_json::json;

use crate::bars::Bars;

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
    /// Compress a checkpoint: a safetensors file, or a directory with config.json and one or more of them.
    Compress {
        /// The file or directory.
        input: PathBuf,
        /// The directory to write (with --single-file, also a name ending in .safetensors).
        #[arg(long, short)]
        output: PathBuf,
        /// A JSON file that maps module patterns to lists of sub-modules, as in dfloat11_config.pattern_dict.
        #[arg(long, value_name = "FILE")]
        pattern_dict: Option<PathBuf>,
        /// Write one file for the whole model instead of one for each unit.
        #[arg(long)]
        single_file: bool,
        /// What weights become: units in the published DF11 layout, frames coded by rANS (smaller, any element type, but only
        /// this program reads them) or by dictionaries (a little larger than rANS, the fastest to decode), or whichever of DF11
        /// and rANS is smaller. By default df11, or auto for a model of which df11 would save nothing.
        #[arg(long, value_name = "CODEC")]
        codec: Option<CodecName>,
        /// What the output is to be good for; chooses the codec unless --codec does, and how long the chunks of frames are: the
        /// fewest bytes; the fastest decoding on processors; the fastest decoding on GPUs; published loaders.
        #[arg(long = "for", value_name = "PURPOSE")]
        purpose: Option<PurposeName>,
        /// Cut frames, and what belongs to no unit, into files of at most this many bytes of the original, such as 5GB.
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_shard_size: Option<u64>,
        /// Write into a directory that is not empty: replace what df11 wrote there, and nothing else. An output that is one
        /// file is replaced.
        #[arg(long)]
        force: bool,
    },
    /// Restore a compressed checkpoint: the original files, byte for byte.
    Decompress {
        /// The compressed directory or file.
        input: PathBuf,
        /// The directory to write, or, for a single weight file, a name ending in .safetensors.
        #[arg(long, short)]
        output: PathBuf,
        /// For files of other programs: names the tensors in each unit.
        #[arg(long, value_name = "FILE")]
        pattern_dict: Option<PathBuf>,
        /// Write into a directory that is not empty: nothing is replaced there but what df11 wrote. An output that is one
        /// file is replaced.
        #[arg(long)]
        force: bool,
    },
    /// Check every rule of the layout, decode every weight, compare digests.
    Verify {
        /// The compressed directory or file.
        path: PathBuf,
        /// Compare every tensor with this original checkpoint as well.
        #[arg(long, value_name = "ORIGINAL")]
        against: Option<PathBuf>,
    },
    /// Show what is in a compressed checkpoint, or what compression would make of a plain one.
    Inspect {
        /// The file or directory.
        path: PathBuf,
        /// For plain checkpoints: which tensors would make which units.
        #[arg(long, value_name = "FILE")]
        pattern_dict: Option<PathBuf>,
    },
    /// Compress, verify, restore and compare the weights that ship with this program.
    Demo,
    /// Measure how fast this machine encodes, decodes and verifies, beside the bare work on the two planes of the weights.
    ///
    /// GB/s are 1e9 bytes of BF16 weights a second, the median of all rounds with the least and the greatest, and "of
    /// roofline" is the share of what the same threads at the same level reach without any code, by merging two plain
    /// planes (decode, verify) or splitting into them (encode). The memory copy judges nothing, since on shared machines it
    /// swings between 5 and 13 GB/s.
    Bench {
        /// A checkpoint (a directory or a safetensors file), whose BF16 tensors become one unit; without it, the weights that
        /// ship with this program.
        file: Option<PathBuf>,
        /// Rounds; in each, everything is measured once, in turn.
        #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(9..))]
        rounds: u16,
        /// Repeat the weights until they are this large.
        #[arg(long, value_name = "BYTES", default_value_t = 64_000_000, hide = true)]
        at_least: u32,
    },
    /// Report every rule of the specification that a compressed file bends, by clause. Fails only for what readers must refuse.
    Lint {
        /// The compressed directory or file.
        path: PathBuf,
    },
    /// Turn one tensor from one form into another: a DF11 unit, a frame, an archive of dietgpu, plain elements. The form of
    /// the input is seen from its first bytes; files that end in .safetensors, and directories, hold units and frames.
    Transcode {
        /// The file to read.
        input: PathBuf,
        /// The file to write.
        #[arg(long, short)]
        output: PathBuf,
        /// The form to write.
        #[arg(long, value_name = "FORM")]
        to: FormName,
        /// What the elements of a file of plain elements are (or the bytes of an ANS archive).
        #[arg(long, value_name = "TYPE", value_parser = element_type)]
        r#type: Option<ElementType>,
        /// The shape to write into a frame, such as 768,3072.
        #[arg(long, value_delimiter = ',')]
        shape: Option<Vec<u64>>,
        /// The unit or frame to read from a file of several, by its module path or tensor name.
        #[arg(long, value_name = "PATH")]
        unit: Option<String>,
        /// Replace the output if it exists.
        #[arg(long)]
        force: bool,
    },
    /// List where can be decoded: the processor, the emulator, and the CUDA devices of this machine.
    #[cfg(all(target_os = "linux", feature = "gpu"))]
    Devices,
    /// What the GPU kernels do, and whether a device decodes as the CPU does.
    #[command(subcommand)]
    Gpu(GpuCommand),
    /// Judge another implementation of DF11 with the test vectors.
    #[command(subcommand)]
    Conformance(Conformance),
}

#[derive(Subcommand)]
enum GpuCommand {
    /// Count what the kernels do, in the emulator, beside the published kernel. (These are no times.)
    Report {
        /// A checkpoint or safetensors file whose BF16 weights are decoded; without it, a part of the shipped weights.
        file: Option<PathBuf>,
        /// The published kernel: decode.ptx of the Python package dfloat11 (gpu/fetch_published.sh fetches it).
        #[arg(long, value_name = "PTX")]
        published: Option<PathBuf>,
        /// A folder with NVIDIA's ptxas and nvdisasm, for machine instructions and registers (gpu/ptx/build.sh fetches them to
        /// target/cuda).
        #[arg(long, value_name = "DIR")]
        tools: Option<PathBuf>,
    },
    /// Decode every unit and frame of a compressed checkpoint on a device, and compare with the CPU, bit for bit.
    #[cfg(all(target_os = "linux", feature = "gpu"))]
    Check {
        /// The compressed checkpoint.
        path: PathBuf,
        /// Where to decode: cuda:N or emulated.
        #[arg(long, default_value = "cuda:0")]
        device: Target,
    },
    /// Measure how fast a card decodes, with every codec, beside a copy on the card.
    #[cfg(all(target_os = "linux", feature = "gpu"))]
    Bench {
        /// A checkpoint or safetensors file whose BF16 weights are decoded; without it, the shipped weights.
        file: Option<PathBuf>,
        /// The card: cuda:N.
        #[arg(long, default_value = "cuda:0")]
        device: Target,
        /// Bytes of weights that are decoded in each repetition, at least: copies of those in the file.
        #[arg(long, value_name = "BYTES", default_value_t = 1_000_000_000)]
        at_least: usize,
        /// How often each kernel is timed.
        #[arg(long, value_name = "N", default_value_t = 20)]
        repetitions: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum CodecName {
    Df11,
    Rans,
    Fast,
    Auto,
}

impl From<CodecName> for Codec {
    fn from(name: CodecName) -> Self {
        match name {
            CodecName::Df11 => Codec::Df11,
            CodecName::Rans => Codec::Rans,
            CodecName::Fast => Codec::Fast,
            CodecName::Auto => Codec::Auto,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum PurposeName {
    Size,
    Speed,
    Gpu,
    Loader,
}

impl From<PurposeName> for Purpose {
    fn from(name: PurposeName) -> Self {
        match name {
            PurposeName::Size => Purpose::Size,
            PurposeName::Speed => Purpose::Speed,
            PurposeName::Gpu => Purpose::Gpu,
            PurposeName::Loader => Purpose::Loader,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    Raw,
    Frame,
    Fast,
    Dietgpu,
    Df11,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Raw => Form::Raw,
            FormName::Frame => Form::Frame,
            FormName::Fast => Form::Fast,
            FormName::Dietgpu => Form::Dietgpu,
            FormName::Df11 => Form::Df11,
        }
    }
}

/// An element type by its name, in any case.
fn element_type(name: &str) -> Result<ElementType, String> {
    let known =
        ElementType::ALL.into_iter().find(|element_type| element_type.name().eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("one of {}", ElementType::ALL.map(ElementType::name).join(", ")))
}

#[derive(Subcommand)]
enum Conformance {
    /// Give an external program every vector; fails unless all passed.
    Run {
        /// A decoder: a command in which {unit} stands for the file to read and {out} for the file to write (raw BF16).
        #[arg(long, value_name = "CMD")]
        decoder: Option<String>,
        /// An encoder: a command in which {bf16} stands for the file to read and {unit} for the file to write.
        #[arg(long, value_name = "CMD")]
        encoder: Option<String>,
        /// A decoder of frames: a command in which {frame} stands for the file to read and {out} for the file to write.
        #[arg(long, value_name = "CMD")]
        frame_decoder: Option<String>,
        /// A CUDA kernel with the arguments of the published one, as PTX: run in the emulator, which also finds what is wrong with its
        /// accesses of memory.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["decoder", "encoder", "frame_decoder"])]
        ptx: Option<PathBuf>,
        /// The name of the kernel.
        #[arg(long, value_name = "NAME", default_value = "decode", requires = "ptx")]
        entry: String,
        /// Threads of a thread block of the kernel.
        #[arg(long, value_name = "N", default_value_t = 512, requires = "ptx")]
        block_threads: u32,
        /// Seconds that a single case may take.
        #[arg(long, value_name = "S", default_value_t = 10.0)]
        time_limit: f64,
        /// Only vectors whose names hold this text.
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// Also write the result as JUnit XML.
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// List the vectors.
    List,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command, &cli.common) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(verdict)) => complain(&verdict),
        // The reader of our output has gone; there is nobody to tell.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            if cli.common.json {
                // If standard output is gone as well, the exit code still tells.
                let _ = print_json(&json!({"error": error.to_string(), "kind": code(&error).1}));
            }
            complain(&error)
        }
    }
}

/// The exit code of an error, and the name of its kind.
fn code(error: &Error) -> (u8, &'static str) {
    match error.kind() {
        ErrorKind::Usage => (2, "usage"),
        ErrorKind::Io => (3, "io"),
        _ => (1, "data"),
    }
}

fn complain(error: &Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "df11: {}", one_line(&error.to_string()));
    ExitCode::from(code(error).0)
}

/// A text with its control characters escaped: names from files must neither break lines nor reach the terminal's controls.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Carries a command out. A report that was printed may end in a verdict that the exit code has to tell.
fn run(command: &Command, common: &Common) -> Result<Option<Error>, Error> {
    let threads = usize::from(common.threads);
    let bars = Bars::new(common.quiet || common.json);
    match command {
        Command::Compress {
            input,
            output,
            pattern_dict,
            single_file,
            codec,
            purpose,
            max_shard_size,
            force,
        } => {
            let codec = codec.map(Codec::from);
            let options = CompressOptions {
                max_shard_size: *max_shard_size,
                pattern_dict: read_dict(pattern_dict.as_deref())?,
                single_file: *single_file,
                force: *force,
                threads,
                ..match purpose {
                    Some(purpose) => CompressOptions::of((*purpose).into(), codec),
                    None => CompressOptions { codec: codec.unwrap_or(Codec::Choose), ..Default::default() },
                }
            };
            run_compress(input, output, &options, common, &bars)
        }
        Command::Decompress { input, output, pattern_dict, force } => {
            let options = DecompressOptions {
                pattern_dict: read_dict(pattern_dict.as_deref())?,
                force: *force,
                threads,
            };
            return run_decompress(input, output, &options, common, &bars);
        }
        Command::Verify { path, against } => {
            let report = verify(path, against.as_deref(), threads, &bars)?;
            bars.clear();
            show(common, &report, || print::verified(&report))
        }
        Command::Inspect { path, pattern_dict } => {
            let dict = read_dict(pattern_dict.as_deref())?;
            let report = inspect(path, dict.as_ref(), threads)?;
            show(common, &report, || print::inspected(&report))
        }
        Command::Lint { path } => {
            let report = judge::lint(path)?;
            show(common, &report, || report.to_text())?;
            return Ok(report.verdict(path).err());
        }
        Command::Conformance(Conformance::List) => {
            let vectors = judge::vectors()?;
            show(common, &vectors, || judge::list(&vectors))
        }
        Command::Conformance(Conformance::Run {
            decoder,
            encoder,
            frame_decoder,
            ptx,
            entry,
            block_threads,
            time_limit,
            filter,
            junit,
        }) => {
            let job = judge::job(decoder, encoder, frame_decoder, *time_limit, filter)?;
            let report = match ptx {
                Some(ptx) => {
                    let judged =
                        gpu::Judged { ptx: ptx.clone(), entry: entry.clone(), threads: *block_threads };
                    gpu::judge(&judged, filter.as_deref())?
                }
                None => df11_judge::judge::run(&job).map_err(Error::Usage)?,
            };
            if let Some(path) = junit {
                fs::write(path, report.to_junit()).map_err(|source| Error::Io {
                    action: "cannot write",
                    path: path.clone(),
                    source,
                })?;
            }
            show(common, &report, || report.to_text())?;
            return Ok(judge::verdict(&report).err());
        }
        Command::Transcode { input, output, to, r#type, shape, unit, force } => {
            let options = TranscodeOptions {
                to: (*to).into(),
                element_type: *r#type,
                shape: shape.clone(),
                unit: unit.clone(),
                force: *force,
            };
            let report = transcode(input, output, &options)?;
            show(common, &report, || print::transcoded(&report))
        }
        #[cfg(all(target_os = "linux", feature = "gpu"))]
        Command::Devices => {
            let devices = devices::devices()?;
            show(common, &devices, || devices::list(&devices))
        }
        Command::Gpu(GpuCommand::Report { file, published, tools }) => {
            let report = gpu::report(file.as_deref(), published.as_deref(), tools.as_deref())?;
            show(common, &report, || report.to_text())
        }
        #[cfg(all(target_os = "linux", feature = "gpu"))]
        Command::Gpu(GpuCommand::Check { path, device }) => {
            let report = devices::check(path, *device)?;
            show(common, &report, || report.to_text())
        }
        #[cfg(all(target_os = "linux", feature = "gpu"))]
        Command::Gpu(GpuCommand::Bench { file, device, at_least, repetitions }) => {
            let report = devices::bench(file.as_deref(), *device, *at_least, *repetitions)?;
            show(common, &report, || report.to_text())
        }
        Command::Demo => {
            let report = demo::run(threads)?;
            show(common, &report, || print::demo(&report))
        }
        Command::Bench { file, rounds, at_least } => {
            let report = bench::run(file.as_deref(), *rounds, *at_least, threads)?;
            show(common, &report, || report.to_text())
        }
    }?;
    Ok(None)
}

fn run_compress(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    common: &Common,
    bars: &Bars,
) -> Result<(), Error> {
    let report = compress(input, output, options, bars)?;
    bars.clear();
    if common.quiet && !common.json {
        // What does not come along is said, whatever else is not.
        let _ = io::stderr().write_all(one_lines(&print::left_behind(&report)).as_bytes());
    }
    show(common, &report, || print::compressed(&report))
}

fn run_decompress(
    input: &Path,
    output: &Path,
    options: &DecompressOptions,
    common: &Common,
    bars: &Bars,
) -> Result<Option<Error>, Error> {
    let report = decompress(input, output, options, bars)?;
    bars.clear();
    if common.quiet && !common.json {
        let _ = io::stderr().write_all(one_lines(&print::not_restored(&report)).as_bytes());
    }
    show(common, &report, || print::decompressed(&report))?;
    Ok(not_as_recorded(input, &report))
}

/// The verdict on a restored directory in which recorded files are missing, or are not as they were.
fn not_as_recorded(input: &Path, report: &DecompressReport) -> Option<Error> {
    let names: Vec<&str> = report.missing.iter().chain(&report.changed).map(String::as_str).collect();
    if names.is_empty() {
        return None;
    }
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    let problem = format!("not everything was as recorded: {shown}{more}; all else was restored");
    Some(Error::File { path: input.to_owned(), problem })
}

/// A number of bytes, with or without a unit: 5GB, 300MB, 1000000.
fn size(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let units = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000u64), ("TB", 1_000_000_000_000)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((upper.strip_suffix(name)?, *unit)))
        .unwrap_or((upper.as_str(), 1));
    let number: u64 = number.trim().parse().map_err(|_| "a number of bytes, such as 5GB".to_owned())?;
    number.checked_mul(unit).filter(|&bytes| bytes > 0).ok_or_else(|| "too many bytes, or none".to_owned())
}

/// Lines, each with its control characters escaped.
fn one_lines(text: &str) -> String {
    text.lines().map(|line| one_line(line) + "\n").collect()
}

/// Prints a result in the form that was asked for.
fn show(common: &Common, report: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
    if common.json {
        print_json(report)
    } else if common.quiet {
        Ok(())
    } else {
        print(&one_lines(&text()))
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Usage(error.to_string()))?;
    print(&(text + "\n"))
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| Error::Io {
        action: "cannot write to",
        path: PathBuf::from("standard output"),
        source,
    })
}

/// Reads a pattern dictionary: the dictionary itself, or a config that has one.
fn read_dict(path: Option<&Path>) -> Result<Option<PatternDict>, Error> {
    let Some(path) = path else { return Ok(None) };
    let text = fs::read(path).map_err(|source| Error::Io {
        action: "cannot read",
        path: path.to_owned(),
        source,
    })?;
    let wrong = |error: serde_json::Error| {
        let what = "is not a pattern dictionary (an object of patterns, each with a list of sub-modules)";
        Error::Usage(format!("{} {what}: {error}", path.display()))
    };
    let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(wrong)?;
    for key in ["dfloat11_config", "pattern_dict"] {
        if let Some(inner) = value.get_mut(key).filter(|inner| inner.is_object()) {
            value = inner.take();
        }
    }
    serde_json::from_value(value).map(Some).map_err(wrong)
}
