//! `df11 lint`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use df11_judge::lint::{self, Finding, Severity};
use df11_model::{Error, Stored, for_each_stored};
use serde::Serialize;

use crate::output::{Output, Verdict};

#[derive(Args)]
pub(crate) struct Lint {
    /// The compressed directory or file.
    path: PathBuf,
}

impl Lint {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = lint(&self.path)?;
        output.show(&report, || report.to_text())?;
        Ok(report.verdict(&self.path).err())
    }
}

/// The result of the linter.
#[derive(Serialize)]
struct LintReport {
    units: Vec<Linted>,
    frames: Vec<Linted>,
}

/// The findings in one unit or frame.
#[derive(Serialize)]
struct Linted {
    file: String,
    /// The module path of the unit, or the name of the frame's tensor. It is empty for a file that
    /// is a frame.
    name: String,
    findings: Vec<Finding>,
}

fn lint(path: &Path) -> Result<LintReport, Error> {
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
    fn to_text(&self) -> String {
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

    /// Returns an error if a reader must refuse a unit or a frame.
    fn verdict(&self, path: &Path) -> Result<(), Error> {
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
    /// Returns the name of the unit or frame for messages.
    fn of(&self) -> String {
        if self.name.is_empty() { self.file.clone() } else { format!("{}: {}", self.file, self.name) }
    }
}
