//! `df11 verify`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use df11_model::{Error, VerifyReport, verify};

use crate::output::{Output, Verdict};
use crate::render::grouped;

#[derive(Args)]
pub(crate) struct Verify {
    /// The compressed directory or file.
    path: PathBuf,
    /// Compare every tensor with this original checkpoint as well.
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<PathBuf>,
}

impl Verify {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = verify(&self.path, self.against.as_deref(), output.threads, &output.progress)?;
        output.show(&report, || verified(&report))
    }
}

pub(crate) fn verified(report: &VerifyReport) -> String {
    let mut out = format!(
        "ok: {} units, {} weights decoded, every rule kept; {}{} plain tensors; {} digests match",
        report.units,
        grouped(report.elements),
        if report.frames > 0 { format!("{} frames; ", report.frames) } else { String::new() },
        report.plain_tensors,
        report.digests_checked,
    );
    if report.files_checked > 0 {
        let _ = write!(out, "; {} files are as recorded", report.files_checked);
    }
    if report.digests_missing > 0 {
        let _ = write!(out, "; {} tensors have none, so only the original can tell", report.digests_missing);
    }
    if let Some(compared) = report.compared {
        let _ = write!(out, "; {compared} tensors equal the original bit for bit");
    }
    out + "\n"
}
