//! `df11 conformance`: lists the vectors, and judges other programs by them.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use df11_judge::judge::{Job, Report};
use df11_judge::vectors::{FrameTest, Outcome, Task, Vectors};
use df11_model::Error;
use serde::Serialize;

use super::kernel;
use crate::output::{Output, Verdict};

#[derive(Subcommand)]
pub(crate) enum Conformance {
    /// Give an external program every vector. Fails unless all vectors passed.
    Run(Run),
    /// List the vectors.
    List,
}

#[derive(Args)]
pub(crate) struct Run {
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
    /// A CUDA kernel as PTX, with the arguments of the published one. It runs in the emulator,
    /// which also finds errors in its memory accesses.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["decoder", "encoder", "frame_decoder"])]
    ptx: Option<PathBuf>,
    /// The name of the kernel.
    #[arg(long, value_name = "NAME", default_value = "decode", requires = "ptx")]
    entry: String,
    /// The number of threads in a thread block of the kernel.
    #[arg(long, value_name = "N", default_value_t = 512, requires = "ptx")]
    block_threads: u32,
    /// Seconds that a single case may take.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    time_limit: f64,
    /// Only vectors whose names contain this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Also write the result as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Conformance {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        match self {
            Conformance::Run(run) => run.run(output),
            Conformance::List => {
                let vectors = vectors()?;
                output.show(&vectors, || list(&vectors))
            }
        }
    }
}

impl Run {
    fn run(self, output: &Output) -> Result<Verdict, Error> {
        let time_limit = Duration::try_from_secs_f64(self.time_limit)
            .map_err(|_| Error::Usage(format!("{} seconds are no time limit", self.time_limit)))?;
        let report = match self.ptx {
            Some(ptx) => {
                let judged = kernel::Judged { ptx, entry: self.entry, threads: self.block_threads };
                kernel::judge(&judged, self.filter.as_deref())?
            }
            None => {
                let Run { decoder, encoder, frame_decoder, filter, .. } = self;
                let job = Job { decoder, encoder, frame_decoder, time_limit, filter };
                df11_judge::judge::run(&job).map_err(Error::Usage)?
            }
        };
        if let Some(path) = self.junit {
            fs::write(&path, report.to_junit()).map_err(|source| Error::Io {
                action: "cannot write",
                path,
                source,
            })?;
        }
        output.show(&report, || report.to_text())?;
        Ok(verdict(&report).err())
    }
}

fn vectors() -> Result<AllVectors, Error> {
    let all = || Ok(AllVectors { units: Vectors::load()?, frames: FrameTest::load()? });
    all().map_err(Error::Usage)
}

/// The list of all vectors.
#[derive(Serialize)]
struct AllVectors {
    #[serde(flatten)]
    units: Vectors,
    frames: Vec<FrameTest>,
}

fn list(vectors: &AllVectors) -> String {
    let mut out = String::new();
    let mut line = |id: usize, task: Task, result: Outcome, name: &str, comment: &str, clauses: &[String]| {
        let (task, result) = (format!("{task:?}"), format!("{result:?}").to_lowercase());
        let clauses = clauses.join(", ");
        let _ = writeln!(out, "{id:3} {task:11} {result:11} {name:28} {comment} ({clauses})");
    };
    for (task, test) in vectors.units.tests() {
        line(test.tc_id, task, test.result, &test.id, &test.comment, &test.clauses);
    }
    for test in &vectors.frames {
        line(test.tc_id, Task::FrameDecode, test.result, &test.id, &test.comment, &test.clauses);
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
