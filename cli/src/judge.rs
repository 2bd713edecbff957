//! `df11 lint` and `df11 conformance`: thin over the library that judges.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use df11_judge::judge::{Job, Report};
use df11_judge::lint::{self, Finding, Severity};
use df11_judge::vectors::{FrameTest, Outcome, Task, Vectors};
use df11_model::{Error, Stored, for_each_stored};
use serde::Serialize;

/// What the linter found.
#[derive(Serialize)]
pub(crate) struct LintReport {
    units: Vec<Linted>,
    frames: Vec<Linted>,
}

/// What it found in one unit or frame.
#[derive(Serialize)]
struct Linted {
    file: String,
    /// The module path of the unit, or the name of the tensor that the frame is of; empty for a file that is a frame.
    name: String,
    findings: Vec<Finding>,
}

pub(crate) fn lint(path: &Path) -> Result<LintReport, Error> {
    let (mut units, mut frames) = (Vec::new(), Vec::new());
    for_each_stored(path, |file, name, stored| {
        let (found, findings) = match stored {
            Stored::Unit(tensors) => (&mut units, lint::lint(&tensors)),
            Stored::Frame(bytes) => (&mut frames, lint::lint_frame(bytes)),
            _ => return,
        };
        found.push(Linted { file: file.to_owned(), name: name.to_owned(), findings });
    })?;
    Ok(LintReport { units, frames })
}

impl LintReport {
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for linted in self.all() {
            for Finding { clause, severity, message } in &linted.findings {
                let severity = match severity {
                    Severity::Invalid => "invalid",
                    Severity::Acceptable => "acceptable",
                    Severity::Writer => "writer",
                    Severity::Advice => "advice",
                };
                let of = linted.of();
                let _ = writeln!(out, "{of}: {severity} {clause}: {message}");
            }
        }
        let count = |severity| {
            self.all().flat_map(|linted| &linted.findings).filter(|f| f.severity == severity).count()
        };
        let _ = writeln!(
            out,
            "{} units, {} frames: {} invalid, {} acceptable, {} rules for writers bent, {} pieces of advice",
            self.units.len(),
            self.frames.len(),
            count(Severity::Invalid),
            count(Severity::Acceptable),
            count(Severity::Writer),
            count(Severity::Advice),
        );
        out
    }

    fn all(&self) -> impl Iterator<Item = &Linted> {
        self.units.iter().chain(&self.frames)
    }

    /// An error if a reader must refuse a unit or a frame.
    pub(crate) fn verdict(&self, path: &Path) -> Result<(), Error> {
        let mut invalid =
            self.all().filter(|linted| linted.findings.iter().any(|f| f.severity == Severity::Invalid));
        match invalid.next() {
            None => Ok(()),
            Some(linted) => {
                let problem = format!("{} is invalid", linted.of());
                Err(Error::File { path: path.to_owned(), problem })
            }
        }
    }
}

impl Linted {
    /// What it is about.
    fn of(&self) -> String {
        if self.name.is_empty() { self.file.clone() } else { format!("{}: {}", self.file, self.name) }
    }
}

pub(crate) fn vectors() -> Result<AllVectors, Error> {
    let all = || Ok(AllVectors { units: Vectors::load()?, frames: FrameTest::load()? });
    all().map_err(Error::Usage)
}

/// All vectors.
#[derive(Serialize)]
pub(crate) struct AllVectors {
    #[serde(flatten)]
    units: Vectors,
    frames: Vec<FrameTest>,
}

pub(crate) fn list(vectors: &AllVectors) -> String {
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

pub(crate) fn job(
    decoder: &Option<String>,
    encoder: &Option<String>,
    frame_decoder: &Option<String>,
    time_limit: f64,
    filter: &Option<String>,
) -> Result<Job, Error> {
    let time_limit = Duration::try_from_secs_f64(time_limit)
        .map_err(|_| Error::Usage(format!("{time_limit} seconds are no time limit")))?;
    Ok(Job {
        decoder: decoder.clone(),
        encoder: encoder.clone(),
        frame_decoder: frame_decoder.clone(),
        time_limit,
        filter: filter.clone(),
    })
}

/// An error if a case failed.
pub(crate) fn verdict(report: &Report) -> Result<(), Error> {
    if report.passed() {
        return Ok(());
    }
    let problem = format!("{} of {} cases failed", report.failures().count(), report.cases.len());
    Err(Error::File { path: PathBuf::from("the judged program"), problem })
}
