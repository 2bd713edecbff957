//! `df11 decompress`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use df11_model::{DecompressOptions, DecompressReport, Error, decompress};

use crate::output::{Output, Verdict};
use crate::render::{grouped, shortened};

#[derive(Args)]
pub(crate) struct Decompress {
    /// The compressed directory or file.
    input: PathBuf,
    /// The directory to write, or, for a single weight file, a name ending in .safetensors.
    #[arg(long, short)]
    output: PathBuf,
    /// For files of other programs: a dictionary that names the tensors in each unit.
    #[arg(long, value_name = "FILE")]
    pattern_dict: Option<PathBuf>,
    /// For deltas: the checkpoint that they were made against, in any form, under any names. May be
    /// given again for what that one needs.
    #[arg(long, value_name = "BASE")]
    base: Vec<PathBuf>,
    /// Write into a directory that is not empty. Only files that df11 wrote there are replaced. An
    /// output that is one file is replaced.
    #[arg(long)]
    force: bool,
}

impl Decompress {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let mut options =
            DecompressOptions::default().force(self.force).threads(output.threads).bases(self.base.clone());
        options.pattern_dict = super::read_dict(self.pattern_dict.as_deref())?;
        let report = decompress(&self.input, &self.output, &options, &output.progress)?;
        output.insist(&not_restored(&report));
        output.show(&report, || decompressed(&report))?;
        Ok(not_as_recorded(&self.input, &report))
    }
}

/// Returns the error for a restored directory where recorded files are missing or differ from their
/// record.
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

fn decompressed(report: &DecompressReport) -> String {
    let what = if report.original_restored {
        "the original files, byte for byte: every SHA-256 matches"
    } else if report.recorded {
        "the weights, byte for byte; not all other files are as they were"
    } else {
        "plain tensors; the files carry no record of their originals"
    };
    let mut out = format!(
        "restored {} ({} bytes) from {} units: {what}\n",
        shortened(&report.files),
        grouped(report.bytes),
        report.units,
    );
    if report.kept_files > 0 {
        let _ = writeln!(out, "{} files were there already, and are as they should be", report.kept_files);
    }
    if !report.copied.is_empty() {
        let _ = writeln!(out, "copied, though nothing records them: {}", shortened(&report.copied));
    }
    for warning in &report.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out + &not_restored(report)
}

/// Lists what was not restored, one line each.
fn not_restored(report: &DecompressReport) -> String {
    let mut out = String::new();
    for (name, why) in &report.left_out {
        let _ = writeln!(out, "not restored: {name} (left out by compression: {why})");
    }
    for (name, why) in &report.stays {
        let _ = writeln!(out, "stays behind: {name} ({why})");
    }
    out
}
