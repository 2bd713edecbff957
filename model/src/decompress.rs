//! Restoring a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use df11_core::bf16;
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::checkpoint::{CONFIG, Checkpoint, file_name};
use crate::compress::copy;
use crate::container::{Container, Located, Tensor, lay_out, parse_header, tensors, write_all_at};
use crate::error::{Error, io};
use crate::metadata::{CheckpointMetadata, Described};
use crate::output::{Output, names_a_file};
use crate::packed::{self, PackedUnit};
use crate::pattern::PatternDict;
use crate::progress::Progress;
use crate::report::DecompressReport;
use crate::{config, framed, pool};

/// The file that plain tensors of a foreign model go to.
const FOREIGN: &str = "model.safetensors";

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct DecompressOptions {
    /// For files of other programs: names the tensors of a unit. By default, what `config.json` carries.
    pub pattern_dict: Option<PatternDict>,
    /// Replace files that are there.
    pub force: bool,
    /// Threads; 0 for as many as there are processors.
    pub threads: usize,
}

/// Restores the compressed checkpoint at `input` into `output`: a directory, or, if its name ends in `.safetensors` and
/// there is a single weight file, that file.
///
/// Where the files carry what [`compress`](crate::compress) noted in them, the original files come back byte for byte,
/// and every tensor's SHA-256 is checked before any file becomes visible. Files of other programs give plain BF16 tensors
/// under their module names.
///
/// # Errors
///
/// [`Error`], which names the file, the unit and the rule.
pub fn decompress(
    input: &Path,
    output: &Path,
    options: &DecompressOptions,
    progress: &dyn Progress,
) -> Result<DecompressReport, Error> {
    let checkpoint = Checkpoint::open(input, Some(output))?;
    let (units, plain) = packed::units(&checkpoint)?;
    check_config(&checkpoint)?;
    let described = Described::collect(&checkpoint)?;
    let original = described.checkpoint.as_ref();
    if units.is_empty() && original.is_none() {
        let problem = "holds no DF11 units; it is not compressed, so there is nothing to restore";
        return Err(Error::file(input, problem));
    }
    let mut warnings = Vec::new();
    let names = name_units(&checkpoint, &units, &described, options.pattern_dict.as_ref(), &mut warnings)?;
    let sources = Sources::collect(&units, &plain, &names, &described)?;
    let files = match original {
        Some(original) => original_files(input, original)?,
        None => vec![foreign_file(&checkpoint, &units, &plain, &names, &described, &mut warnings)?],
    };
    check_files(input, &files, &sources, original.is_some().then_some(&described))?;

    let to_file = names_a_file(output);
    let target = if to_file {
        if let [_, _, ..] = files.as_slice() {
            let n = files.len();
            return Err(Error::Usage(format!(
                "{n} weight files are restored; name a directory as the output"
            )));
        }
        Output::file(output, input, &checkpoint.files, options.force)?
    } else {
        let job = format!(
            "df11 decompress {}",
            fs::canonicalize(input).map_err(io("cannot open", input))?.display()
        );
        Output::directory(output, &job, &checkpoint.files, options.force)?
    };

    progress.begin("restoring", files.iter().flat_map(|file| &file.tensors).map(Tensor::bytes).sum());
    let partial: Vec<NamedTempFile> =
        files.iter().map(|file| begin_file(&target, file)).collect::<Result<_, _>>()?;
    let places = Places::new(&files, &partial, &target);
    pool(options.threads)?.install(|| {
        units.par_iter().with_max_len(1).try_for_each(|unit| {
            restore_unit(unit, &names[unit.path.as_str()], &places, &described, progress)
        })?;
        plain.par_iter().with_max_len(1).try_for_each(|(container, tensor)| {
            restore_plain(container, tensor, &places, &described, progress)
        })
    })?;
    let mut bytes = 0;
    for (file, partial) in files.iter().zip(partial) {
        bytes += file.len();
        target.publish(partial, &file.name)?;
    }
    if !to_file {
        restore_companions(&checkpoint, original, &target, &mut warnings)?;
    }
    let files = files.iter().map(|file| file_name(&target.path_of(&file.name))).collect();
    target.finish()?;
    Ok(DecompressReport { original_restored: original.is_some(), units: units.len(), files, bytes, warnings })
}

pub(crate) fn check_config(checkpoint: &Checkpoint) -> Result<(), Error> {
    let wrong = |problem| Error::file(&checkpoint.path.join(CONFIG), problem);
    checkpoint.config().map_or(Ok(()), |config| config::check(config).map_err(wrong))
}

/// The most tensors a unit may be cut into: published dictionaries list 14 at most; what is claimed beyond costs memory.
const MOST_TENSORS: usize = 1 << 16;

/// The tensors that each unit decodes to, by module path.
pub(crate) type Names = BTreeMap<String, Vec<String>>;

/// Finds the names of the tensors in each unit: from its own metadata, else from a pattern dictionary, else made up.
pub(crate) fn name_units(
    checkpoint: &Checkpoint,
    units: &[PackedUnit<'_>],
    described: &Described,
    given: Option<&PatternDict>,
    warnings: &mut Vec<String>,
) -> Result<Names, Error> {
    let patterns = match given {
        Some(dict) => dict.compile().map_err(Error::Usage)?,
        None => {
            let dict = checkpoint.config().and_then(config::pattern_dict).unwrap_or_default();
            dict.compile().map_err(|problem| Error::file(&checkpoint.path.join(CONFIG), problem))?
        }
    };
    let mut names = Names::new();
    for unit in units {
        let mapped = unit.map()?;
        let count = mapped.unit()?.tensors();
        if count > MOST_TENSORS {
            let problem = format!(
                "unit {} is cut into {count} tensors; at most {MOST_TENSORS} are accepted",
                unit.path
            );
            return Err(Error::file(&unit.container().path, problem));
        }
        let tensors = match described.units.get(&unit.path) {
            Some(tensors) => tensors.clone(),
            None => match patterns.iter().find(|pattern| pattern.matches(&unit.path)) {
                Some(pattern) => pattern.tensors(&unit.path),
                None if count == 1 => vec![packed::tensor_name(&unit.path, "weight")],
                None => {
                    warnings.push(format!(
                        "unit {} is in no pattern dictionary: its {count} tensors are numbered (a dictionary can be \
                         given)",
                        unit.path
                    ));
                    (0..count).map(|i| packed::tensor_name(&unit.path, &format!("{i}.weight"))).collect()
                }
            },
        };
        if tensors.len() != count {
            let problem = format!(
                "unit {} is cut into {count} tensors, but {} are named for it",
                unit.path,
                tensors.len()
            );
            return Err(Error::file(&unit.container().path, problem));
        }
        names.insert(unit.path.clone(), tensors);
    }
    Ok(names)
}

/// Which tensors there are to restore from, with their lengths in bytes.
pub(crate) struct Sources(BTreeMap<String, (u64, PathBuf)>);

impl Sources {
    pub(crate) fn collect(
        units: &[PackedUnit<'_>],
        plain: &[Located<'_>],
        names: &Names,
        described: &Described,
    ) -> Result<Self, Error> {
        let mut sources = BTreeMap::new();
        let mut insert = |name: &str, bytes: u64, path: &Path| {
            if sources.insert(name.to_owned(), (bytes, path.to_owned())).is_some() {
                return Err(Error::tensor(path, name, "is there twice; keep one of the two"));
            }
            Ok(())
        };
        for (container, tensor) in plain {
            let bytes = match described.framed(&tensor.name) {
                Some(original) => framed::original_bytes(container, tensor, original)?,
                None => tensor.bytes(),
            };
            insert(&tensor.name, bytes, &container.path)?;
        }
        for unit in units {
            let mapped = unit.map()?;
            for (name, range) in names[&unit.path].iter().zip(mapped.unit()?.tensor_ranges()) {
                insert(name, (bf16::BYTES * range.len()) as u64, &unit.container().path)?;
            }
        }
        Ok(Sources(sources))
    }
}

/// A weight file to be written.
pub(crate) struct RestoredFile {
    name: PathBuf,
    head: Vec<u8>,
    tensors: Vec<Tensor>,
}

impl RestoredFile {
    fn len(&self) -> u64 {
        self.tensors.last().map_or(self.head.len() as u64, |last| last.range.end)
    }
}

/// The original files, from the headers that were kept.
pub(crate) fn original_files(
    input: &Path,
    original: &CheckpointMetadata,
) -> Result<Vec<RestoredFile>, Error> {
    let wrong = |problem: String| Error::file(input, problem);
    let mut files = Vec::new();
    for file in &original.files {
        let (name, header) = file.checked().map_err(wrong)?;
        let parsed = parse_header(header)
            .map_err(|problem| wrong(format!("original {}: {problem}", name.display())))?;
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.extend(header.as_bytes());
        let tensors = tensors(&parsed, head.len() as u64);
        files.push(RestoredFile { name: name.to_owned(), head, tensors });
    }
    Ok(files)
}

/// One file for all tensors of a model that another program compressed.
fn foreign_file(
    checkpoint: &Checkpoint,
    units: &[PackedUnit<'_>],
    plain: &[Located<'_>],
    names: &Names,
    described: &Described,
    warnings: &mut Vec<String>,
) -> Result<RestoredFile, Error> {
    // Frames keep their metadata with them only as long as nobody takes the file apart.
    if let Some((container, tensor)) =
        plain.iter().find(|(_, tensor)| described.framed(&tensor.name).is_some())
    {
        let problem =
            "is stored as a frame, but the file that records the originals (model.safetensors) is missing";
        return Err(Error::tensor(&container.path, &tensor.name, problem));
    }
    let mut entries: Vec<(String, Dtype, Vec<usize>)> =
        plain.iter().map(|(_, t)| (t.name.clone(), t.dtype, t.shape.clone())).collect();
    let mut flat = 0;
    for unit in units {
        let mapped = unit.map()?;
        for (name, range) in names[&unit.path].iter().zip(mapped.unit()?.tensor_ranges()) {
            let shape = shape_of(checkpoint, described, name, range.len()).unwrap_or_else(|| {
                flat += 1;
                vec![range.len()]
            });
            entries.push((name.clone(), Dtype::BF16, shape));
        }
    }
    if flat > 0 {
        warnings.push(format!(
            "{flat} tensors have one dimension: DF11 files of other programs carry no shapes, and config.json does not \
             give them"
        ));
    }
    let (head, tensors) = lay_out(entries, Some(("format", "pt".to_owned())))
        .map_err(|problem| Error::file(&checkpoint.path, problem))?;
    Ok(RestoredFile { name: PathBuf::from(FOREIGN), head, tensors })
}

/// Checks, before anything is allocated or written, that every tensor to be written is there with its length, and, if
/// originals are restored, with a digest.
pub(crate) fn check_files(
    input: &Path,
    files: &[RestoredFile],
    sources: &Sources,
    described: Option<&Described>,
) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    for file in files {
        if !names.insert(&file.name) {
            let problem = format!("the df11 metadata names two original files {}", file.name.display());
            return Err(Error::file(input, problem));
        }
        for tensor in &file.tensors {
            let Some((bytes, path)) = sources.0.get(&tensor.name) else {
                let problem = "belongs to the original, but is not there; is a file missing?";
                return Err(Error::tensor(input, &tensor.name, problem));
            };
            if *bytes != tensor.bytes() {
                let problem = format!("has {bytes} bytes, but had {} in the original", tensor.bytes());
                return Err(Error::tensor(path, &tensor.name, problem));
            }
            if described.is_some_and(|described| described.digest(&tensor.name).is_none()) {
                return Err(Error::tensor(path, &tensor.name, "has no digest of the original beside it"));
            }
            if !seen.insert(&tensor.name) {
                return Err(Error::tensor(path, &tensor.name, "is in two of the original files"));
            }
        }
    }
    Ok(())
}

/// The shape of a tensor of so many elements in a unit, if anything tells it.
pub(crate) fn shape_of(
    checkpoint: &Checkpoint,
    described: &Described,
    name: &str,
    len: usize,
) -> Option<Vec<usize>> {
    // A file out of one of our checkpoints, on its own, still knows the shapes of its tensors.
    let own = described.tensors.get(name).map(|tensor| tensor.shape.clone());
    let known = own.or_else(|| config::shape(checkpoint.config()?, name).map(Vec::from));
    let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    known.filter(|shape| count(shape) == Some(len))
}

fn begin_file(output: &Output, file: &RestoredFile) -> Result<NamedTempFile, Error> {
    let partial = output.create(&file.name)?;
    let path = output.path_of(&file.name);
    // A file of its full length without content, so that tensors can be written in any order.
    partial.as_file().set_len(file.len()).map_err(io("cannot write", &path))?;
    write_all_at(partial.as_file(), &file.head, 0).map_err(io("cannot write", &path))?;
    Ok(partial)
}

/// Where each tensor goes.
struct Places<'a>(BTreeMap<&'a str, Place<'a>>);

struct Place<'a> {
    file: &'a NamedTempFile,
    /// The name the file will have.
    path: PathBuf,
    start: u64,
}

impl<'a> Places<'a> {
    fn new(files: &'a [RestoredFile], partial: &'a [NamedTempFile], output: &Output) -> Self {
        let places = files.iter().zip(partial).flat_map(|(file, partial)| {
            let path = output.path_of(&file.name);
            file.tensors.iter().map(move |tensor| {
                (tensor.name.as_str(), Place { file: partial, path: path.clone(), start: tensor.range.start })
            })
        });
        Places(places.collect())
    }
}

/// A tensor that is being written and hashed.
struct Sink<'a> {
    place: &'a Place<'a>,
    sha256: Sha256,
}

impl<'a> Sink<'a> {
    /// `None` for a tensor that the original did not have.
    fn new(places: &'a Places<'a>, name: &str) -> Option<Self> {
        places.0.get(name).map(|place| Sink { place, sha256: Sha256::new() })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.sha256.update(bytes);
        write_all_at(self.place.file.as_file(), bytes, self.place.start + offset)
            .map_err(io("cannot write", &self.place.path))
    }

    fn finish(self, name: &str, from: &Path, described: &Described) -> Result<(), Error> {
        if let Some(digest) = described.digest(name)
            && hex::encode(self.sha256.finalize()) != digest
        {
            return Err(Error::tensor(from, name, DIGEST_DIFFERS));
        }
        Ok(())
    }
}

pub(crate) const DIGEST_DIFFERS: &str =
    "does not have the SHA-256 of the original; the file is damaged, download or compress it again";

fn restore_unit(
    unit: &PackedUnit<'_>,
    names: &[String],
    places: &Places<'_>,
    described: &Described,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mapped = unit.map()?;
    let mut sinks: Vec<_> = names.iter().map(|name| Sink::new(places, name)).collect();
    packed::decode(&mapped, &mapped.unit()?, |tensor, offset, bytes| {
        progress.advance(bytes.len() as u64);
        sinks[tensor].as_mut().map_or(Ok(()), |sink| sink.write(offset as u64, bytes))
    })?;
    for (sink, name) in sinks.into_iter().zip(names) {
        sink.map_or(Ok(()), |sink| sink.finish(name, &unit.container().path, described))?;
    }
    Ok(())
}

fn restore_plain(
    container: &Container,
    tensor: &Tensor,
    places: &Places<'_>,
    described: &Described,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let Some(mut sink) = Sink::new(places, &tensor.name) else { return Ok(()) };
    if described.framed(&tensor.name).is_some() {
        framed::decode(container, tensor, |offset, elements| {
            progress.advance(elements.len() as u64);
            sink.write(offset as u64, elements)
        })?;
        return sink.finish(&tensor.name, &container.path, described);
    }
    let mut offset = 0;
    container.read(tensor, |chunk| {
        sink.write(offset, chunk)?;
        offset += chunk.len() as u64;
        progress.advance(chunk.len() as u64);
        Ok(())
    })?;
    sink.finish(&tensor.name, &container.path, described)
}

/// Writes everything that is not weights: the index, the config, tokenizers.
fn restore_companions(
    checkpoint: &Checkpoint,
    original: Option<&CheckpointMetadata>,
    output: &Output,
    warnings: &mut Vec<String>,
) -> Result<(), Error> {
    if let Some(index) = original.and_then(|original| original.index.as_ref()) {
        let (name, text) = index.checked().map_err(|problem| Error::file(&checkpoint.path, problem))?;
        output.write(name, text.as_bytes())?;
    }
    for name in &checkpoint.companions {
        copy(&checkpoint.path.join(name), output, name)?;
    }
    let Some((text, value)) = &checkpoint.config else { return Ok(()) };
    let restored = match original {
        // The original had none; ours holds nothing but `dfloat11_config`.
        Some(CheckpointMetadata { config: None, .. }) => return Ok(()),
        Some(CheckpointMetadata { config: Some(metadata), .. }) => {
            config::take_out(text, metadata).or_else(|| {
                warnings.push(
                    "config.json was changed after compression; dfloat11_config was taken out of it"
                        .to_owned(),
                );
                None
            })
        }
        None => None,
    };
    let restored = match restored {
        Some(text) => text,
        // What JSON cannot express would be lost in writing the config anew.
        None if serde_json::from_str::<serde_json::Value>(text).is_err() => {
            warnings.push(
                "config.json holds infinities or NaN; it is copied with dfloat11_config in it".to_owned(),
            );
            text.clone()
        }
        None => {
            config::without(value).map_err(|problem| Error::file(&checkpoint.path.join(CONFIG), problem))?
        }
    };
    output.write(Path::new(CONFIG), restored.as_bytes())
}
