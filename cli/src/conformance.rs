//! `df11 lint` and `df11 conformance`: thin over the library that judges.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use df11_conformance::judge::{Job, Report};
use df11_conformance::lint::{Finding, Severity};
use df11_conformance::vectors::{Outcome, Vectors};
use df11_model::{Error, for_each_unit};
use serde::Serialize;

/// What the linter found.
#[derive(Serialize)]
pub(crate) struct LintReport {
    units: Vec<LintedUnit>,
}

/// What it found in one unit.
#[derive(Serialize)]
struct LintedUnit {
    file: String,
    unit: String,
    findings: Vec<Finding>,
}

pub(crate) fn lint(path: &Path) -> Result<LintReport, Error> {
    let mut units = Vec::new();
    for_each_unit(path, |file, unit, tensors| {
        let findings = df11_conformance::lint::lint(&tensors);
        units.push(LintedUnit { file: file.to_owned(), unit: unit.to_owned(), findings });
    })?;
    Ok(LintReport { units })
}

impl LintReport {
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        for unit in &self.units {
            for Finding { clause, severity, message } in &unit.findings {
                let severity = match severity {
                    Severity::Invalid => "invalid",
                    Severity::Acceptable => "acceptable",
                    Severity::Writer => "writer",
                    Severity::Advice => "advice",
                };
                let _ = writeln!(out, "{}: {}: {severity} {clause}: {message}", unit.file, unit.unit);
            }
        }
        let count = |severity| {
            self.units.iter().flat_map(|unit| &unit.findings).filter(|f| f.severity == severity).count()
        };
        let _ = writeln!(
            out,
            "{} units: {} invalid, {} acceptable, {} rules for writers bent, {} pieces of advice",
            self.units.len(),
            count(Severity::Invalid),
            count(Severity::Acceptable),
            count(Severity::Writer),
            count(Severity::Advice),
        );
        out
    }

    /// An error if a reader must refuse a unit.
    pub(crate) fn verdict(&self, path: &Path) -> Result<(), Error> {
        let mut invalid =
            self.units.iter().filter(|unit| unit.findings.iter().any(|f| f.severity == Severity::Invalid));
        match invalid.next() {
            None => Ok(()),
            Some(unit) => {
                let problem = format!("unit {} is invalid", unit.unit);
                Err(Error::File { path: path.to_owned(), problem })
            }
        }
    }
}

pub(crate) fn vectors() -> Result<Vectors, Error> {
    Vectors::load().map_err(Error::Usage)
}

pub(crate) fn list(vectors: &Vectors) -> String {
    let mut out = String::new();
    for (task, test) in vectors.tests() {
        let result = match test.result {
            Outcome::Valid => "valid",
            Outcome::Invalid => "invalid",
            Outcome::Acceptable => "acceptable",
        };
        let task = format!("{task:?}");
        let _ = writeln!(
            out,
            "{:3} {task:10} {result:10} {:28} {} ({})",
            test.tc_id,
            test.id,
            test.comment,
            test.clauses.join(", ")
        );
    }
    out
}

pub(crate) fn job(
    decoder: &Option<String>,
    encoder: &Option<String>,
    time_limit: f64,
    filter: &Option<String>,
) -> Result<Job, Error> {
    let time_limit = Duration::try_from_secs_f64(time_limit)
        .map_err(|_| Error::Usage(format!("{time_limit} seconds are no time limit")))?;
    Ok(Job { decoder: decoder.clone(), encoder: encoder.clone(), time_limit, filter: filter.clone() })
}

/// An error if a case failed.
pub(crate) fn verdict(report: &Report) -> Result<(), Error> {
    if report.passed() {
        return Ok(());
    }
    let problem = format!("{} of {} cases failed", report.failures().count(), report.cases.len());
    Err(Error::File { path: PathBuf::from("the judged program"), problem })
}
