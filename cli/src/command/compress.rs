//! `df11 compress`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use df11_model::{Codec, CompressOptions, CompressReport, Error, Purpose, compress};

use crate::output::{Output, Verdict};
use crate::render::{frame_summary, grouped, percent, plain_list, shared_memory_notes, unit_table};

#[derive(Args)]
pub(crate) struct Compress {
    /// The file or directory to compress, or its address in a store: s3://bucket/model, gs://,
    /// az://, https://.
    input: PathBuf,
    /// The directory to write, or its address in a store (with --single-file, also a name ending in
    /// .safetensors).
    #[arg(long, short)]
    output: PathBuf,
    #[command(flatten)]
    form: Form,
    /// Write one file for the whole model instead of one for each unit.
    #[arg(long)]
    single_file: bool,
    /// A checkpoint that is near to this one, in any form: what it was fine-tuned from, or the one
    /// before. Each tensor is then stored against that of the base, which restoring needs; what
    /// gains nothing by it becomes a frame. May be given again for what the base itself is stored
    /// against.
    #[arg(long, value_name = "BASE")]
    base: Vec<PathBuf>,
}

/// What the output is like.
#[derive(Args)]
pub(super) struct Form {
    /// A JSON file that maps module patterns to lists of sub-modules, as in
    /// dfloat11_config.pattern_dict.
    #[arg(long, value_name = "FILE")]
    pattern_dict: Option<PathBuf>,
    /// The form of the weights: units in the published DF11 layout; frames with rANS (smaller, any
    /// element type, but only this program reads them) or with dictionaries (a little larger than
    /// rANS, the fastest to decode); or the smaller of DF11 and rANS. The default is df11, or auto
    /// for a model where df11 would save nothing.
    #[arg(long, value_name = "CODEC")]
    codec: Option<CodecName>,
    /// The purpose of the output. It chooses the codec, unless --codec does, and the length of the
    /// frames' blocks.
    #[arg(long = "for", value_name = "PURPOSE")]
    purpose: Option<PurposeName>,
    /// The number of elements in a block of a frame: a multiple of 64 (with dictionaries, of 4096)
    /// from 4096 to 65536. Small blocks suit GPUs that decode one tensor at a time; they cost up to
    /// 1.5 % of the weights' size. The purpose chooses it otherwise.
    #[arg(long, value_name = "ELEMENTS")]
    block_len: Option<usize>,
    /// Cut frames, and tensors in no unit, into files of at most this many bytes of the original,
    /// such as 5GB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_shard_size: Option<u64>,
    /// Write into a directory that is not empty. Only files that df11 wrote there are replaced. An
    /// output that is one file is replaced.
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
    /// The fewest bytes.
    Size,
    /// The fastest decoding on CPUs.
    Speed,
    /// The fastest decoding on GPUs.
    Gpu,
    /// The published DF11 layout, for published loaders.
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

impl Form {
    /// Returns the options of the library.
    pub(super) fn options(self, output: &Output) -> Result<CompressOptions, Error> {
        let codec = self.codec.map(Codec::from);
        let mut options = match self.purpose {
            Some(purpose) => CompressOptions::of(purpose.into(), codec),
            None => CompressOptions::default().codec(codec.unwrap_or(Codec::Choose)),
        };
        options.block_len = self.block_len.or(options.block_len);
        options.max_shard_size = self.max_shard_size;
        options.pattern_dict = super::read_dict(self.pattern_dict.as_deref())?;
        Ok(options.force(self.force).threads(output.threads))
    }
}

impl Compress {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let options = self.form.options(output)?.single_file(self.single_file).bases(self.base.clone());
        let report = compress(&self.input, &self.output, &options, &output.progress)?;
        // Files that are not copied are reported even with --quiet.
        output.insist(&left_behind(&report));
        output.show(&report, || compressed(&report) + &losing(&self.base))
    }
}

/// Parses a number of bytes, with or without a unit: 5GB, 300MB, 1000000.
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
        let _ = writeln!(out, "{} files of an earlier run were checked and kept", report.kept_files);
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

/// Says what losing the base means.
fn losing(bases: &[PathBuf]) -> String {
    let Some(base) = bases.first() else { return String::new() };
    format!(
        "restoring needs the base, {}: without it, or a copy with the same tensors in any form, what \
         was written is worthless\n",
        base.display()
    )
}

/// Suggests another codec, if it would save enough to be worth a line.
fn hint(report: &CompressReport) -> String {
    if report.codec == "auto" && report.units.is_empty() && !report.frames.is_empty() {
        return "frames, which are smaller here than DF11 units; only df11 reads them\n".to_owned();
    }
    if report.codec != "df11" || report.frames_would_save * 50 < report.bytes_before {
        return String::new();
    }
    let after = report.bytes_after.saturating_sub(report.frames_would_save);
    let percent = percent(after, report.bytes_before);
    format!("note: --codec auto would give about {percent} of the original, as frames that only df11 reads\n")
}

/// Lists what was left out, one line each.
fn left_behind(report: &CompressReport) -> String {
    let line = |(name, why): &(String, String)| format!("not copied: {name} ({why})\n");
    report.left_behind.iter().map(line).collect()
}
