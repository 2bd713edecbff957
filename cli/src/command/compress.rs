//! `df11 compress`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use df11_model::{Codec, CompressOptions, CompressReport, Error, Purpose, compress};

use crate::output::{Output, Verdict};
use crate::render::{frame_summary, grouped, percent, plain_list, shared_memory_notes, unit_table};

#[derive(Args)]
pub(crate) struct Compress {
    /// The file or directory.
    input: PathBuf,
    /// The directory to write (with --single-file, also a name ending in .safetensors).
    #[arg(long, short)]
    output: PathBuf,
    /// A JSON file that maps module patterns to lists of sub-modules, as in
    /// dfloat11_config.pattern_dict.
    #[arg(long, value_name = "FILE")]
    pattern_dict: Option<PathBuf>,
    /// Write one file for the whole model instead of one for each unit.
    #[arg(long)]
    single_file: bool,
    /// What weights become: units in the published DF11 layout, frames coded by rANS (smaller, any
    /// element type, but only this program reads them) or by dictionaries (a little larger than
    /// rANS, the fastest to decode), or whichever of DF11 and rANS is smaller. By default df11, or
    /// auto for a model of which df11 would save nothing.
    #[arg(long, value_name = "CODEC")]
    codec: Option<CodecName>,
    /// What the output is to be good for; chooses the codec unless --codec does, and how long the
    /// chunks of frames are: the fewest bytes; the fastest decoding on processors; the fastest
    /// decoding on GPUs; published loaders.
    #[arg(long = "for", value_name = "PURPOSE")]
    purpose: Option<PurposeName>,
    /// Cut frames, and what belongs to no unit, into files of at most this many bytes of the
    /// original, such as 5GB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_shard_size: Option<u64>,
    /// Write into a directory that is not empty: replace what df11 wrote there, and nothing else.
    /// An output that is one file is replaced.
    #[arg(long)]
    force: bool,
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

impl Compress {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let codec = self.codec.map(Codec::from);
        let options = CompressOptions {
            max_shard_size: self.max_shard_size,
            pattern_dict: super::read_dict(self.pattern_dict.as_deref())?,
            single_file: self.single_file,
            force: self.force,
            threads: output.threads,
            ..match self.purpose {
                Some(purpose) => CompressOptions::of(purpose.into(), codec),
                None => CompressOptions { codec: codec.unwrap_or(Codec::Choose), ..Default::default() },
            }
        };
        let report = compress(&self.input, &self.output, &options, &output.progress)?;
        // What does not come along is said, whatever else is not.
        output.insist(&left_behind(&report));
        output.show(&report, || compressed(&report))
    }
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

pub(crate) fn compressed(report: &CompressReport) -> String {
    let mut out = String::new();
    if report.nothing_to_gain {
        let _ = writeln!(out, "nothing to gain: nothing was written");
        out += &plain_list(&report.plain);
        out += &hint(report);
        return out;
    }
    if !report.units.is_empty() {
        let _ = writeln!(out, "units from {}", report.units_from);
    }
    for pattern in &report.unmatched_patterns {
        let _ = writeln!(out, "the pattern {pattern} matched no module");
    }
    if !report.units.is_empty() || report.frames.is_empty() {
        out += &unit_table(report.units.iter());
    }
    out += &frame_summary(&report.frames);
    out += &plain_list(&report.plain);
    for name in &report.copied_weights {
        let _ = writeln!(out, "copied as it is, since nothing would be gained: {name}");
    }
    out += &left_behind(report);
    out += &shared_memory_notes(report.units.iter());
    if report.kept_files > 0 {
        let _ =
            writeln!(out, "{} files of an earlier, unfinished run were checked and kept", report.kept_files);
    }
    out += &hint(report);
    let _ = writeln!(
        out,
        "weight files: {} -> {} bytes ({})",
        grouped(report.bytes_before),
        grouped(report.bytes_after),
        percent(report.bytes_after, report.bytes_before),
    );
    out
}

/// What another codec would give, if that is worth a line.
fn hint(report: &CompressReport) -> String {
    if report.codec == "auto" && report.units.is_empty() && !report.frames.is_empty() {
        return "frames, since DF11 units would save nothing here; only df11 reads them\n".to_owned();
    }
    if report.codec != "df11" || report.frames_would_save * 50 < report.bytes_before {
        return String::new();
    }
    let after = report.bytes_after.saturating_sub(report.frames_would_save);
    let percent = percent(after, report.bytes_before);
    format!("note: --codec auto would give about {percent} of the original, as frames that only df11 reads\n")
}

/// What was left out, a line each.
fn left_behind(report: &CompressReport) -> String {
    let line = |(name, why): &(String, String)| format!("not copied: {name} ({why})\n");
    report.left_behind.iter().map(line).collect()
}
