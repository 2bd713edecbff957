//! Verifies a compressed checkpoint.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decompress::{DIGEST_DIFFERS, check_length};
use super::restoration::Restoration;
use crate::checkpoint::{Source, WeightFile, Weights};
use crate::config;
use crate::container::{Container, Located, Mapped, Tensor};
use crate::delta::{self, Bases};
use crate::error::Error;
use crate::names::{digest, portable};
use crate::ops::report::VerifyReport;
use crate::packed::manifest::{Kept, Manifest, OutputRecord};
use crate::packed::unit::{self, PackedUnit};
use crate::packed::{Names, Packed, Part, file_bytes};
use crate::progress::{Progress, go_on};
use crate::staging::file_digest;
use crate::store;
use crate::{in_parallel, pool};

/// Verifies the checkpoint at `path`: checks every recorded file and every rule of every unit,
/// decodes every weight, and compares digests where they exist. With `against`, also compares every
/// file, and every tensor with its type and shape, with the original checkpoint there, in both
/// directions.
///
/// # Errors
///
/// [`Error`] for the first problem found.
pub fn verify(
    path: impl AsRef<Path>,
    against: Option<&Path>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    verify_all(path.as_ref(), against, &[], (0, 1), threads, progress)
}

/// Verifies one of several shares of a checkpoint, as [`verify`] does: of the units and tensors,
/// each `share.1`-th from number `share.0` on. Files beside weights belong to share 0. The
/// checkpoint is right if all shares are; the figures of their reports add up.
///
/// # Errors
///
/// [`Error`] for the first problem found.
pub fn verify_share(
    path: impl AsRef<Path>,
    against: Option<&Path>,
    share: (usize, usize),
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    verify_all(path.as_ref(), against, &[], share, threads, progress)
}

/// Verifies a checkpoint that may hold deltas, as [`verify`]. With the bases that the deltas were
/// made against, they are decoded and their digests compared; without any, their checksums are
/// compared, which notice damage.
///
/// # Errors
///
/// [`Error`] for the first problem found. A base that is another one than it was is a problem; so
/// is one that is missing, if any is given.
pub fn verify_against_bases(
    path: impl AsRef<Path>,
    against: Option<&Path>,
    bases: &[PathBuf],
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    verify_all(path.as_ref(), against, bases, (0, 1), threads, progress)
}

fn verify_all(
    path: &Path,
    against: Option<&Path>,
    bases: &[PathBuf],
    share: (usize, usize),
    threads: usize,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    let path = &*store::plain(path);
    if share.0 >= share.1 {
        return Err(Error::Usage(format!("there is no share {} of {}", share.0, share.1)));
    }
    let has_bases = !bases.is_empty();
    let bases = Bases::open(bases)?;
    let mut packed = Packed::open(path)?;
    if !packed.is_compressed() {
        return Err(Error::file(
            path,
            "holds no DF11 units; it is not compressed, so there is nothing to verify",
        ));
    }
    packed.check_configs()?;
    if has_bases || against.is_some() {
        bases.expect_all(&packed)?;
    }
    // The record of version 0.1 names the tensors of all files. One file on its own is checked for
    // what it holds.
    let is_whole = !packed.is_file || packed.has_full_record();
    let mut names = Vec::new();
    for part in &packed.parts {
        let named = part.name_units(None, &mut Vec::new())?;
        check_patterns(part, &named)?;
        names.push(named);
    }
    if is_whole && packed.manifest.is_some() {
        Restoration::plan(&packed, None)?;
    }
    let there = check_described(&packed, &names)?;
    let original = against.map(Original::open).transpose()?;
    if let Some(original) = &original {
        original.check_files(&packed)?;
        original.check_names(&packed, &there)?;
    }
    let tensors = there.iter().map(HashSet::len).sum::<usize>();
    let digests: usize = packed.parts.iter().map(|part| part.described.tensors.len()).sum();
    let pool = pool(threads)?;
    let is_first = share.0 == 0;
    let mut report = VerifyReport {
        units: 0,
        elements: 0,
        frames: 0,
        deltas: 0,
        plain_tensors: 0,
        digests_checked: if is_first { digests } else { 0 },
        digests_missing: if is_first { tensors - digests } else { 0 },
        files_checked: if is_first { pool.install(|| check_outputs(&packed))? } else { 0 },
        compared: original.as_ref().map(|original| if is_first { original.tensors } else { 0 }),
    };
    let mut number = 0;
    let mut is_in_share = || {
        number += 1;
        (number - 1) % share.1 == share.0
    };
    for part in &mut packed.parts {
        part.units.retain(|_| is_in_share());
        part.singles.retain(|_| is_in_share());
    }
    let original = original.as_ref();
    let decodes = has_bases || original.is_some();
    let check = Check { packed: &packed, names: &names, original, bases: &bases, decodes, progress };
    report.units = packed.parts.iter().map(|part| part.units.len()).sum();
    progress.begin("verifying", check.bytes());
    for (i, part) in packed.parts.iter().enumerate() {
        report.elements += pool.install(|| check.units(i, part))?;
        pool.install(|| check.singles(i, part))?;
        let plain = part.singles.iter().filter(|single| single.frame.is_none()).count();
        let deltas = part.singles.iter().filter(|single| delta::is_one(single)).count();
        report.plain_tensors += plain;
        report.deltas += deltas;
        report.frames += part.singles.len() - plain - deltas;
    }
    Ok(report)
}

/// Checks that everything that the metadata describe exists. Returns the names of all tensors, part
/// by part.
fn check_described<'a>(packed: &'a Packed, names: &'a [Names]) -> Result<Vec<HashSet<&'a str>>, Error> {
    let mut all = Vec::new();
    for (part, names) in packed.parts.iter().zip(names) {
        let mut there: HashSet<&str> = names.values().flatten().map(String::as_str).collect();
        for single in &part.singles {
            part.check_plain(single)?;
            there.insert(&part.weights.at(single.place).1.name);
        }
        if let Some(missing) = part.described.tensors.keys().find(|name| !there.contains(name.as_str())) {
            let problem = "has a digest, but is not there; download the file again";
            return Err(Error::tensor(&packed.path, missing, problem));
        }
        all.push(there);
    }
    Ok(all)
}

/// Compares every file that was written with its record. For weight files, it compares the bytes
/// before the data; the data have digests of their own.
fn check_outputs(packed: &Packed) -> Result<usize, Error> {
    let Some(manifest) = packed.manifest.as_ref().filter(|_| !packed.is_file && packed.has_full_record())
    else {
        return Ok(0);
    };
    let weights: HashMap<&str, &Container> = packed
        .parts
        .iter()
        .flat_map(|part| &part.weights.files)
        .map(|file| (file.name.as_str(), &file.container))
        .collect();
    manifest.outputs.par_iter().try_for_each(|output| {
        let OutputRecord { name, bytes, sha256, .. } = output;
        let path = packed.output_path(name);
        let (found_bytes, found) = match weights.get(name.as_str()) {
            Some(container) => (container.len, digest(&container.head())),
            None if !store::is_file(&path)? => {
                return Err(Error::file(&path, "is recorded, but is not there; copy or download it again"));
            }
            None => (file_bytes(&path)?, file_digest(&path)?),
        };
        if (found_bytes, &found) == (*bytes, sha256) {
            return Ok(());
        }
        let problem = "was changed or damaged after it was written: it does not have the length and the SHA-256 \
                       that are recorded";
        Err(Error::file(&path, problem))
    })?;
    Ok(manifest.outputs.len())
}

/// Checks that a loader that goes by `config.json` finds the tensors of each unit (D-10.4).
fn check_patterns(part: &Part, names: &Names) -> Result<(), Error> {
    let Some(dict) = part.weights.config().and_then(config::pattern_dict) else { return Ok(()) };
    let wrong = |problem: String| Error::file(&part.weights.config_path(), problem);
    let mut open: Vec<&PackedUnit> = part.units.iter().collect();
    let checked = dict.for_each(|pattern| {
        open.retain(|unit| {
            let gives = |unit: &PackedUnit| pattern.tensors(&unit.path) == names[&unit.path];
            !(pattern.matches(&unit.path) && gives(unit))
        });
        Ok(())
    });
    checked.map_err(wrong)?;
    match open.first() {
        None => Ok(()),
        Some(unit) => {
            Err(wrong(format!("no entry of its pattern_dict gives the tensors of unit {}", unit.path)))
        }
    }
}

/// The original checkpoint to compare with.
struct Original {
    source: Source,
    /// The weight files, by file name.
    files: BTreeMap<String, std::sync::Arc<WeightFile>>,
    lots: Vec<Weights>,
    tensors: usize,
}

impl Original {
    fn open(path: &Path) -> Result<Self, Error> {
        let source = Source::open(path, None)?;
        let lots = source.weights()?;
        let files: BTreeMap<_, _> = lots
            .iter()
            .flat_map(|lot| &lot.files)
            .map(|file| (file.name.clone(), std::sync::Arc::clone(file)))
            .collect();
        let tensors = files.values().map(|file| file.container.tensors.len()).sum();
        Ok(Original { source, files, lots, tensors })
    }

    /// Compares the files of the original with the record, in both directions.
    fn check_files(&self, packed: &Packed) -> Result<(), Error> {
        let Some(manifest) = packed.manifest.as_ref().filter(|_| packed.has_full_record()) else {
            return Ok(());
        };
        let inputs: HashMap<&str, _> =
            manifest.inputs.iter().map(|input| (input.name.as_str(), input)).collect();
        let names = self.source.weights.iter().chain(&self.source.others);
        let left = self.source.left_out.iter().filter(|left| left.is_file).map(|left| &left.name);
        let mut there = BTreeSet::new();
        for name in names.chain(left) {
            let path = self.path_of(name);
            let text = portable(name).unwrap_or_else(|| name.to_string_lossy().into_owned());
            let Some(input) = inputs.get(text.as_str()) else {
                // A single file may be compared with what is left of a directory.
                if self.source.is_file {
                    continue;
                }
                return Err(Error::file(&path, "is in the original, but not here"));
            };
            there.insert(text.clone());
            let same_header = match (&input.kept, self.files.get(&text)) {
                (Kept::Tensors { header }, Some(file)) => *header == file.container.header,
                // Compared tensor by tensor below, or by its bytes here.
                _ => input.bytes == file_bytes(&path)? && input.sha256 == file_digest(&path)?,
            };
            if !same_header {
                return Err(Error::file(&path, "differs from what was compressed"));
            }
        }
        self.check_missing(packed, manifest, &there)
    }

    fn path_of(&self, name: &Path) -> PathBuf {
        if self.source.is_file { self.source.path.clone() } else { self.source.root.join(name) }
    }

    fn check_missing(
        &self,
        packed: &Packed,
        manifest: &Manifest,
        there: &BTreeSet<String>,
    ) -> Result<(), Error> {
        if self.source.is_file || packed.is_file {
            return Ok(());
        }
        let is_file = |input: &&crate::packed::manifest::Input| !input.sha256.is_empty();
        match manifest.inputs.iter().filter(is_file).find(|input| !there.contains(&input.name)) {
            Some(input) => {
                let path = self.source.root.join(&input.name);
                Err(Error::file(&path, "was compressed, but is not in the original"))
            }
            None => Ok(()),
        }
    }

    /// Checks that all tensors of the original exist here.
    fn check_names(&self, packed: &Packed, there: &[HashSet<&str>]) -> Result<(), Error> {
        for lot in &self.lots {
            let missing =
                lot.tensors.keys().find(|name| !there.iter().any(|part| part.contains(name.as_str())));
            let is_copied = |name: &String| {
                let &(file, _) = &lot.tensors[name];
                let inputs = packed.manifest.iter().flat_map(|manifest| &manifest.inputs);
                let mut copied = inputs.filter(|input| !crate::packed::is_tensors(&input.kept));
                copied.any(|input| input.name == lot.files[file].name)
            };
            if let Some(name) = missing
                && !is_copied(name)
            {
                return Err(Error::tensor(&packed.path, name, "is in the original, but not here"));
            }
        }
        Ok(())
    }

    /// Finds a tensor of the original: in the file that the metadata name, or by its name alone.
    fn get(&self, part: &Part, name: &str) -> Option<Located<'_>> {
        let described = part.described.tensors.get(name);
        let of_file = described.and_then(|tensor| self.files.get(&tensor.file)).and_then(|file| {
            let tensor = file.container.tensors.iter().find(|tensor| tensor.name == name)?;
            Some((&file.container, tensor))
        });
        let in_folder = |lot: &&Weights| lot.folder == part.weights.folder;
        let lots = || self.lots.iter().filter(in_folder).chain(&self.lots);
        of_file.or_else(|| lots().find_map(|lot| lot.get(name)))
    }
}

/// The digests and the original that tensors are compared with.
struct Check<'a> {
    bases: &'a Bases,
    /// Whether deltas are decoded.
    decodes: bool,
    packed: &'a Packed,
    names: &'a [Names],
    original: Option<&'a Original>,
    progress: &'a dyn Progress,
}

/// A tensor during its comparison.
struct Checked<'a> {
    name: &'a str,
    from: &'a Path,
    digest: Option<(&'a str, Sha256)>,
    original: Option<Mapped>,
}

impl<'a> Check<'a> {
    fn bytes(&self) -> u64 {
        let of_part = |part: &Part| {
            let units = part.units.iter().map(|unit| unit.bytes(&part.weights)).sum::<u64>();
            let singles = part.singles.iter().map(|single| part.weights.at(single.place).1.bytes());
            units + singles.sum::<u64>()
        };
        self.packed.parts.iter().map(of_part).sum()
    }

    fn units(&self, number: usize, part: &'a Part) -> Result<u64, Error> {
        let elements = in_parallel(&part.units).map(|unit| {
            let from = unit.file(&part.weights);
            let names = &self.names[number][&unit.path];
            let mapped = unit.map(&part.weights)?;
            let view = mapped.unit()?;
            let mut tensors = Vec::new();
            for (name, len) in names.iter().zip(part.lengths(unit, &view, names)?) {
                let said = part.said_bytes(name).unwrap_or(2 * len as u64);
                check_length(from, name, 2 * len as u64, said)?;
                tensors.push(self.begin(part, name, 2 * len as u64, from)?);
            }
            unit::decode(&mapped, &view, |tensor, offset, bytes| {
                go_on(self.progress)?;
                tensors[tensor].update(offset, bytes)
            })?;
            for tensor in tensors {
                tensor.finish()?;
            }
            self.progress.advance(unit.bytes(&part.weights));
            Ok(view.len() as u64)
        });
        elements.collect::<Result<Vec<u64>, Error>>().map(|elements| elements.into_iter().sum())
    }

    fn singles(&self, _number: usize, part: &'a Part) -> Result<(), Error> {
        in_parallel(&part.singles).try_for_each(|single| {
            let (container, tensor): (&Container, &Tensor) = part.weights.at(single.place);
            let bytes = part.decoded_bytes(single)?;
            let mut state = self.begin(part, &tensor.name, bytes, &container.path)?;
            if let Some(original) = &single.frame {
                if original.delta.is_some() && !self.decodes {
                    self.progress.advance(tensor.bytes());
                    return delta::verify_stored(container, tensor);
                }
                delta::decode(self.bases, container, tensor, original, |offset, elements| {
                    go_on(self.progress)?;
                    state.update(offset, elements)
                })?;
            } else {
                let mut offset = 0;
                container.read(tensor, |chunk| {
                    go_on(self.progress)?;
                    state.update(offset, chunk)?;
                    offset += chunk.len();
                    Ok(())
                })?;
            }
            self.progress.advance(tensor.bytes());
            state.finish()
        })
    }

    fn begin<'b>(
        &self,
        part: &'b Part,
        name: &'b str,
        bytes: u64,
        from: &'b Path,
    ) -> Result<Checked<'b>, Error> {
        let original = match self.original {
            None => None,
            Some(original) => {
                let (container, tensor) = original
                    .get(part, name)
                    .ok_or_else(|| Error::tensor(from, name, "is not in the original"))?;
                if tensor.bytes() != bytes {
                    let problem = format!("has {bytes} bytes, but {} in the original", tensor.bytes());
                    return Err(Error::tensor(from, name, problem));
                }
                check_type(part, name, tensor, from)?;
                Some(container.map(tensor)?)
            }
        };
        let digest = part.described.digest(name).map(|digest| (digest, Sha256::new()));
        Ok(Checked { name, from, digest, original })
    }
}

/// Compares the type and the shape of a tensor, as far as they are known, with the original.
fn check_type(part: &Part, name: &str, original: &Tensor, from: &Path) -> Result<(), Error> {
    let said = part.described.tensors.get(name).map(|tensor| (tensor.dtype.clone(), tensor.shape.clone()));
    let stored = part.weights.get(name).map(|(_, tensor)| (tensor.dtype.to_string(), tensor.shape.clone()));
    let is_frame = |(dtype, _): &(String, Vec<usize>)| dtype == "U8" && original.dtype.to_string() != "U8";
    let Some((dtype, shape)) = said.or_else(|| stored.filter(|stored| !is_frame(stored))) else {
        return Ok(());
    };
    if dtype != original.dtype.to_string() || shape != original.shape {
        let problem = format!(
            "is {dtype} of shape {shape:?}, but {} of shape {:?} in the original",
            original.dtype, original.shape
        );
        return Err(Error::tensor(from, name, problem));
    }
    Ok(())
}

impl Checked<'_> {
    fn update(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        if let Some((_, sha256)) = &mut self.digest {
            sha256.update(bytes);
        }
        match &self.original {
            Some(original) if original.get(offset..offset + bytes.len()) != Some(bytes) => {
                let problem = format!("differs from the original near byte {offset}");
                Err(Error::tensor(self.from, self.name, problem))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Error> {
        if let Some((digest, sha256)) = self.digest
            && hex::encode(sha256.finalize()) != digest
        {
            return Err(Error::tensor(self.from, self.name, DIGEST_DIFFERS));
        }
        Ok(())
    }
}
