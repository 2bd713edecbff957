//! How a checkpoint is opened: its files mapped, its tensors listed, its units and frames checked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use df11::bf16;

use super::{Place, Reader, ReaderTensor, ReaderUnit};
use crate::checkpoint::Weights;
use crate::container::{Located, Mapped};
use crate::delta::{self, Bases};
use crate::error::Error;
use crate::packed::metadata::TensorMetadata;
use crate::packed::open::{Bytes, OpenFrame, OpenUnit};
use crate::packed::unit::{CODE, PackedUnit};
use crate::packed::{MANIFEST_KEY, Names, Part, Single, check_config, frame, metadata};
use crate::partition::pattern::PatternDict;
use crate::store;

/// How a [`Reader`] opens a checkpoint.
///
/// ```
/// use df11_model::{CompressOptions, ReaderOptions, compress};
/// use safetensors::tensor::{Dtype, TensorView, serialize};
///
/// // A step of training: one weight in ten is one unit in the last place more.
/// let old: Vec<u8> = (0..256 * 256).flat_map(|i: u32| (0x3c00 + (i * 7 % 512) as u16).to_le_bytes()).collect();
/// let mut new = old.clone();
/// new.chunks_mut(20).for_each(|ten| ten[0] = ten[0].wrapping_add(1));
/// let directory = tempfile::tempdir()?;
/// let [base, model, packed] = ["base", "model", "packed"].map(|name| directory.path().join(name));
/// for (folder, weights) in [(&base, &old), (&model, &new)] {
///     let matrix = TensorView::new(Dtype::BF16, vec![256, 256], weights)?;
///     std::fs::create_dir(folder)?;
///     std::fs::write(folder.join("model.safetensors"), serialize([("up_proj.weight", matrix)], None)?)?;
/// }
/// let bases = vec![base];
/// let options = CompressOptions::default().bases(bases.clone());
/// compress(&model, &packed, &options, &())?;
///
/// let reader = ReaderOptions::default().bases(bases).open(&packed)?;
/// let mut row = vec![0; 2 * 256];
/// reader.decode_range_into("up_proj.weight", 3 * 256..4 * 256, &mut row)?;
/// assert_eq!(row, new[2 * 3 * 256..2 * 4 * 256]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// For files of other programs: the dictionary that names the tensors of a unit. By default it
    /// is the one in `config.json`. Tensors that no dictionary names are numbered.
    pub pattern_dict: Option<PatternDict>,
    /// For deltas: the checkpoints that they were made against, in any form, and what those need in
    /// turn. Their tensors are found by digest, whatever their names are. Files stay mapped while
    /// the reader lives. Digests that no file records are computed when the reader opens. Those
    /// that are recorded are compared when a tensor is used for the first time, which decodes all
    /// of it.
    pub bases: Vec<PathBuf>,
    /// Of a checkpoint in a store: fetches all stored bytes once, and keeps them in memory as they
    /// are. For programs that decode all of it again and again.
    pub whole: bool,
}

impl ReaderOptions {
    /// Sets the field [`pattern_dict`](#structfield.pattern_dict).
    #[must_use]
    pub fn pattern_dict(mut self, pattern_dict: PatternDict) -> Self {
        self.pattern_dict = Some(pattern_dict);
        self
    }

    /// Sets the field [`bases`](#structfield.bases).
    #[must_use]
    pub fn bases(mut self, bases: Vec<PathBuf>) -> Self {
        self.bases = bases;
        self
    }

    /// Sets the field [`whole`](#structfield.whole).
    #[must_use]
    pub fn whole(mut self, whole: bool) -> Self {
        self.whole = whole;
        self
    }

    /// Opens the checkpoint at `path`: a safetensors file, or a directory in Hugging Face form.
    ///
    /// # Errors
    ///
    /// [`Error`] if a file cannot be opened or mapped, if a header or unit is invalid, if a tensor
    /// occurs twice, if the dictionary does not fit the units, or if the base of a delta is missing
    /// or another one. That error names the tensor and the digests.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Reader, Error> {
        Reader::open_all(path.as_ref(), self, true)
    }
}

impl Reader {
    /// Opens the checkpoint at `path`: a safetensors file, or a directory in Hugging Face form.
    ///
    /// # Errors
    ///
    /// [`Error`] if a file cannot be opened or mapped, if a header or unit is invalid, if a tensor
    /// occurs twice, or if one is a delta, which takes [`ReaderOptions::bases`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        ReaderOptions::default().open(path)
    }

    /// Opens a checkpoint of another program with the pattern dictionary that names the tensors of
    /// its units. Without a dictionary, the one in `config.json` applies. Tensors that no
    /// dictionary names are numbered.
    ///
    /// # Errors
    ///
    /// The errors of [`open`](Self::open), and an error if the dictionary does not fit the units.
    pub fn open_with(path: impl AsRef<Path>, pattern_dict: Option<&PatternDict>) -> Result<Self, Error> {
        ReaderOptions { pattern_dict: pattern_dict.cloned(), ..ReaderOptions::default() }.open(path)
    }

    /// Opens a checkpoint for programs that decode all of it again and again. Of one in a store,
    /// all stored bytes are fetched once, and kept in memory as they are.
    ///
    /// # Errors
    ///
    /// The errors of [`open_with`](Self::open_with).
    pub fn open_whole(path: impl AsRef<Path>, pattern_dict: Option<&PatternDict>) -> Result<Self, Error> {
        let pattern_dict = pattern_dict.cloned();
        ReaderOptions { pattern_dict, whole: true, ..ReaderOptions::default() }.open(path)
    }

    /// Opens a checkpoint that others are stored against, without its own deltas.
    pub(crate) fn open_base(path: &Path) -> Result<Self, Error> {
        Self::open_all(path, &ReaderOptions::default(), false)
    }

    fn open_all(path: &Path, options: &ReaderOptions, with_deltas: bool) -> Result<Self, Error> {
        let path = &*store::plain(path);
        let part = Part::new(Weights::open(path)?)?;
        check_config(&part.weights)?;
        let names = part.name_units(options.pattern_dict.as_ref(), &mut Vec::new())?;
        let paths = if delta::is_in(&part) { &options.bases[..] } else { &[] };
        let bases = with_deltas.then(|| Bases::open(paths)).transpose()?;
        if store::is_remote(path) && !options.whole {
            return Self::open_ranges(part, &names, bases);
        }
        Self::map(part, &names, bases)
    }

    /// Maps all files and checks all units. Without bases, deltas are left out.
    fn map(part: Part, names: &Names, bases: Option<Bases>) -> Result<Self, Error> {
        let files = part.weights.files.iter();
        let maps: Vec<_> =
            files.map(|file| file.container.map_all().map(Arc::new)).collect::<Result<_, _>>()?;
        let mut opening =
            Opening { part: &part, maps: &maps, tensors: BTreeMap::new(), open_frames: Vec::new() };
        for (number, single) in part.singles.iter().enumerate() {
            match &bases {
                _ if !delta::is_one(single) => opening.single(single)?,
                Some(bases) => opening.delta(number, single, bases)?,
                None => {}
            }
        }
        let (mut units, mut open_units) = (Vec::new(), Vec::new());
        for unit in &part.units {
            let (listed, open) = opening.unit(units.len(), unit, names)?;
            units.push(listed);
            open_units.push(open);
        }
        let Opening { tensors, open_frames, .. } = opening;
        Ok(Reader {
            maps,
            tensors: tensors.into_values().collect(),
            units,
            open_units,
            open_frames,
            ranged: None,
            bases: bases.unwrap_or_default(),
            stored_bytes: part.weights.iter().map(|(_, tensor)| tensor.bytes()).sum(),
            metadata: metadata_of(&part.weights),
            part,
        })
    }
}

/// Collects the metadata of the original files, without what compression added.
pub(super) fn metadata_of(checkpoint: &Weights) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (key, value) in checkpoint.files.iter().flat_map(|file| &file.container.metadata) {
        if key != metadata::KEY && key != MANIFEST_KEY && !all.contains_key(key) {
            all.insert(key.clone(), value.clone());
        }
    }
    all
}

/// Returns the location of a stored tensor.
pub(super) fn stored(weights: &Weights, maps: &[Arc<Mapped>], (file, at): (usize, usize)) -> Bytes {
    let Range { start, end } = weights.files[file].container.tensors[at].range;
    Bytes { file: Arc::clone(&maps[file]), range: start as usize..end as usize }
}

/// The state of a checkpoint while it is opened.
struct Opening<'a> {
    part: &'a Part,
    maps: &'a [Arc<Mapped>],
    tensors: BTreeMap<String, ReaderTensor>,
    open_frames: Vec<OpenFrame>,
}

impl ReaderTensor {
    /// Describes the tensor of these weights of a unit.
    pub(super) fn of_unit(part: &Part, name: &str, unit: usize, weights: Range<usize>) -> Self {
        let len = weights.len();
        ReaderTensor {
            name: name.to_owned(),
            dtype: "BF16".to_owned(),
            shape: part.shape_of(name, len).unwrap_or_else(|| vec![len]),
            elements: len as u64,
            bytes: (bf16::BYTES * len) as u64,
            place: Place::Unit(unit, weights),
        }
    }

    /// Describes a tensor that is stored as a frame or a delta, as its record has it.
    pub(super) fn of_original(
        original: &TensorMetadata,
        stored: Located<'_>,
        place: Place,
    ) -> Result<Self, Error> {
        let elements = counted(stored, &original.shape)?;
        Ok(ReaderTensor {
            name: stored.1.name.clone(),
            dtype: original.dtype.clone(),
            shape: original.shape.clone(),
            elements,
            bytes: original.bytes_of(elements),
            place,
        })
    }
}

/// Counts the elements of a tensor of this shape.
pub(super) fn counted((container, tensor): Located<'_>, shape: &[usize]) -> Result<u64, Error> {
    let problem = "has more elements than can be counted";
    frame::elements(shape).ok_or_else(|| Error::tensor(&container.path, &tensor.name, problem))
}

/// Adds a tensor to those of a checkpoint, unless it is there already.
pub(super) fn insert(
    tensors: &mut BTreeMap<String, ReaderTensor>,
    tensor: ReaderTensor,
    path: &Path,
) -> Result<(), Error> {
    match tensors.insert(tensor.name.clone(), tensor) {
        Some(twice) => Err(Error::tensor(path, &twice.name, "is there twice; keep one of the two")),
        None => Ok(()),
    }
}

impl Opening<'_> {
    fn insert(&mut self, tensor: ReaderTensor, path: &Path) -> Result<(), Error> {
        insert(&mut self.tensors, tensor, path)
    }

    /// Adds a tensor that is stored on its own.
    fn single(&mut self, single: &Single) -> Result<(), Error> {
        let (container, tensor) = self.part.weights.at(single.place);
        let (file, at) = single.place;
        let (dtype, shape, bytes, place) = match &single.frame {
            Some(original) => {
                frame::check_stored(container, tensor)?;
                let open = OpenFrame::open(stored(&self.part.weights, self.maps, single.place))
                    .map_err(|error| Error::frame(&container.path, &tensor.name, error))?;
                let bytes = open.with_frame(|frame| {
                    frame::check_original(frame, original).map(|()| frame.elements_bytes() as u64)
                });
                let bytes = bytes.map_err(|problem| Error::tensor(&container.path, &tensor.name, problem))?;
                let kept = open.is_worth_it().then(|| {
                    self.open_frames.push(open);
                    self.open_frames.len() - 1
                });
                (original.dtype.clone(), original.shape.clone(), bytes, Place::Frame(file, at, kept))
            }
            None => (tensor.dtype.to_string(), tensor.shape.clone(), tensor.bytes(), Place::Plain(file, at)),
        };
        let elements = counted((container, tensor), &shape)?;
        let name = tensor.name.clone();
        self.insert(ReaderTensor { name, dtype, shape, elements, bytes, place }, &container.path)
    }

    /// Adds a tensor that is stored as a delta, of this number among those in no unit.
    fn delta(&mut self, number: usize, single: &Single, bases: &Bases) -> Result<(), Error> {
        let (container, tensor) = self.part.weights.at(single.place);
        let Some(original) = &single.frame else { return Ok(()) };
        let bytes = stored(&self.part.weights, self.maps, single.place);
        let bytes = delta::original_bytes_of(container, tensor, bytes.get(), original)?;
        let described = delta_tensor(self.part, number, single, bases)?;
        self.insert(ReaderTensor { bytes, ..described }, &container.path)
    }

    /// Adds the unit of this number and its tensors.
    fn unit(
        &mut self,
        number: usize,
        unit: &PackedUnit,
        names: &Names,
    ) -> Result<(ReaderUnit, OpenUnit), Error> {
        let part = self.part;
        let file = unit.file(&part.weights);
        let parts = unit.places.map(|place| stored(&part.weights, self.maps, place));
        let open = OpenUnit::open(parts).map_err(|error| Error::unit(file, &unit.path, error))?;
        let tensors = &names[&unit.path];
        let (elements, ranges) = open.with_unit(|view| {
            part.lengths(unit, view, tensors)?;
            Ok::<_, Error>((view.len() as u64, view.tensor_ranges().collect::<Vec<_>>()))
        })?;
        for (name, range) in tensors.iter().zip(ranges) {
            self.insert(ReaderTensor::of_unit(part, name, number, range), file)?;
        }
        let listed = ReaderUnit {
            path: unit.path.clone(),
            tensors: tensors.clone(),
            elements,
            stored_bytes: unit.bytes(&part.weights),
            code: unit.places[CODE],
        };
        Ok((listed, open))
    }
}

/// Describes a tensor that is stored as a delta, as its metadata have it, if its base is there.
pub(super) fn delta_tensor(
    part: &Part,
    number: usize,
    single: &Single,
    bases: &Bases,
) -> Result<ReaderTensor, Error> {
    let (container, tensor) = part.weights.at(single.place);
    let wrong = |problem: &str| Error::tensor(&container.path, &tensor.name, problem);
    let original = single.frame.as_ref().ok_or_else(|| wrong("is no delta"))?;
    bases.expect_of(container, tensor, original)?;
    ReaderTensor::of_original(original, (container, tensor), Place::Delta(number))
}
