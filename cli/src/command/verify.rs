//! `df11 verify`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use df11_model::{Error, VerifyReport, verify_against_bases};

use crate::output::{Output, Verdict};
use crate::render::grouped;

#[derive(Args)]
pub(crate) struct Verify {
    /// The compressed directory or file.
    path: PathBuf,
    /// Compare every tensor with this original checkpoint as well.
    #[arg(long, value_name = "ORIGINAL")]
    against: Option<PathBuf>,
    /// For deltas: the checkpoint that they were made against. Without it, only their checksums are
    /// compared. May be given again for what that one needs.
    #[arg(long, value_name = "BASE")]
    base: Vec<PathBuf>,
}

impl Verify {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let report = {
            let against = self.against.as_deref();
            verify_against_bases(&self.path, against, &self.base, output.threads, &output.progress)?
        };
        output.show(&report, || verified(&report))
    }
}

pub(crate) fn verified(report: &VerifyReport) -> String {
    let some =
        |number: usize, what: &str| if number > 0 { format!("{number} {what}; ") } else { String::new() };
    let mut out = format!(
        "ok: {} units, {} weights decoded, every rule kept; {}{}{} plain tensors; {} digests match",
        report.units,
        grouped(report.elements),
        some(report.frames, "frames"),
        some(report.deltas, "deltas"),
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
