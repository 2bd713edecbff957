//! Reads tensors out of a checkpoint, one at a time, for programs that run models.

mod opening;
mod ranges;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use df11::{Parts, bf16};

use crate::container::Mapped;
use crate::delta::{self, Bases};
use crate::error::Error;
use crate::packed::Part;
use crate::packed::open::{OpenFrame, OpenUnit};
use opening::stored;
use ranges::RangedUnit;

pub use opening::ReaderOptions;

/// An open checkpoint, which decodes any original tensor into the caller's memory.
///
/// The checkpoint may be compressed, as units or as frames, by this program or a published one, or
/// not compressed at all. Tensors have the names, types and bytes of the original. Files stay
/// memory-mapped while the reader lives. It keeps no decoded tensors. It keeps decoding tables once
/// they are built, in no more memory than the files take. Every function can be called from several
/// threads at once, and runs on the calling thread.
///
/// Decoding checks units by their rules, and frames also by their checksums.
/// [`verify`](crate::verify) compares the digests of the originals; the reader does so only for
/// deltas that are decoded whole.
///
/// A checkpoint with deltas needs the checkpoints that they were made against:
/// [`ReaderOptions::bases`].
///
/// ```
/// use df11_model::{CompressOptions, Reader, compress};
/// use safetensors::tensor::{Dtype, TensorView, serialize};
///
/// let weights: Vec<u8> = (0..256 * 256).flat_map(|i: u32| (0x3c00 + (i * 7 % 512) as u16).to_le_bytes()).collect();
/// let matrix = TensorView::new(Dtype::BF16, vec![256, 256], &weights)?;
/// let directory = tempfile::tempdir()?;
/// let [model, packed] = ["model.safetensors", "packed"].map(|name| directory.path().join(name));
/// std::fs::write(&model, serialize([("layers.0.up_proj.weight", matrix)], None)?)?;
/// compress(&model, &packed, &CompressOptions::default(), &())?;
///
/// let reader = Reader::open(&packed)?;
/// let tensor = reader.tensor("layers.0.up_proj.weight").ok_or("not there")?;
/// assert_eq!((tensor.dtype(), tensor.shape()), ("BF16", &[256, 256][..]));
/// let mut decoded = vec![0; tensor.bytes() as usize];
/// reader.decode_into(tensor.name(), &mut decoded)?;
/// assert!(decoded == weights);
/// // Row 3 alone.
/// let mut row = vec![0; 2 * 256];
/// reader.decode_range_into(tensor.name(), 3 * 256..4 * 256, &mut row)?;
/// assert_eq!(row, weights[2 * 3 * 256..2 * 4 * 256]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader {
    part: Part,
    /// The files of the checkpoint, mapped whole.
    maps: Vec<Arc<Mapped>>,
    /// The tensors, ordered by name.
    tensors: Vec<ReaderTensor>,
    units: Vec<ReaderUnit>,
    /// The units, checked, in the order of `units`.
    open_units: Vec<OpenUnit>,
    /// The frames that are kept open.
    open_frames: Vec<OpenFrame>,
    /// The units of a checkpoint in a store, which are read by ranges.
    ranged: Option<Vec<RangedUnit>>,
    /// What deltas are decoded with.
    bases: Bases,
    stored_bytes: u64,
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reader = f.debug_struct("Reader");
        reader.field("path", &self.part.weights.path).field("stored_bytes", &self.stored_bytes);
        reader.field("tensors", &self.tensors).field("units", &self.units).finish_non_exhaustive()
    }
}

/// An original tensor of a [`Reader`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderTensor {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    elements: u64,
    bytes: u64,
    place: Place,
}

/// A unit of a [`Reader`]: tensors that are stored together, under one code.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReaderUnit {
    path: String,
    tensors: Vec<String>,
    elements: u64,
    stored_bytes: u64,
    /// The location of its code: the file, and the position in it.
    code: (usize, usize),
}

#[derive(Clone, Debug)]
enum Place {
    /// A plain tensor: the file, and the position in it.
    Plain(usize, usize),
    /// A frame: the file, the position in it, and the number among the frames that are kept open.
    Frame(usize, usize, Option<usize>),
    /// A delta: its number among the tensors in no unit.
    Delta(usize),
    /// A tensor in a unit: the number of the unit, and the range of its elements.
    Unit(usize, Range<usize>),
}

impl ReaderTensor {
    /// Returns the tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the element type, as safetensors names it: `BF16`, `F32`, ….
    #[must_use]
    pub fn dtype(&self) -> &str {
        &self.dtype
    }

    /// Returns the dimensions; the last one is contiguous. Files of other programs do not record
    /// the shapes of a unit's tensors. Where `config.json` does not give a shape either, the tensor
    /// has one dimension.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the number of elements.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the number of bytes that it decodes to: its elements, little-endian.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of its unit in [`Reader::units`], if it is in one.
    #[must_use]
    pub const fn unit(&self) -> Option<usize> {
        match self.place {
            Place::Unit(unit, _) => Some(unit),
            Place::Plain(..) | Place::Frame(..) | Place::Delta(_) => None,
        }
    }

    /// Tells whether it is stored plain.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self.place, Place::Plain(..))
    }
}

impl ReaderUnit {
    /// Returns the unit's module path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the names of its tensors, in order.
    #[must_use]
    pub fn tensors(&self) -> &[String] {
        &self.tensors
    }

    /// Returns the number of weights in all its tensors. Each takes two bytes.
    #[must_use]
    pub const fn elements(&self) -> u64 {
        self.elements
    }

    /// Returns the number of bytes that it takes in its files.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }
}

impl Reader {
    /// Tells whether each range is read from a store when it is decoded.
    #[must_use]
    pub const fn reads_ranges(&self) -> bool {
        self.ranged.is_some()
    }

    /// Iterates over all original tensors, ordered by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &ReaderTensor> {
        self.tensors.iter()
    }

    /// Finds a tensor by its name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&ReaderTensor> {
        let found = self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()?;
        self.tensors.get(found)
    }

    /// Returns the units, in natural order of their paths. A checkpoint of frames has none.
    #[must_use]
    pub fn units(&self) -> &[ReaderUnit] {
        &self.units
    }

    /// Returns the total size in bytes of all stored units, frames and plain tensors.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Returns the `__metadata__` of the original files, such as `format`. Where files have
    /// different values under one key, the first file counts.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the names of all tensors in the order in which they are stored, file by file. A
    /// caller that reads them in this order reads each file from start to end.
    #[must_use]
    pub fn stored_order(&self) -> Vec<&str> {
        let at = |tensor: &ReaderTensor| match &tensor.place {
            &Place::Plain(file, at) | &Place::Frame(file, at, _) => (file, at, 0),
            &Place::Delta(single) => {
                let (file, at) = self.part.singles[single].place;
                (file, at, 0)
            }
            Place::Unit(unit, range) => {
                let (file, at) = self.units[*unit].code;
                (file, at, range.start)
            }
        };
        let mut tensors: Vec<&ReaderTensor> = self.tensors.iter().collect();
        // An empty tensor begins where the next one does, so names break the tie.
        tensors.sort_by_key(|tensor| at(tensor));
        tensors.into_iter().map(ReaderTensor::name).collect()
    }

    /// Decodes a tensor to `out`, whose length must be the tensor's [`bytes`](ReaderTensor::bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is no such tensor or `out` has another length; otherwise an error
    /// that says what is wrong with the data. After an error, the content of `out` is unspecified.
    pub fn decode_into(&self, name: &str, out: &mut [u8]) -> Result<(), Error> {
        let tensor = self.find(name)?;
        self.decode(tensor, 0..tensor.bytes, out)
    }

    /// Decodes a range of a tensor's elements, in the order in which they are stored, to `out`. To
    /// decode a row of a large matrix, it decodes the block of the unit or frame that contains it.
    /// A frame of less than 64 KiB is checked again, which takes some microseconds. Of a delta, it
    /// decodes the blocks of the delta and of the base that contain the range, or the whole base
    /// where the delta is a list of elements.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into), and [`Error::Usage`] if the range does not
    /// lie within the tensor.
    pub fn decode_range_into(&self, name: &str, range: Range<u64>, out: &mut [u8]) -> Result<(), Error> {
        let tensor = self.find(name)?;
        let elements = tensor.elements;
        if range.start > range.end || range.end > elements {
            let Range { start, end } = range;
            return Err(
                self.usage(name, format!("elements {start} to {end} of its {elements} were asked for"))
            );
        }
        // Elements smaller than a byte can start a range only at a byte boundary.
        let bits = if elements == 0 { 0 } else { u128::from(tensor.bytes) * 8 / u128::from(elements) };
        let at = |element: u64| u128::from(element) * bits;
        if at(range.start) % 8 != 0 || at(range.end) % 8 != 0 {
            let Range { start, end } = range;
            return Err(self.usage(name, format!("elements {start} to {end} are not whole bytes")));
        }
        self.decode(tensor, (at(range.start) / 8) as u64..(at(range.end) / 8) as u64, out)
    }

    /// Decodes all tensors of a unit, one after the other, to `out`.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if there is no such unit or `out` does not have two bytes for each of its
    /// [elements](ReaderUnit::elements); otherwise the rule that the unit breaks.
    pub fn decode_unit_into(&self, unit: usize, out: &mut [u8]) -> Result<(), Error> {
        let Some(found) = self.units.get(unit) else {
            return Err(Error::Usage(format!(
                "{}: there is no unit {unit}, but {}",
                self.part.weights.path.display(),
                self.units.len()
            )));
        };
        if out.len() as u64 != 2 * found.elements {
            let (needed, given) = (2 * found.elements, out.len());
            return Err(Error::Usage(format!(
                "unit {} takes {needed} bytes, but {given} were given",
                found.path
            )));
        }
        self.decode_unit(unit, 0..found.elements as usize, out)
    }

    /// Returns the parts of a unit, where they lie in the mapped files, for programs that decode
    /// units themselves. `None` if there is no such unit.
    #[must_use]
    pub fn unit_parts(&self, unit: usize) -> Option<Parts<&[u8]>> {
        self.open_units.get(unit).map(OpenUnit::tensors)
    }

    /// Returns the frame of a tensor, where it lies in the mapped files, for programs that decode
    /// frames themselves. `None` if the tensor is stored otherwise, or read from a store by ranges.
    #[must_use]
    pub fn frame_bytes(&self, name: &str) -> Option<&[u8]> {
        match self.tensor(name)?.place {
            Place::Frame(file, at, _) if !self.reads_ranges() => Some(self.bytes(file, at)),
            _ => None,
        }
    }

    /// Returns the path of the checkpoint.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.part.weights.path
    }

    fn find(&self, name: &str) -> Result<&ReaderTensor, Error> {
        self.tensor(name).ok_or_else(|| self.usage(name, "is not in this checkpoint".to_owned()))
    }

    fn usage(&self, name: &str, problem: String) -> Error {
        Error::Usage(format!("{}: tensor {name}: {problem}", self.part.weights.path.display()))
    }

    /// Decodes a range of bytes of a tensor.
    pub(crate) fn decode_bytes(&self, name: &str, bytes: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        self.decode(self.find(name)?, bytes.start as u64..bytes.end as u64, out)
    }

    /// The tensors as they are stored, deltas among them.
    pub(crate) const fn part(&self) -> &Part {
        &self.part
    }

    /// Decodes a range of bytes. The range begins and ends at element boundaries.
    fn decode(&self, tensor: &ReaderTensor, bytes: Range<u64>, out: &mut [u8]) -> Result<(), Error> {
        if out.len() as u64 != bytes.end - bytes.start {
            let (needed, given) = (bytes.end - bytes.start, out.len());
            return Err(self.usage(&tensor.name, format!("takes {needed} bytes, but {given} were given")));
        }
        // The range lies within a mapped tensor, so both ends fit `usize`.
        let bytes = bytes.start as usize..bytes.end as usize;
        match &tensor.place {
            &(Place::Plain(file, at) | Place::Frame(file, at, _)) if self.reads_ranges() => {
                self.decode_stored((file, at), !tensor.is_plain(), bytes, out)
            }
            &Place::Plain(file, at) => {
                out.copy_from_slice(&self.bytes(file, at)[bytes]);
                Ok(())
            }
            &Place::Frame(file, at, open) => {
                let decoded = match open.and_then(|open| self.open_frames.get(open)) {
                    Some(open) => open.decode_range_into(bytes, out),
                    None => OpenFrame::open(stored(&self.part.weights, &self.maps, (file, at)))
                        .and_then(|open| open.decode_range_into(bytes, out)),
                };
                decoded.map_err(|error| {
                    Error::frame(&self.part.weights.files[file].container.path, &tensor.name, error)
                })
            }
            &Place::Delta(single) => self.decode_delta(single, bytes, out),
            Place::Unit(unit, range) => {
                let of = |at: usize| range.start + at / bf16::BYTES;
                self.decode_unit(*unit, of(bytes.start)..of(bytes.end), out)
            }
        }
    }

    /// Decodes a range of bytes of a delta. Of all of it, the digest is compared, too (B-8.2).
    fn decode_delta(&self, single: usize, bytes: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let single = &self.part.singles[single];
        let (container, tensor) = self.part.weights.at(single.place);
        let Some((original, base)) = single.frame.as_ref().and_then(|o| Some((o, o.delta.as_ref()?))) else {
            return Ok(());
        };
        let (fetched, (file, at)) =
            (self.reads_ranges().then(|| container.map(tensor)).transpose()?, single.place);
        let stored = fetched.as_deref().unwrap_or_else(|| self.bytes(file, at));
        let located = (container, tensor);
        if bytes.len() as u64 == self.find(&tensor.name)?.bytes {
            return delta::decode_whole(&self.bases, located, stored, original, out);
        }
        delta::decode_range(&self.bases, located, stored, &base.sha256, bytes, out)
    }

    fn decode_unit(&self, unit: usize, range: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        if let Some(ranged) = &self.ranged {
            return self.decode_ranged(&ranged[unit], range, out);
        }
        self.open_units[unit].decode_range_into(range, out).map_err(|error| {
            let found = &self.units[unit];
            Error::unit(&self.part.weights.files[found.code.0].container.path, &found.path, error)
        })
    }

    /// Returns the stored bytes of a tensor.
    fn bytes(&self, file: usize, at: usize) -> &[u8] {
        let Range { start, end } = self.part.weights.files[file].container.tensors[at].range;
        &self.maps[file][start as usize..end as usize]
    }
}
