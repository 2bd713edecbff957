//! Plans what a compressed checkpoint restores to: which files, and where each tensor goes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use df11::bf16;
use safetensors::tensor::Dtype;

use crate::container::{Layout, Tensor, head, parse_header};
use crate::error::Error;
use crate::names::relative;
use crate::packed::manifest::{Kept, Manifest};
use crate::packed::{Names, Packed, Part, dtype_of};
use crate::partition::pattern::PatternDict;

/// The file that takes a folder's plain tensors where nothing records the originals.
const FOREIGN: &str = "model.safetensors";

/// A weight file to be written.
#[derive(Debug)]
pub(super) struct RestoredFile {
    pub(super) name: PathBuf,
    pub(super) head: Vec<u8>,
    pub(super) tensors: Vec<Tensor>,
    /// The SHA-256 of the file, if it is recorded.
    pub(super) sha256: Option<String>,
}

impl RestoredFile {
    pub(super) fn len(&self) -> u64 {
        self.tensors.last().map_or(self.head.len() as u64, |last| last.range.end)
    }
}

/// The destination of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The number of the file, and of the tensor in that file.
    pub(super) file: usize,
    pub(super) tensor: usize,
    /// The SHA-256 that the tensor must have, if it is known.
    pub(super) sha256: Option<String>,
}

/// The plan of a restoration.
#[derive(Debug)]
pub(super) struct Restoration {
    pub(super) files: Vec<RestoredFile>,
    /// For each part: the tensors of its units.
    pub(super) names: Vec<Names>,
    /// For each part: the destinations of its tensors.
    targets: Vec<HashMap<String, Target>>,
    pub(super) warnings: Vec<String>,
}

impl Restoration {
    /// Plans the restoration of a checkpoint. Checks that every tensor of the originals exists with
    /// its type, shape and length, as far as names and headers tell.
    pub(super) fn plan(packed: &Packed, given: Option<&PatternDict>) -> Result<Self, Error> {
        let mut warnings = packed.warnings.clone();
        let mut names = Vec::new();
        for part in &packed.parts {
            names.push(part.name_units(given, &mut warnings)?);
        }
        let mut all = Restoration { files: Vec::new(), names, targets: Vec::new(), warnings };
        match &packed.manifest {
            Some(manifest) => all.plan_originals(packed, manifest)?,
            None => all.plan_foreign(packed)?,
        }
        Ok(all)
    }

    /// Finds the destination of a part's tensor; `None` for a tensor that the originals did not
    /// have.
    pub(super) fn target(&self, part: usize, name: &str) -> Option<&Target> {
        self.targets[part].get(name)
    }

    /// Returns the file of a target, and the tensor in it.
    pub(super) fn place(&self, target: &Target) -> (&RestoredFile, &Tensor) {
        let file = &self.files[target.file];
        (file, &file.tensors[target.tensor])
    }

    /// Plans the original files from the headers that were kept.
    fn plan_originals(&mut self, packed: &Packed, manifest: &Manifest) -> Result<(), Error> {
        let wrong = |problem: String| Error::file(&packed.path, problem);
        // Keyed by file and name, then by name alone. The value holds the file, the tensor, and
        // whether it was found.
        let mut wanted: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for input in &manifest.inputs {
            let Kept::Tensors { header } = &input.kept else { continue };
            let parsed = parse_header(header)
                .map_err(|problem| wrong(format!("original {}: {problem}", input.name)))?;
            let (head, tensors) = (head(header), parsed.tensors);
            for (at, tensor) in tensors.iter().enumerate() {
                wanted.entry(tensor.name.clone()).or_default().push((self.files.len(), at));
            }
            let name = relative(&input.name)
                .ok_or_else(|| wrong(format!("the record names a file outside: {:?}", input.name)))?;
            let sha256 = Some(input.sha256.clone()).filter(|sha256| !sha256.is_empty());
            self.files.push(RestoredFile { name, head, tensors, sha256 });
        }
        let mut found: HashSet<(usize, usize)> = HashSet::new();
        for (part, names) in packed.parts.iter().zip(&self.names) {
            let mut targets = HashMap::new();
            for stored in stored(part, names)? {
                // If the record omits a stored tensor, restoring would lose it.
                let places = wanted.get(stored.name).ok_or_else(|| {
                    let problem = "is stored here, but in none of the original files that are recorded";
                    Error::tensor(stored.path, stored.name, problem)
                })?;
                let described = part.described.tensors.get(stored.name);
                let of_file = |&&(file, _): &&(usize, usize)| {
                    described.is_none_or(|tensor| self.files[file].name == Path::new(&tensor.file))
                };
                let free = |place: &&(usize, usize)| !found.contains(*place);
                let Some(&(file, tensor)) = places.iter().filter(of_file).find(free) else { continue };
                let original = &self.files[file].tensors[tensor];
                stored.check(part, original)?;
                found.insert((file, tensor));
                let sha256 = described.map(|tensor| tensor.sha256.clone());
                if sha256.is_none() && self.files[file].sha256.is_none() {
                    let problem = "has no digest of the original beside it";
                    return Err(Error::tensor(stored.path, stored.name, problem));
                }
                targets.insert(stored.name.to_owned(), Target { file, tensor, sha256 });
            }
            self.targets.push(targets);
        }
        for (file, restored) in self.files.iter().enumerate() {
            let missing = (0..restored.tensors.len()).find(|&tensor| !found.contains(&(file, tensor)));
            if let Some(missing) = missing {
                let problem = "belongs to the original, but is not there; is a file missing?";
                return Err(Error::tensor(&packed.path, &restored.tensors[missing].name, problem));
            }
        }
        Ok(())
    }

    /// Plans one file for all tensors of each folder, where nothing records the originals.
    fn plan_foreign(&mut self, packed: &Packed) -> Result<(), Error> {
        let mut flat = 0;
        for (part, names) in packed.parts.iter().zip(&self.names) {
            let mut entries = Vec::new();
            for stored in stored(part, names)? {
                let shape = stored.shape.unwrap_or_else(|| {
                    flat += 1;
                    vec![(stored.bytes / bf16::BYTES as u64) as usize]
                });
                let entry = Layout::new(stored.name.to_owned(), stored.dtype, shape);
                entries.push(entry.map_err(|problem| Error::file(&part.weights.path, problem))?);
            }
            Layout::sort(&mut entries);
            let metadata = [("format".to_owned(), "pt".to_owned())].into();
            let header = Layout::header(&entries, &metadata, None);
            let header = header.map_err(|problem| Error::file(&part.weights.path, problem))?;
            let parsed = parse_header(&header).map_err(|problem| Error::file(&part.weights.path, problem))?;
            let (head, tensors) = (head(&header), parsed.tensors);
            let targets = tensors.iter().enumerate().map(|(tensor, of)| {
                let sha256 = part.described.digest(&of.name).map(str::to_owned);
                (of.name.clone(), Target { file: self.files.len(), tensor, sha256 })
            });
            self.targets.push(targets.collect());
            let name = part.weights.folder.join(FOREIGN);
            self.files.push(RestoredFile { name, head, tensors, sha256: None });
        }
        if flat > 0 {
            self.warnings.push(format!(
                "{flat} tensors have one dimension: DF11 files of other programs carry no shapes, and config.json \
                 does not give them"
            ));
        }
        Ok(())
    }
}

/// A tensor as a part stores it.
struct StoredTensor<'a> {
    name: &'a str,
    /// The file that holds the tensor, or the code of its unit.
    path: &'a Path,
    dtype: Dtype,
    shape: Option<Vec<usize>>,
    bytes: u64,
}

impl StoredTensor<'_> {
    /// Compares the stored tensor with the recorded original.
    fn check(&self, part: &Part, original: &Tensor) -> Result<(), Error> {
        if self.bytes != original.bytes() {
            let problem = format!("has {} bytes, but had {} in the original", self.bytes, original.bytes());
            return Err(Error::tensor(self.path, self.name, problem));
        }
        // A frame of plain bytes does not know the element type, and a unit of another program does
        // not know the shape.
        let said = part.described.tensors.get(self.name);
        let shape = said.map(|tensor| &tensor.shape).or(self.shape.as_ref());
        let dtype = said.map_or_else(|| self.dtype.to_string(), |tensor| tensor.dtype.clone());
        let same_shape = shape.is_none_or(|shape| *shape == original.shape);
        if dtype != original.dtype.to_string() && (said.is_some() || self.dtype != Dtype::U8) || !same_shape {
            let problem = format!(
                "is {dtype} of shape {:?}, but was {} of shape {:?} in the original",
                shape.map_or(&[][..], Vec::as_slice),
                original.dtype,
                original.shape
            );
            return Err(Error::tensor(self.path, self.name, problem));
        }
        Ok(())
    }
}

/// Lists the tensors that a part stores, and refuses a name that occurs twice.
fn stored<'a>(part: &'a Part, names: &'a Names) -> Result<Vec<StoredTensor<'a>>, Error> {
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    let mut push = |stored: StoredTensor<'a>| {
        if !seen.insert(stored.name) {
            return Err(Error::tensor(stored.path, stored.name, "is there twice; keep one of the two"));
        }
        all.push(stored);
        Ok(())
    };
    for single in &part.singles {
        part.check_plain(single)?;
        let (container, tensor) = part.weights.at(single.place);
        let bytes = part.decoded_bytes(single)?;
        let (dtype, shape) = match &single.frame {
            Some(original) => (dtype_of(&original.dtype).unwrap_or(Dtype::U8), original.shape.clone()),
            None => (tensor.dtype, tensor.shape.clone()),
        };
        let path = container.path.as_path();
        push(StoredTensor { name: &tensor.name, path, dtype, shape: Some(shape), bytes })?;
    }
    for unit in &part.units {
        let tensors = &names[&unit.path];
        let path = unit.file(&part.weights);
        let said: Option<Vec<u64>> = match part.described.units.get(&unit.path) {
            Some(_) => tensors.iter().map(|name| part.said_bytes(name)).collect(),
            None => None,
        };
        // Without metadata, the stored form itself gives the length of its tensors.
        let bytes = match said {
            Some(bytes) => bytes,
            None => {
                let mapped = unit.map(&part.weights)?;
                let lengths = part.lengths(unit, &mapped.unit()?, tensors)?;
                lengths.into_iter().map(|len| (bf16::BYTES * len) as u64).collect()
            }
        };
        for (name, bytes) in tensors.iter().zip(bytes) {
            let shape = part.shape_of(name, (bytes / bf16::BYTES as u64) as usize);
            push(StoredTensor { name, path, dtype: Dtype::BF16, shape, bytes })?;
        }
    }
    Ok(all)
}
