//! `df11 judge`: the vectors, and implementations that are judged by them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use df11_judge::judge::{Report, Terms};
use df11_judge::question::Mode;
use df11_judge::subject::{Batch, Commands, Library, Limits, Ours, Program, Subject, serve};
use df11_judge::vectors::{DeltaTest, FrameTest, Outcome, Task, Vectors};
use df11_model::Error;
use serde::Serialize;

use super::judge_fuzz::Fuzz;
use super::kernel;
use crate::output::{Output, Verdict};

#[derive(Subcommand)]
pub(crate) enum Judge {
    /// Ask an implementation about every vector. Fails unless all passed.
    Run(Box<Run>),
    /// Ask an implementation about made-up units and frames without end, and compare it with the
    /// reference. Fails if it finds a difference.
    Fuzz(Box<Fuzz>),
    /// Write each vector as a file, what it decodes to beside it, and an index.
    Export {
        /// A new folder.
        folder: PathBuf,
    },
    /// List the vectors.
    List,
    /// Answer questions on standard input in the batch protocol, with the decoder of df11 or of a
    /// shared library.
    Serve {
        /// A shared library with the functions of df11.h.
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
        /// Speak the batch protocol, which is done anyway.
        #[arg(long, hide = true)]
        batch: bool,
    },
}

/// The options that name a command, one for each task.
const COMMANDS: [&str; 5] = ["decoder", "encoder", "frame_decoder", "archive_decoder", "delta_decoder"];

/// Who is judged.
#[derive(Args)]
pub(crate) struct Who {
    /// A program, with its arguments, that speaks the batch protocol when it is given --batch as
    /// the last one.
    #[arg(
        value_name = "PROGRAM",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        conflicts_with_all = COMMANDS,
        conflicts_with = "library"
    )]
    program: Vec<String>,
    /// A decoder: a command in which {unit} stands for the file to read and {out} for the file to
    /// write (raw BF16).
    #[arg(long, value_name = "CMD")]
    decoder: Option<String>,
    /// An encoder: a command in which {bf16} stands for the file to read and {unit} for the file to
    /// write.
    #[arg(long, value_name = "CMD")]
    encoder: Option<String>,
    /// A decoder of frames: a command in which {frame} stands for the file to read and {out} for
    /// the file to write.
    #[arg(long, value_name = "CMD")]
    frame_decoder: Option<String>,
    /// A decoder of dietgpu's archives: a command in which {archive} stands for the file to read
    /// and {out} for the file to write.
    #[arg(long, value_name = "CMD")]
    archive_decoder: Option<String>,
    /// A decoder of deltas: a command in which {base} stands for the file with the elements of the
    /// base, {delta} for the file with the delta, and {out} for the file to write.
    #[arg(long, value_name = "CMD")]
    delta_decoder: Option<String>,
    /// A shared library with the functions of df11.h that a decoder needs.
    #[arg(long, value_name = "FILE", conflicts_with_all = COMMANDS)]
    library: Option<PathBuf>,
    /// Seconds that a single case may take.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    time_limit: f64,
    /// MiB of address space that a program may have; 0 for no limit, which sanitizers, Java and
    /// drivers of GPUs need.
    #[arg(long, value_name = "MIB", default_value_t = 16384)]
    memory_limit: u64,
}

#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    who: Who,
    /// A CUDA kernel with the arguments of the published one, as PTX: run in the emulator, which
    /// also finds what is wrong with its accesses of memory.
    #[arg(long, value_name = "FILE", conflicts_with_all = COMMANDS, conflicts_with_all = ["library", "program"])]
    ptx: Option<PathBuf>,
    /// The name of the kernel.
    #[arg(long, value_name = "NAME", default_value = "decode", requires = "ptx")]
    entry: String,
    /// Threads of a thread block of the kernel.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "ptx")]
    block_threads: u32,
    /// What must be done with acceptable input: all refused (strict), all decoded (lenient), or
    /// either (any).
    #[arg(long, value_name = "MODE", default_value = "any")]
    mode: ModeName,
    /// Only vectors whose names contain this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write the judgement as JSON, with the line that may be quoted.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Also write a badge, as SVG.
    #[arg(long, value_name = "FILE")]
    badge: Option<PathBuf>,
    /// Also write the result as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Any,
    Strict,
    Lenient,
}

impl Judge {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        match self {
            Judge::Run(run) => run.run(output),
            Judge::Fuzz(fuzz) => fuzz.run(output),
            Judge::Export { folder } => {
                let index = df11_judge::export::export(&folder).map_err(Error::Usage)?;
                let text = || format!("{} vectors are in {}\n", index.entries.len(), folder.display());
                output.show(&index, text)
            }
            Judge::List => {
                let vectors = vectors()?;
                output.show(&vectors, || list(&vectors))
            }
            Judge::Serve { library, .. } => {
                let mut subject: Box<dyn Subject> = match library {
                    Some(path) => Box::new(Library::open(&path).map_err(Error::Usage)?),
                    None => Box::new(Ours),
                };
                let served = serve(&mut *subject, std::io::stdin().lock(), std::io::stdout().lock());
                served.map_err(|error| Error::Usage(format!("the batch protocol broke off: {error}")))?;
                Ok(None)
            }
        }
    }
}

impl Who {
    pub(crate) fn limits(&self) -> Result<Limits, Error> {
        let time = Duration::try_from_secs_f64(self.time_limit)
            .map_err(|_| Error::Usage(format!("{} seconds are no time limit", self.time_limit)))?;
        Ok(Limits { time, memory: Some(self.memory_limit << 20).filter(|bytes| *bytes > 0) })
    }

    /// The name of who is judged, and the means to ask.
    pub(crate) fn subject(self) -> Result<(String, Box<dyn Subject>), Error> {
        let limits = self.limits()?;
        if let Some(path) = self.library {
            let name = format!("the library {}", path.file_name().unwrap_or_default().display());
            let subject = Batch::start(&serving(&path)?, limits).map_err(Error::Usage)?;
            return Ok((name, Box::new(subject)));
        }
        if !self.program.is_empty() {
            let name = self.program.join(" ");
            return Ok((name, Box::new(Batch::start(&self.program, limits).map_err(Error::Usage)?)));
        }
        let Who { decoder, encoder, frame_decoder, archive_decoder, delta_decoder, .. } = self;
        let commands = Commands { decoder, encoder, frame_decoder, archive_decoder, delta_decoder };
        if commands.is_empty() {
            let what = "name a PROGRAM, a --library, a --decoder, an --encoder, a --frame-decoder, \
                        an --archive-decoder or a --delta-decoder";
            return Err(Error::Usage(what.to_owned()));
        }
        let name = commands.name();
        Ok((name, Box::new(Program::new(commands, limits).map_err(Error::Usage)?)))
    }
}

/// This program, as one that answers for a library: what the library does wrong happens there.
fn serving(library: &Path) -> Result<Vec<String>, Error> {
    // A library that is not there is no crash of the library.
    fs::metadata(library).map_err(|source| Error::Io {
        action: "cannot read",
        path: library.to_owned(),
        source,
    })?;
    let own = std::env::current_exe()
        .map_err(|error| Error::Usage(format!("cannot find this program, to start it again: {error}")))?;
    let text =
        |path: &Path| path.to_str().map(str::to_owned).ok_or(Error::Usage(format!("{path:?} is not UTF-8")));
    let words = ["judge", "serve", "--library"].map(str::to_owned);
    Ok([text(&own)?].into_iter().chain(words).chain([text(library)?]).collect())
}

impl Run {
    fn run(self, output: &Output) -> Result<Verdict, Error> {
        let mode = match self.mode {
            ModeName::Any => Mode::Any,
            ModeName::Strict => Mode::Strict,
            ModeName::Lenient => Mode::Lenient,
        };
        let terms = Terms { mode, limits: self.who.limits()?, filter: self.filter };
        let report = match self.ptx {
            Some(ptx) => {
                let judged = kernel::Judged { ptx, entry: self.entry, threads: self.block_threads };
                kernel::judge(&judged, &terms)?
            }
            None => {
                let (name, mut subject) = self.who.subject()?;
                df11_judge::judge::run(&name, &mut *subject, &terms).map_err(Error::Usage)?
            }
        };
        if let Some(path) = self.junit {
            write_file(path, report.to_junit())?;
        }
        if let Some(path) = self.report {
            let document = report.document().map_err(Error::Usage)?;
            let text = serde_json::to_string_pretty(&document).map_err(|e| Error::Usage(e.to_string()))?;
            write_file(path, text + "\n")?;
        }
        if let Some(path) = self.badge {
            write_file(path, report.to_badge())?;
        }
        output.show(&report, || report.to_text())?;
        Ok(verdict(&report).err())
    }
}

fn write_file(path: PathBuf, text: String) -> Result<(), Error> {
    fs::write(&path, text).map_err(|source| Error::Io { action: "cannot write", path, source })
}

fn vectors() -> Result<AllVectors, Error> {
    let all = || {
        let (units, frames) = (Vectors::load()?, FrameTest::load()?);
        Ok(AllVectors { units, frames, archives: FrameTest::load_archives()?, deltas: DeltaTest::load()? })
    };
    all().map_err(Error::Usage)
}

/// All vectors.
#[derive(Serialize)]
struct AllVectors {
    #[serde(flatten)]
    units: Vectors,
    frames: Vec<FrameTest>,
    archives: Vec<FrameTest>,
    deltas: Vec<DeltaTest>,
}

fn list(vectors: &AllVectors) -> String {
    let mut out = String::new();
    let mut line = |id: usize, task: Task, result: Outcome, name: &str, comment: &str, clauses: &[String]| {
        let (task, result) = (format!("{task:?}"), format!("{result:?}").to_lowercase());
        let clauses = clauses.join(", ");
        let _ = writeln!(out, "{id:3} {task:13} {result:11} {name:28} {comment} ({clauses})");
    };
    for (task, test) in vectors.units.tests() {
        line(test.tc_id, task, test.result, &test.id, &test.comment, &test.clauses);
    }
    for (task, tests) in [(Task::FrameDecode, &vectors.frames), (Task::ArchiveDecode, &vectors.archives)] {
        for test in tests {
            line(test.tc_id, task, test.result, &test.id, &test.comment, &test.clauses);
        }
    }
    for test in &vectors.deltas {
        line(test.tc_id, Task::DeltaDecode, test.result, &test.id, &test.comment, &test.clauses);
    }
    out
}

/// Returns an error if a case failed.
fn verdict(report: &Report) -> Result<(), Error> {
    if report.passed() {
        return Ok(());
    }
    let problem = format!("{} of {} cases failed", report.failures().count(), report.cases.len());
    Err(Error::File { path: PathBuf::from("the judged program"), problem })
}
