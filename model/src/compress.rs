//! Compressing a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use df11_core::df11::{EncodedUnit, Encoder, PARTS, Plan};
use df11_core::frame;
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};

use crate::checkpoint::{CONFIG, Checkpoint, file_name, plain_name};
use crate::container::{Tensor, lay_out, write_all_at};
use crate::error::{Error, io};
use crate::metadata::{self, CheckpointMetadata, FileMetadata, TensorMetadata, TextMetadata, UnitMetadata};
use crate::output::{Output, names_a_file};
use crate::packed::{self, dtype, tensor_name};
use crate::pattern::PatternDict;
use crate::pieces::{PIECE, count_pieces, encode_pieces};
use crate::plan::{PreparedUnit, describe, map_all, scan_unit, source};
use crate::progress::Progress;
use crate::report::{CompressReport, FrameReport, PlainReport, UnitReport};
use crate::units::{LeftPlain, UnitSpec, Units};
use crate::{config, framed, pool};

/// The file for everything that belongs to no unit.
const REST: &str = "model.safetensors";

/// What weights are stored as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Units in the published DF11 layout, which published loaders read; what fits none stays plain.
    #[default]
    Df11,
    /// Frames, which are smaller and hold every element type, but which only this program reads; a tensor that would not
    /// shrink stays plain.
    Rans,
    /// Frames with dictionaries: a little larger than with rANS, smaller than DF11, and the fastest to decode.
    Fast,
    /// For each unit the smaller of DF11 and rANS, DF11 on a tie; frames for tensors in no unit.
    Auto,
}

impl Codec {
    /// That of the frames that are written.
    const fn of_frames(self) -> frame::Codec {
        match self {
            Codec::Fast => frame::Codec::Dictionary,
            _ => frame::Codec::Rans,
        }
    }
}

/// How to compress.
#[derive(Clone, Debug, Default)]
pub struct CompressOptions {
    /// What weights are stored as.
    pub codec: Codec,
    /// Which tensors make which units; by default the model family's dictionary, or the general rule.
    pub pattern_dict: Option<PatternDict>,
    /// Write one file instead of one for each unit.
    pub single_file: bool,
    /// Replace files that are there.
    pub force: bool,
    /// Threads; 0 for as many as there are processors.
    pub threads: usize,
}

/// Compresses the checkpoint at `input` into the directory `output` (or, with
/// [`single_file`](CompressOptions::single_file), into the file `output` if its name ends in `.safetensors`).
///
/// Every unit is decoded again and compared with its source as bits before its file becomes visible. A run that was cut
/// short can be repeated: files that it finished are kept if they still hold what they should.
///
/// # Errors
///
/// [`Error`], which names the file. Nothing that looks complete is left behind.
pub fn compress(
    input: &Path,
    output: &Path,
    options: &CompressOptions,
    progress: &dyn Progress,
) -> Result<CompressReport, Error> {
    let to_file = names_a_file(output);
    if to_file && !options.single_file {
        return Err(Error::Usage(format!(
            "compression writes a directory with a file for each unit; name a directory instead of {}, or pass \
             --single-file",
            output.display()
        )));
    }
    let checkpoint = Checkpoint::open(input, Some(output))?;
    refuse_compressed(&checkpoint)?;
    for file in &checkpoint.files {
        let name = file.path.file_name().and_then(|name| name.to_str()).and_then(plain_name);
        name.ok_or_else(|| {
            Error::file(&file.path, "restoring could not give the file this name; rename it first")
        })?;
    }
    let mut units = Units::find(&checkpoint, options.pattern_dict.as_ref())?;
    if matches!(options.codec, Codec::Rans | Codec::Fast) {
        units.units.clear();
    }
    // Before anything is written, so that a config that cannot be extended is known at once.
    let new_config = match options.codec {
        Codec::Rans | Codec::Fast => same_config(&checkpoint),
        _ => new_config(&checkpoint, &units.pattern_dict)?,
    };

    let target = if to_file {
        Output::file(output, input, &checkpoint.files, options.force)?
    } else {
        let job =
            format!("df11 compress {}", fs::canonicalize(input).map_err(io("cannot open", input))?.display());
        Output::directory(output, &job, &checkpoint.files, options.force)?
    };
    let pool = pool(options.threads)?;
    let mut files = assign(&checkpoint, &units, options.single_file);
    let metadata = checkpoint_metadata(&checkpoint, new_config.metadata);
    if let Some(rest) = files.last_mut() {
        rest.checkpoint = Some(metadata);
    }
    progress.begin("compressing", checkpoint.iter().map(|(_, tensor)| tensor.bytes()).sum());
    let written: Vec<Result<Written, Error>> = pool.install(|| {
        let files = files.par_iter().with_max_len(1);
        files.map(|file| write_file(&checkpoint, file, options.codec, &target, progress)).collect()
    });

    let mut report = CompressReport {
        units_from: units.origin,
        unmatched_patterns: units.unmatched,
        units: Vec::new(),
        frames: Vec::new(),
        plain: Vec::new(),
        left_behind: checkpoint
            .left_behind
            .iter()
            .map(|(name, why)| (name.display().to_string(), (*why).to_owned()))
            .collect(),
        kept_files: 0,
        bytes_before: 0,
        bytes_after: 0,
    };
    for file in &checkpoint.files {
        report.bytes_before += fs::metadata(&file.path).map_err(io("cannot open", &file.path))?.len();
    }
    for file in written {
        let file = file?;
        report.units.extend(file.units);
        report.frames.extend(file.frames);
        report.plain.extend(file.plain);
        report.kept_files += usize::from(file.kept);
        report.bytes_after += file.bytes;
    }
    explain(&mut report.plain, &units.left_plain);
    report.units.sort_by(|a, b| crate::units::natural_order(&a.path, &b.path));
    report.frames.sort_by(|a, b| crate::units::natural_order(&a.name, &b.name));
    report.plain.sort_by(|a, b| crate::units::natural_order(&a.name, &b.name));

    if !to_file {
        for name in &checkpoint.companions {
            copy(&checkpoint.path.join(name), &target, name)?;
        }
        target.write(Path::new(CONFIG), new_config.text.as_bytes())?;
    }
    target.finish()?;
    Ok(report)
}

/// A config for the output.
struct NewConfig {
    text: String,
    /// How to get the original back; `None` if there was none.
    metadata: Option<metadata::ConfigMetadata>,
}

fn new_config(checkpoint: &Checkpoint, dict: &PatternDict) -> Result<NewConfig, Error> {
    let path = checkpoint.path.join(CONFIG);
    let (original, is_there) =
        checkpoint.config.as_ref().map_or(("{\n}\n", false), |(text, _)| (text.as_str(), true));
    let (text, metadata) = config::insert(original, dict).map_err(|problem| Error::file(&path, problem))?;
    Ok(NewConfig { text, metadata: is_there.then_some(metadata) })
}

/// The config as it is: without units, published loaders have nothing to look for.
fn same_config(checkpoint: &Checkpoint) -> NewConfig {
    match &checkpoint.config {
        Some((text, _)) => {
            let sha256 = metadata::digest(text.as_bytes());
            let metadata = metadata::ConfigMetadata { offset: 0, length: 0, sha256 };
            NewConfig { text: text.clone(), metadata: Some(metadata) }
        }
        None => NewConfig { text: "{}\n".to_owned(), metadata: None },
    }
}

fn refuse_compressed(checkpoint: &Checkpoint) -> Result<(), Error> {
    let (units, _) = packed::units(checkpoint)?;
    if let Some(unit) = units.first() {
        let problem = format!("is compressed already: it holds the DF11 unit {}; nothing to do", unit.path);
        return Err(Error::file(&unit.container().path, problem));
    }
    for file in &checkpoint.files {
        if FileMetadata::of(file)?.is_some() {
            return Err(Error::file(&file.path, "is compressed already, as frames; nothing to do"));
        }
    }
    if checkpoint.config().is_some_and(|config| config.get(config::KEY).is_some()) {
        let problem = format!("has a {} already, but there are no DF11 units; remove that key", config::KEY);
        return Err(Error::file(&checkpoint.path.join(CONFIG), problem));
    }
    Ok(())
}

/// A file of the output.
#[derive(Debug, Default)]
struct OutputFile<'a> {
    name: PathBuf,
    units: Vec<&'a UnitSpec>,
    /// Names of the tensors that go with them as they are.
    plain: Vec<&'a str>,
    checkpoint: Option<CheckpointMetadata>,
}

/// Gives every tensor its file: a file for each unit, with all other tensors of its module; the rest in the last.
fn assign<'a>(checkpoint: &'a Checkpoint, units: &'a Units, single_file: bool) -> Vec<OutputFile<'a>> {
    let mut files = Vec::new();
    let mut home: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = BTreeSet::from([REST.to_owned()]);
    let mut rest = OutputFile { name: PathBuf::from(REST), ..OutputFile::default() };
    let compressed: BTreeSet<&str> =
        units.units.iter().flat_map(|unit| &unit.tensors).map(String::as_str).collect();
    if single_file {
        rest.units = units.units.iter().collect();
    } else {
        for unit in &units.units {
            home.insert(&unit.path, files.len());
            let name = PathBuf::from(unit_file_name(&unit.path, &mut names));
            files.push(OutputFile { name, units: vec![unit], ..OutputFile::default() });
        }
    }
    for name in checkpoint.tensors.keys().filter(|name| !compressed.contains(name.as_str())) {
        let mut module = name.as_str();
        let mut file = None;
        while let (None, Some((parent, _))) = (file, module.rsplit_once('.')) {
            file = home.get(parent).copied();
            module = parent;
        }
        file.map_or(&mut rest, |file| &mut files[file]).plain.push(name);
    }
    files.push(rest);
    files
}

/// The name of a unit's file: its module path with dots as underscores, unless another file has that name.
fn unit_file_name(path: &str, taken: &mut BTreeSet<String>) -> String {
    /// File systems allow 255 bytes; what follows the name needs some of them.
    const LONGEST: usize = 200;
    let safe: String = path
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    let names = std::iter::once(format!("{safe}.safetensors"))
        .chain((2..).map(|n| format!("{safe}-{n}.safetensors")));
    // Some file systems take upper and lower case for the same.
    let mut names = names.filter(|name| taken.insert(name.to_lowercase()));
    names.next().unwrap_or_default()
}

fn checkpoint_metadata(
    checkpoint: &Checkpoint,
    config: Option<metadata::ConfigMetadata>,
) -> CheckpointMetadata {
    let headers = checkpoint.files.iter().map(|file| TextMetadata::new(file_name(&file.path), &file.header));
    let index = checkpoint.index.as_ref().map(|(name, text)| TextMetadata::new(name.clone(), text));
    CheckpointMetadata { files: headers.collect(), index, config }
}

/// What became of a file.
struct Written {
    units: Vec<UnitReport>,
    frames: Vec<FrameReport>,
    plain: Vec<PlainReport>,
    kept: bool,
    bytes: u64,
}

fn write_file(
    checkpoint: &Checkpoint,
    file: &OutputFile<'_>,
    codec: Codec,
    output: &Output,
    progress: &dyn Progress,
) -> Result<Written, Error> {
    // Read every weight once: digests, histograms, and from these the exact sizes.
    let scanned: Vec<_> = file
        .units
        .par_iter()
        .with_max_len(1)
        .map(|unit| scan_unit(checkpoint, unit))
        .collect::<Result<_, _>>()?;
    let mut tensors = Vec::new();
    let mut units = Vec::new();
    let mut plain: Vec<(&str, Option<&str>)> = file.plain.iter().map(|name| (*name, None)).collect();
    let mut refused = Vec::new();
    // Frames are encoded twice, here and where they are written, so that none has to be kept.
    let mut framed: BTreeMap<&str, u64> = BTreeMap::new();
    for unit in &scanned {
        tensors.extend(unit.tensors.iter().cloned());
        match &unit.prepared {
            Ok(prepared) => {
                let names = &prepared.spec.tensors;
                let frames = if codec == Codec::Auto {
                    frame_sizes(checkpoint, names.iter().map(String::as_str).collect(), codec)?
                } else {
                    BTreeMap::new()
                };
                let size_of = |name: &String| match frames.get(name.as_str()) {
                    Some(size) => Ok(*size),
                    None => source(checkpoint, name).map(|(_, tensor)| tensor.bytes()),
                };
                let as_frames = names.iter().map(size_of).sum::<Result<u64, Error>>()?;
                if codec == Codec::Auto && as_frames < prepared.plan.sizes().total() {
                    plain.extend(names.iter().map(|name| (name.as_str(), None)));
                    framed.extend(frames);
                } else {
                    units.push(prepared);
                }
            }
            Err((spec, why)) => {
                plain.extend(spec.tensors.iter().map(|name| (name.as_str(), Some(why.as_str()))));
                refused.push(*spec);
            }
        }
    }
    for name in &file.plain {
        tensors.push(scan_plain(checkpoint, name)?);
    }
    if codec != Codec::Df11 {
        let rest: Vec<&str> =
            plain.iter().map(|(name, _)| *name).filter(|name| !framed.contains_key(name)).collect();
        framed.extend(frame_sizes(checkpoint, rest, codec)?);
    }
    plain.retain(|(name, _)| !framed.contains_key(name));
    for tensor in &mut tensors {
        tensor.frame = framed.contains_key(tensor.name.as_str());
    }
    let framed: Vec<(&str, u64)> = framed.into_iter().collect();
    refused.retain(|spec| plain.iter().any(|(name, _)| spec.tensors.iter().any(|tensor| tensor == name)));

    let described = units
        .iter()
        .map(|unit| UnitMetadata { path: unit.spec.path.clone(), tensors: unit.spec.tensors.clone() });
    let mut described = FileMetadata::new(described.collect(), tensors);
    described.checkpoint.clone_from(&file.checkpoint);
    let entries =
        units.iter().flat_map(|unit| unit_entries(unit)).chain(plain.iter().filter_map(|(name, _)| {
            let (_, tensor) = checkpoint.get(name)?;
            Some((tensor.name.clone(), tensor.dtype, tensor.shape.clone()))
        }));
    let entries = entries
        .chain(framed.iter().map(|(name, bytes)| ((*name).to_owned(), Dtype::U8, vec![*bytes as usize])));
    let cannot = |problem| Error::file(&output.path_of(&file.name), problem);
    let metadata = described.to_json().map_err(cannot)?;
    let (head, layout) = lay_out(entries.collect(), Some((metadata::KEY, metadata))).map_err(cannot)?;
    let layout: BTreeMap<&str, &Tensor> =
        layout.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let bytes = layout.values().map(|tensor| tensor.range.end).max().unwrap_or(head.len() as u64);

    let source_bytes: u64 =
        file.units.iter().map(|unit| 2 * unit.elements).sum::<u64>() + plain_bytes(checkpoint, &file.plain);
    let path = output.path_of(&file.name);
    let compare = |path: &Path| {
        compare_frames(checkpoint, path, &framed)?;
        compare(checkpoint, path, &head, &units, &plain)
    };
    let kept = if output.resumed() && path.exists() { compare(&path).ok() } else { None };
    let is_kept = kept.is_some();
    let largest_blocks = if let Some(largest_blocks) = kept {
        output.keep(&file.name);
        progress.advance(source_bytes);
        largest_blocks
    } else {
        let partial = output.create(&file.name)?;
        let handle = partial.as_file();
        let write =
            |bytes: &[u8], at: u64| write_all_at(handle, bytes, at).map_err(io("cannot write", &path));
        write(&head, 0)?;
        units.par_iter().with_max_len(1).try_for_each(|unit| {
            encode_unit(checkpoint, unit, &layout, &write)?;
            progress.advance(2 * unit.spec.elements);
            Ok(())
        })?;
        for (name, _) in &plain {
            let Some(((container, tensor), target)) = checkpoint.get(name).zip(layout.get(name)) else {
                continue;
            };
            let mut at = target.range.start;
            container.read(tensor, |chunk| {
                write(chunk, at)?;
                at += chunk.len() as u64;
                progress.advance(chunk.len() as u64);
                Ok(())
            })?;
        }
        framed.par_iter().with_max_len(1).try_for_each(|(name, _)| {
            let (container, tensor) = source(checkpoint, name)?;
            let frame = framed::encode(container, tensor, codec.of_frames())?;
            let target =
                layout.get(name).zip(frame).filter(|(target, frame)| target.bytes() == frame.len() as u64);
            let (target, frame) = target
                .ok_or_else(|| Error::tensor(&checkpoint.path, name, "was planned with another size"))?;
            write(&frame, target.range.start)?;
            progress.advance(tensor.bytes());
            Ok(())
        })?;
        let largest_blocks = compare(partial.path())?;
        output.publish(partial, &file.name)?;
        largest_blocks
    };

    let name = file_name(&path);
    Ok(Written {
        frames: framed.iter().filter_map(|(name, bytes)| frame_report(checkpoint, name, *bytes)).collect(),
        units: units.iter().zip(largest_blocks).map(|(unit, largest)| unit.report(largest, &name)).collect(),
        plain: plain_reports(checkpoint, codec, &plain, &refused),
        kept: is_kept,
        bytes,
    })
}

/// The frames that are smaller than their tensors, with their sizes.
fn frame_sizes<'a>(
    checkpoint: &Checkpoint,
    names: Vec<&'a str>,
    codec: Codec,
) -> Result<BTreeMap<&'a str, u64>, Error> {
    let sizes = names.into_par_iter().with_max_len(1).map(|name| {
        let (container, tensor) = source(checkpoint, name)?;
        let frame = framed::encode(container, tensor, codec.of_frames())?;
        Ok(frame.map(|frame| (name, frame.len() as u64)))
    });
    let sizes: Vec<_> = sizes.collect::<Result<_, Error>>()?;
    Ok(sizes.into_iter().flatten().collect())
}

fn frame_report(checkpoint: &Checkpoint, name: &str, bytes_after: u64) -> Option<FrameReport> {
    let (_, tensor) = checkpoint.get(name)?;
    Some(FrameReport {
        name: name.to_owned(),
        dtype: tensor.dtype.to_string(),
        bytes_before: tensor.bytes(),
        bytes_after,
    })
}

/// Decodes the frames of a written file as any reader would, and compares them with their sources, as bits.
fn compare_frames(checkpoint: &Checkpoint, path: &Path, framed: &[(&str, u64)]) -> Result<(), Error> {
    if framed.is_empty() {
        return Ok(());
    }
    let written = Checkpoint::open(path, None)?;
    framed.par_iter().with_max_len(1).try_for_each(|(name, _)| {
        let (container, tensor) = source(checkpoint, name)?;
        let original = container.map(tensor)?;
        let (container, frame) = source(&written, name)?;
        let mut compared = 0;
        framed::decode(container, frame, |offset, elements| {
            compared += elements.len();
            if original.get(offset..offset + elements.len()) == Some(elements) {
                return Ok(());
            }
            let problem = format!("decodes to other bits than its source, near byte {offset}");
            Err(Error::tensor(path, name, problem))
        })?;
        let is_whole = compared == original.len();
        is_whole.then_some(()).ok_or_else(|| Error::tensor(path, name, "decodes to another number of bytes"))
    })
}

fn plain_bytes(checkpoint: &Checkpoint, names: &[&str]) -> u64 {
    names.iter().filter_map(|name| checkpoint.get(name)).map(|(_, tensor)| tensor.bytes()).sum()
}

/// The six tensors of a unit, as a header lists them.
fn unit_entries(unit: &PreparedUnit<'_>) -> [(String, Dtype, Vec<usize>); 6] {
    let sizes = unit.plan.sizes();
    let shapes = [
        vec![sizes.luts / 256, 256],
        vec![sizes.encoded_exponent],
        vec![sizes.sign_mantissa],
        vec![sizes.output_positions],
        vec![sizes.gaps],
        vec![sizes.split_positions / 8],
    ];
    let mut shapes = shapes.into_iter();
    PARTS.map(|(key, name)| {
        (tensor_name(&unit.spec.path, key), dtype(name), shapes.next().unwrap_or_default())
    })
}

fn scan_plain(checkpoint: &Checkpoint, name: &str) -> Result<TensorMetadata, Error> {
    let (container, tensor) = source(checkpoint, name)?;
    let mut sha256 = Sha256::new();
    container.read(tensor, |chunk| {
        sha256.update(chunk);
        Ok(())
    })?;
    Ok(describe(container, tensor, sha256))
}

fn encode_unit(
    checkpoint: &Checkpoint,
    unit: &PreparedUnit<'_>,
    layout: &BTreeMap<&str, &Tensor>,
    write: &(impl Fn(&[u8], u64) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let maps = map_all(checkpoint, unit.spec)?;
    let tensors: Vec<&[u8]> = maps.iter().map(|map| &**map).collect();
    let encoded = encode(&unit.plan, &tensors)
        .map_err(|error| Error::unit(&checkpoint.path, &unit.spec.path, error))?;
    for ((key, _), part) in PARTS.iter().zip(encoded.tensors().parts()) {
        let name = tensor_name(&unit.spec.path, key);
        let target = layout.get(name.as_str()).filter(|target| target.bytes() == part.len() as u64);
        let target =
            target.ok_or_else(|| Error::tensor(&checkpoint.path, &name, "was planned with another size"))?;
        write(part, target.range.start)?;
    }
    Ok(())
}

/// Encodes a unit, a large one on as many threads as there are.
fn encode(plan: &Plan, tensors: &[&[u8]]) -> Result<EncodedUnit, df11_core::Error> {
    if rayon::current_num_threads() == 1 || plan.sizes().sign_mantissa <= PIECE {
        return plan.encode(tensors);
    }
    let mut unit = plan.buffers();
    encode_pieces(&Encoder::new(plan), tensors, &count_pieces(tensors)?, unit.buffers())?;
    Ok(unit)
}

/// Opens a written file as any reader would, decodes it, and compares it with its source, as bits. Returns the number of
/// elements in the largest block of each unit.
fn compare(
    checkpoint: &Checkpoint,
    path: &Path,
    head: &[u8],
    units: &[&PreparedUnit<'_>],
    plain: &[(&str, Option<&str>)],
) -> Result<Vec<u32>, Error> {
    let written = Checkpoint::open(path, None)?;
    // The header holds the digests of all source tensors.
    if written.files.iter().any(|file| file.header.as_bytes() != &head[8..]) {
        return Err(Error::file(path, "has another header than was written"));
    }
    for (name, _) in plain {
        let (container, tensor) = source(checkpoint, name)?;
        let (copy_container, copy) = source(&written, name)?;
        let differs = || Error::tensor(path, name, "was not copied as it is");
        if copy.bytes() != tensor.bytes() {
            return Err(differs());
        }
        let (mut at, mut buffer) = (0, Vec::new());
        container.read(tensor, |chunk| {
            buffer.resize(chunk.len(), 0);
            copy_container.read_at(copy, at, &mut buffer)?;
            at += chunk.len() as u64;
            if buffer == chunk { Ok(()) } else { Err(differs()) }
        })?;
    }
    let (packed, _) = packed::units(&written)?;
    let packed: BTreeMap<&str, _> = packed.iter().map(|unit| (unit.path.as_str(), unit)).collect();
    let units = units.par_iter().with_max_len(1).map(|unit| {
        let spec = unit.spec;
        let packed = packed.get(spec.path.as_str()).ok_or_else(|| Error::file(path, "lacks a unit"))?;
        let mapped = packed.map()?;
        let view = mapped.unit()?;
        let sources = map_all(checkpoint, spec)?;
        if !view.tensor_ranges().map(|range| 2 * range.len()).eq(sources.iter().map(|source| source.len())) {
            return Err(Error::file(
                path,
                format!("unit {} is cut into other tensors than its source", spec.path),
            ));
        }
        packed::decode_unordered(&mapped, &view, |tensor, offset, bytes| {
            if sources[tensor][offset..offset + bytes.len()] == *bytes {
                return Ok(());
            }
            let problem = format!("decodes to other bits than its source, near element {}", offset / 2);
            Err(Error::tensor(path, &spec.tensors[tensor], problem))
        })?;
        Ok(view.largest_block())
    });
    units.collect()
}

/// Tensors that stay plain; those of a refused unit as one entry, with the reason.
fn plain_reports(
    checkpoint: &Checkpoint,
    codec: Codec,
    plain: &[(&str, Option<&str>)],
    refused: &[&UnitSpec],
) -> Vec<PlainReport> {
    let mut reports = Vec::new();
    for spec in refused {
        let why = plain.iter().find(|(name, _)| Some(*name) == spec.tensors.first().map(String::as_str));
        reports.push(PlainReport {
            name: spec.path.clone(),
            dtype: Dtype::BF16.to_string(),
            bytes: 2 * spec.elements,
            reason: why.and_then(|(_, why)| *why).unwrap_or_default().to_owned(),
        });
    }
    for (name, _) in plain.iter().filter(|(_, why)| why.is_none()) {
        if let Some((_, tensor)) = checkpoint.get(name) {
            let reason = match codec {
                Codec::Df11 if tensor.dtype == Dtype::BF16 => IN_NO_UNIT,
                Codec::Df11 => NOT_BF16,
                Codec::Rans | Codec::Fast | Codec::Auto => NO_GAIN,
            };
            reports.push(PlainReport {
                name: tensor.name.clone(),
                dtype: tensor.dtype.to_string(),
                bytes: tensor.bytes(),
                reason: reason.to_owned(),
            });
        }
    }
    reports
}

pub(crate) const IN_NO_UNIT: &str = "in no unit";
pub(crate) const NOT_BF16: &str = "not BF16";
const NO_GAIN: &str = "would not shrink";

/// Replaces the general reason of tensors whose unit was refused because of their names, types or sizes.
fn explain(plain: &mut [PlainReport], left_plain: &[LeftPlain]) {
    for LeftPlain { path, tensors, why } in left_plain {
        for report in plain.iter_mut().filter(|report| tensors.contains(&report.name)) {
            report.reason = format!("unit {path}: {why}");
        }
    }
}

/// Copies a file as it is.
pub(crate) fn copy(from: &Path, output: &Output, name: &Path) -> Result<(), Error> {
    let mut source = fs::File::open(from).map_err(io("cannot open", from))?;
    let mut partial = output.create(name)?;
    std::io::copy(&mut source, partial.as_file_mut()).map_err(io("cannot copy", from))?;
    output.publish(partial, name)
}
