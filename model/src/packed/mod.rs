//! An opened compressed checkpoint.
//!
//! Every operation that reads the output of this program, or of a published one, uses [`Packed`].
//! It finds the record of the originals, the units, the frames and the plain tensors of every
//! folder, and all other files. Units and frames are checked once, when they are mapped, where they
//! are used.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use df11::bf16;
use safetensors::tensor::Dtype;

use crate::checkpoint::{LeftOut, Source, Weights, read_text};
use crate::config;
use crate::container::Container;
use crate::error::{Error, io};
use crate::names::{MANIFEST, folder_of, is_weights, portable, tensor_name};
use crate::partition::pattern::PatternDict;
use crate::store::{self, Object};

pub(crate) mod frame;
pub(crate) mod manifest;
pub(crate) mod metadata;
pub(crate) mod open;
pub(crate) mod unit;

use manifest::{Kept, Manifest};
use metadata::{Described, TensorMetadata};
use unit::PackedUnit;

/// The key of the manifest in the metadata of a checkpoint that is one file.
pub(crate) const MANIFEST_KEY: &str = "df11.manifest";

/// The largest number of tensors in a unit. Published dictionaries list at most 14. A larger claim
/// would cost memory.
const MAX_UNIT_TENSORS: usize = 1 << 16;

/// A compressed checkpoint.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) path: PathBuf,
    /// The directory that file names are relative to.
    pub(crate) root: PathBuf,
    pub(crate) is_file: bool,
    /// The record of the originals.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) parts: Vec<Part>,
    /// Files that hold no tensors of the parts, ordered by name.
    pub(crate) others: Vec<PathBuf>,
    /// All other files.
    pub(crate) left_out: Vec<LeftOut>,
    /// Warnings for the user.
    pub(crate) warnings: Vec<String>,
}

/// The weights of one folder.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) weights: Weights,
    pub(crate) described: Described,
    pub(crate) units: Vec<PackedUnit>,
    /// Tensors in no unit.
    pub(crate) singles: Vec<Single>,
}

/// A tensor that is stored on its own.
#[derive(Debug)]
pub(crate) struct Single {
    pub(crate) place: (usize, usize),
    /// The original tensor, if this one is stored as a frame or a delta.
    pub(crate) frame: Option<TensorMetadata>,
}

/// The names of the tensors that each unit decodes to, by module path.
pub(crate) type Names = BTreeMap<String, Vec<String>>;

impl Packed {
    /// Opens a checkpoint, compressed or not.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut source = Source::open_packed(path)?;
        let mut manifest = if source.is_file { None } else { read_manifest(&source)? };
        let strangers = match &manifest {
            Some(manifest) => set_strangers_aside(&mut source, manifest)?,
            None => strangers_without_manifest(&mut source)?,
        };
        let mut parts = Vec::new();
        for weights in source.weights()? {
            parts.push(Part::new(weights)?);
        }
        // A plain checkpoint may have variants of its weights side by side.
        if parts.iter().any(Part::is_compressed) {
            let lots: Vec<&Weights> = parts.iter().map(|part| &part.weights).collect();
            refuse_doubles(&lots, &source, &strangers)?;
        }
        if source.is_file
            && let Some(text) = parts[0].weights.files[0].container.metadata.get(MANIFEST_KEY)
        {
            let unsealed = Manifest::unseal(text).map_err(|problem| Error::file(path, problem))?;
            manifest = Some(unsealed);
        }
        let mut others = std::mem::take(&mut source.others);
        others.retain(|name| name != Path::new(MANIFEST));
        others.extend(strangers);
        let original = parts.iter().find_map(|part| part.described.checkpoint.as_ref());
        if let (None, Some(original)) = (&manifest, original) {
            manifest = Some(Manifest::of_0_1(original, path, &others)?);
        }
        let Source { root, is_file, left_out, .. } = source;
        let path = path.to_owned();
        let mut packed =
            Packed { path, root, is_file, manifest, parts, others, left_out, warnings: Vec::new() };
        packed.forget_merged()?;
        Ok(packed)
    }

    /// Drops metadata that no longer describe these files. If another program saved the checkpoint
    /// again, they may belong to other files, or describe only some of the tensors. In both cases
    /// they are no record.
    fn forget_merged(&mut self) -> Result<(), Error> {
        for part in &mut self.parts {
            part.forget_merged();
        }
        let described = self.parts.iter().any(|part| part.described.files > 0);
        if described && self.manifest.is_none() && !self.is_file {
            self.warnings.push(format!(
                "the file that records the originals ({MANIFEST}) is missing: plain tensors are what can be had"
            ));
        }
        let recorded_by_0_1 = self.parts.iter().any(|part| part.described.checkpoint.is_some());
        if recorded_by_0_1 && let Some(manifest) = &self.manifest {
            // The digests stand beside the tensors. Where they are gone, the record is gone too.
            let has_digest = |name: &str| self.parts[0].described.digest(name).is_some();
            let known = self.parts[0].all_names();
            let lost = known.iter().any(|name| !has_digest(name)) && !manifest.inputs.is_empty();
            if lost && self.parts.len() == 1 {
                self.warnings.push(
                    "another program saved these files again, and the record of the originals with them only in \
                     part: plain tensors are what can be had"
                        .to_owned(),
                );
                self.manifest = None;
            }
        }
        Ok(())
    }

    /// Tells whether anything in it is compressed, or is recorded as compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.manifest.is_some() || self.parts.iter().any(Part::is_compressed)
    }

    /// Tells whether every file of the original is recorded. Version 0.1 recorded only weights.
    pub(crate) fn has_full_record(&self) -> bool {
        let by_0_1 = self.parts.iter().any(|part| part.described.checkpoint.is_some());
        self.manifest.is_some() && !by_0_1
    }

    /// Checks that the configs describe the known layout version (D-10.3).
    pub(crate) fn check_configs(&self) -> Result<(), Error> {
        self.parts.iter().try_for_each(|part| check_config(&part.weights))
    }

    /// Returns the path of a recorded output, or of the file in its place.
    pub(crate) fn output_path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Part {
    pub(crate) fn new(weights: Weights) -> Result<Self, Error> {
        let described = Described::collect(&weights)?;
        let (units, plain) = unit::units(&weights)?;
        let mut singles = Vec::with_capacity(plain.len());
        for place in plain {
            let (container, tensor) = weights.at(place);
            let mut frame = described.framed(&tensor.name).cloned();
            if frame.is_none()
                && !container.metadata.contains_key(metadata::KEY)
                && frame::looks_like_one(container, tensor)?
                && let Ok((dtype, shape)) = frame::described(container, tensor)
            {
                // The record is gone, but the frame itself says what it holds.
                frame = Some(TensorMetadata {
                    name: tensor.name.clone(),
                    dtype: dtype.to_string(),
                    shape,
                    sha256: String::new(),
                    file: String::new(),
                    frame: true,
                    delta: None,
                });
            }
            singles.push(Single { place, frame });
        }
        Ok(Part { weights, described, units, singles })
    }

    pub(crate) fn is_compressed(&self) -> bool {
        !self.units.is_empty() || self.described.files > 0 || self.singles.iter().any(|s| s.frame.is_some())
    }

    /// Collects the names that metadata give to units and to tensors on their own.
    fn all_names(&self) -> HashSet<&str> {
        let named = self.units.iter().filter_map(|unit| self.described.units.get(&unit.path)).flatten();
        let unnamed = self.units.iter().filter(|unit| !self.described.units.contains_key(&unit.path));
        let singles = self.singles.iter().map(|single| self.weights.at(single.place).1.name.as_str());
        named.map(String::as_str).chain(unnamed.map(|unit| unit.path.as_str())).chain(singles).collect()
    }

    /// Removes the metadata of tensors that do not exist.
    fn forget_merged(&mut self) {
        let there: HashSet<String> = self.units.iter().map(|unit| unit.path.clone()).collect();
        self.described.units.retain(|path, _| there.contains(path));
    }

    /// Names the tensors of each unit: from metadata, else from a dictionary, else by number. For
    /// units that nothing describes, `count` returns the number of tensors.
    pub(crate) fn name_units(
        &self,
        given: Option<&PatternDict>,
        warnings: &mut Vec<String>,
    ) -> Result<Names, Error> {
        let mut names = Names::new();
        let mut open: Vec<&PackedUnit> = Vec::new();
        for unit in &self.units {
            match self.described.units.get(&unit.path) {
                Some(tensors) => {
                    names.insert(unit.path.clone(), tensors.clone());
                }
                None => open.push(unit),
            }
        }
        if open.is_empty() {
            return Ok(names);
        }
        let own = self.weights.config().and_then(config::pattern_dict).unwrap_or_default();
        open.retain(|unit| !names.contains_key(&unit.path));
        let dict = given.unwrap_or(&own);
        let named = dict.for_each(|pattern| {
            open.retain(|unit| {
                let matches = pattern.matches(&unit.path);
                if matches {
                    names.insert(unit.path.clone(), pattern.tensors(&unit.path));
                }
                !matches
            });
            Ok(())
        });
        named.map_err(|problem| match given {
            Some(_) => Error::Usage(problem),
            None => Error::file(&self.weights.config_path(), problem),
        })?;
        for unit in open {
            let count = unit.tensors(&self.weights);
            check_count(unit, &self.weights, count)?;
            let tensors = if count == 1 {
                vec![tensor_name(&unit.path, "weight")]
            } else {
                warnings.push(format!(
                    "unit {} is in no pattern dictionary: its {count} tensors are numbered (a dictionary can be \
                     given)",
                    unit.path
                ));
                (0..count).map(|i| tensor_name(&unit.path, &format!("{i}.weight"))).collect()
            };
            names.insert(unit.path.clone(), tensors);
        }
        Ok(names)
    }

    /// Returns the number of elements of each tensor of a unit. Checks that this number of tensors
    /// matches the names.
    pub(crate) fn lengths(
        &self,
        unit: &PackedUnit,
        view: &df11::Unit<'_>,
        names: &[String],
    ) -> Result<Vec<usize>, Error> {
        let count = view.tensors();
        check_count(unit, &self.weights, count)?;
        if names.len() != count {
            let problem = format!(
                "unit {} is cut into {count} tensors, but {} are named for it",
                unit.path,
                names.len()
            );
            return Err(Error::file(unit.file(&self.weights), problem));
        }
        Ok(view.tensor_ranges().map(|range| range.len()).collect())
    }

    /// Finds the shape of a unit's tensor with this number of elements, if anything records it.
    pub(crate) fn shape_of(&self, name: &str, len: usize) -> Option<Vec<usize>> {
        // A file of one of this program's checkpoints, on its own, still records the shapes of its
        // tensors.
        let own = self.described.tensors.get(name).map(|tensor| tensor.shape.clone());
        let known = own.or_else(|| config::shape(self.weights.config()?, name).map(Vec::from));
        let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        known.filter(|shape| count(shape) == Some(len))
    }

    /// Returns the number of bytes that a tensor on its own decodes to.
    pub(crate) fn decoded_bytes(&self, single: &Single) -> Result<u64, Error> {
        let (container, tensor) = self.weights.at(single.place);
        match &single.frame {
            Some(original) if original.delta.is_some() => {
                crate::delta::original_bytes(container, tensor, original)
            }
            Some(original) => frame::original_bytes(container, tensor, original),
            None => Ok(tensor.bytes()),
        }
    }

    /// Returns the number of bytes that the metadata claim for a unit's tensors. They are compared
    /// with the unit when it is decoded.
    pub(crate) fn said_bytes(&self, name: &str) -> Option<u64> {
        let tensor = self.described.tensors.get(name)?;
        frame::elements(&tensor.shape)?.checked_mul(bf16::BYTES as u64)
    }

    /// Checks that the metadata of a plain tensor match its header.
    pub(crate) fn check_plain(&self, single: &Single) -> Result<(), Error> {
        let (container, tensor) = self.weights.at(single.place);
        let Some(said) = self.described.tensors.get(&tensor.name).filter(|_| single.frame.is_none()) else {
            return Ok(());
        };
        if said.dtype != tensor.dtype.to_string() || said.shape != tensor.shape {
            let problem = format!(
                "is {} of shape {:?}, but was {} of shape {:?}",
                tensor.dtype, tensor.shape, said.dtype, said.shape
            );
            return Err(Error::tensor(&container.path, &tensor.name, problem));
        }
        Ok(())
    }
}

/// Checks that a config describes the known layout version (D-10.3).
pub(crate) fn check_config(weights: &Weights) -> Result<(), Error> {
    let wrong = |problem| Error::file(&weights.config_path(), problem);
    weights.config().map_or(Ok(()), |config| config::check(config).map_err(wrong))
}

/// Parses the name of an original element type.
pub(crate) fn dtype_of(name: &str) -> Option<Dtype> {
    serde_json::from_value(name.into()).ok()
}

fn check_count(unit: &PackedUnit, weights: &Weights, count: usize) -> Result<(), Error> {
    if count > MAX_UNIT_TENSORS {
        let problem = format!(
            "unit {} is cut into {count} tensors; at most {MAX_UNIT_TENSORS} are accepted",
            unit.path
        );
        return Err(Error::file(unit.file(weights), problem));
    }
    Ok(())
}

/// Reads the manifest of a directory.
fn read_manifest(source: &Source) -> Result<Option<Manifest>, Error> {
    if !source.others.iter().any(|name| name == Path::new(MANIFEST)) {
        return Ok(None);
    }
    let path = source.root.join(MANIFEST);
    let text = read_text(&path)?;
    Manifest::unseal(&text).map(Some).map_err(|problem| Error::file(&path, problem))
}

/// Keeps the weight files that the manifest names, and returns the others. All files that it names
/// must exist.
fn set_strangers_aside(source: &mut Source, manifest: &Manifest) -> Result<Vec<PathBuf>, Error> {
    let recorded: HashSet<&str> =
        manifest.outputs.iter().filter(|output| output.weights).map(|output| output.name.as_str()).collect();
    let there: HashSet<String> = source.weights.iter().filter_map(|name| portable(name)).collect();
    if let Some(missing) = recorded.iter().find(|name| !there.contains(**name)) {
        let problem = format!(
            "is not there, but {MANIFEST}, which records the originals, names it; copy or download it again"
        );
        return Err(Error::file(&source.root.join(missing), problem));
    }
    let is_ours = |name: &PathBuf| portable(name).is_some_and(|name| recorded.contains(name.as_str()));
    let (ours, strangers) = std::mem::take(&mut source.weights).into_iter().partition(is_ours);
    source.weights = ours;
    Ok(strangers)
}

/// Where some files have metadata and others do not, the others were added later. Sets those aside.
fn strangers_without_manifest(source: &mut Source) -> Result<Vec<PathBuf>, Error> {
    if source.weights.len() < 2 {
        return Ok(Vec::new());
    }
    let mut says = Vec::with_capacity(source.weights.len());
    for name in &source.weights {
        says.push(Container::open(&source.root.join(name))?.metadata.contains_key(metadata::KEY));
    }
    if !says.contains(&true) {
        return Ok(Vec::new());
    }
    let mut says = says.into_iter();
    let (ours, strangers) =
        std::mem::take(&mut source.weights).into_iter().partition(|_| says.next().unwrap_or(true));
    source.weights = ours;
    Ok(strangers)
}

/// Refuses a tensor that occurs twice, because a loader would read one of the two.
fn refuse_doubles(lots: &[&Weights], source: &Source, strangers: &[PathBuf]) -> Result<(), Error> {
    let double = |path: &Path, name: &str, other: &Path| {
        Err(Error::tensor(path, name, format!("is also in {}; keep one of the two files", other.display())))
    };
    let find = |folder: &Path, name: &str| {
        lots.iter().find(|lot| lot.folder == folder && lot.duplicates == 0).and_then(|lot| lot.get(name))
    };
    for lot in lots.iter().filter(|lot| lot.duplicates > 0) {
        for (container, tensor) in lot.iter() {
            if let Some((other, _)) = find(&lot.folder, &tensor.name) {
                return double(&container.path, &tensor.name, &other.path);
            }
        }
    }
    for name in strangers.iter().filter(|name| is_weights(name)) {
        let path = source.root.join(name);
        let Ok(stranger) = Container::open(&path) else { continue };
        for tensor in &stranger.tensors {
            if let Some((other, _)) = find(&folder_of(name), &tensor.name) {
                return double(&path, &tensor.name, &other.path);
            }
        }
    }
    Ok(())
}

/// Returns the length of a file in bytes.
pub(crate) fn file_bytes(path: &Path) -> Result<u64, Error> {
    if store::is_remote(path) {
        return Object::new(path)?.expect_len();
    }
    Ok(std::fs::metadata(path).map_err(io("cannot open", path))?.len())
}

/// Tells whether an input is stored tensor by tensor.
pub(crate) fn is_tensors(kept: &Kept) -> bool {
    matches!(kept, Kept::Tensors { .. })
}
