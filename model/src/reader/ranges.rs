//! Reads a checkpoint in a store by ranges: of each tensor, only the bytes that hold the elements
//! that are asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use df11::hazmat::layout::{BLOCK_BYTES, GAP_BYTES_PER_BLOCK};
use df11::{Parts, Unit, bf16};

use super::opening::{counted, delta_tensor, insert, metadata_of};
use super::{Place, Reader, ReaderTensor, ReaderUnit};
use crate::container::Mapped;
use crate::delta::{self, Bases};
use crate::error::Error;
use crate::packed::open::{Bytes, OpenFrame};
use crate::packed::unit::{CODE, PackedUnit};
use crate::packed::{Names, Part};

/// Bytes of code that are read beyond the last block: a codeword may end there, and decoders look a
/// word ahead.
const BEYOND: usize = 64;

/// Positions of parts in [`PARTS`](df11::PARTS).
const LUTS: usize = 0;
const SIGN_MANTISSA: usize = 2;
const POSITIONS: usize = 3;
const GAPS: usize = 4;
const SPLITS: usize = 5;

/// A unit in a store. What every range needs of it is read once.
pub(super) struct RangedUnit {
    packed: PackedUnit,
    /// `luts`, `output_positions` and `split_positions`.
    small: OnceLock<[Mapped; 3]>,
}

impl Reader {
    /// Opens a checkpoint in a store. Reads the headers of its files. Without bases, deltas are
    /// left out.
    pub(super) fn open_ranges(part: Part, names: &Names, bases: Option<Bases>) -> Result<Self, Error> {
        let mut tensors: BTreeMap<String, ReaderTensor> = BTreeMap::new();
        for (number, single) in part.singles.iter().enumerate() {
            let tensor = match &bases {
                _ if !delta::is_one(single) => single_tensor(&part, single)?,
                Some(bases) => delta_tensor(&part, number, single, bases)?,
                None => continue,
            };
            insert(&mut tensors, tensor, &part.weights.path)?;
        }
        let (mut units, mut ranged) = (Vec::new(), Vec::new());
        for unit in &part.units {
            let named = &names[&unit.path];
            let opened = RangedUnit { packed: unit.clone(), small: OnceLock::new() };
            let ranges = opened.tensor_ranges(&part, named)?;
            let elements = ranges.last().map_or(0, |last| last.end as u64);
            for (name, range) in named.iter().zip(ranges) {
                let tensor = ReaderTensor::of_unit(&part, name, units.len(), range);
                insert(&mut tensors, tensor, &part.weights.path)?;
            }
            units.push(ReaderUnit {
                path: unit.path.clone(),
                tensors: named.clone(),
                elements,
                stored_bytes: unit.bytes(&part.weights),
                code: unit.places[CODE],
            });
            ranged.push(opened);
        }
        Ok(Reader {
            maps: Vec::new(),
            tensors: tensors.into_values().collect(),
            units,
            open_units: Vec::new(),
            open_frames: Vec::new(),
            ranged: Some(ranged),
            bases: bases.unwrap_or_default(),
            stored_bytes: part.weights.iter().map(|(_, tensor)| tensor.bytes()).sum(),
            metadata: metadata_of(&part.weights),
            part,
        })
    }

    /// Decodes a range of bytes of a tensor that is not in a unit.
    pub(super) fn decode_stored(
        &self,
        (file, at): (usize, usize),
        is_frame: bool,
        bytes: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let container = &self.part.weights.files[file].container;
        let tensor = &container.tensors[at];
        if is_frame {
            let map = container.map(tensor)?;
            let range = 0..map.len();
            let opened = OpenFrame::open(Bytes { file: Arc::new(map), range });
            let decoded = opened.and_then(|open| open.decode_range_into(bytes, out));
            return decoded.map_err(|error| Error::frame(&container.path, &tensor.name, error));
        }
        let start = tensor.range.start + bytes.start as u64;
        out.copy_from_slice(&container.map_range(start..start + bytes.len() as u64)?);
        Ok(())
    }

    /// Decodes a range of the weights of a unit.
    pub(super) fn decode_ranged(
        &self,
        unit: &RangedUnit,
        range: Range<usize>,
        out: &mut [u8],
    ) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let weights = &self.part.weights;
        let wrong = |error| Error::unit(unit.packed.file(weights), &unit.packed.path, error);
        let [luts, positions, splits] = unit.small(weights)?;
        let bytes_of = |part: usize| weights.at(unit.packed.places[part]).1.bytes() as usize;
        let (code, elements) = (bytes_of(CODE), bytes_of(SIGN_MANTISSA));
        let blocks = code.div_ceil(BLOCK_BYTES);
        let starts: Vec<usize> =
            positions.as_chunks::<4>().0.iter().map(|p| u32::from_le_bytes(*p) as usize).collect();
        let first =
            starts[..blocks.min(starts.len())].partition_point(|p| *p <= range.start).saturating_sub(1);
        let last = starts.partition_point(|p| *p < range.end).max(first + 1).min(blocks);
        let end = range.end.max(starts.get(last).copied().unwrap_or(elements)).min(elements);
        let begin = starts.get(first).copied().unwrap_or(0).min(range.start);
        // A range that is not read stays zero: no part of a unit is checked as a whole but those
        // that are read as a whole.
        let code = unit.read(weights, CODE, first * BLOCK_BYTES..(last * BLOCK_BYTES + BEYOND).min(code))?;
        let gaps = first * GAP_BYTES_PER_BLOCK..((last + 1) * GAP_BYTES_PER_BLOCK).min(bytes_of(GAPS));
        let gaps = unit.read(weights, GAPS, gaps)?;
        let planes = unit.read(weights, SIGN_MANTISSA, begin..end)?;
        let parts = [&**luts, &code, &planes, &**positions, &gaps, &**splits];
        let view = Unit::new(Parts::from_array(parts)).map_err(wrong)?;
        df11::Decoder::new(&view).decode_range_into(range, out).map_err(wrong)
    }
}

impl RangedUnit {
    /// Reads what every range needs, once.
    fn small(&self, weights: &crate::checkpoint::Weights) -> Result<&[Mapped; 3], Error> {
        if let Some(small) = self.small.get() {
            return Ok(small);
        }
        let read = |part: usize| {
            let (container, tensor) = weights.at(self.packed.places[part]);
            container.map(tensor)
        };
        let found = [read(LUTS)?, read(POSITIONS)?, read(SPLITS)?];
        Ok(self.small.get_or_init(|| found))
    }

    /// Reads a range of a part into its place in a buffer of the part's full length. Memory that
    /// nothing is written to is not taken.
    fn read(
        &self,
        weights: &crate::checkpoint::Weights,
        part: usize,
        range: Range<usize>,
    ) -> Result<Vec<u8>, Error> {
        let (container, tensor) = weights.at(self.packed.places[part]);
        let mut bytes = vec![0; tensor.bytes() as usize];
        let range = range.start.min(bytes.len())..range.end.min(bytes.len());
        let start = tensor.range.start + range.start as u64;
        let found = container.map_range(start..start + range.len() as u64)?;
        bytes[range].copy_from_slice(&found);
        Ok(bytes)
    }

    /// Finds the weights of each tensor: from metadata, or else from the unit itself.
    fn tensor_ranges(&self, part: &Part, names: &[String]) -> Result<Vec<Range<usize>>, Error> {
        let said: Option<Vec<u64>> = match part.described.units.get(&self.packed.path) {
            Some(_) => names.iter().map(|name| part.said_bytes(name)).collect(),
            None => None,
        };
        let elements = part.weights.at(self.packed.places[SIGN_MANTISSA]).1.bytes() as usize;
        let mut ends: Vec<usize> = match said {
            Some(bytes) => {
                let lens = bytes.iter().map(|bytes| *bytes as usize / bf16::BYTES);
                lens.scan(0usize, |at, len| {
                    *at = at.saturating_add(len);
                    Some(*at)
                })
                .collect()
            }
            None => {
                let splits = &self.small(&part.weights)?[2];
                let splits =
                    splits.as_chunks::<8>().0.iter().map(|split| u64::from_le_bytes(*split) as usize);
                splits.chain([elements]).collect()
            }
        };
        let is_right = ends.len() == names.len() && ends.is_sorted() && ends.last() == Some(&elements);
        if !is_right {
            let problem = format!("unit {} does not have the tensors that are recorded", self.packed.path);
            return Err(Error::file(self.packed.file(&part.weights), problem));
        }
        ends.insert(0, 0);
        Ok(ends.windows(2).map(|pair| pair[0]..pair[1]).collect())
    }
}

/// Describes a tensor that is not in a unit.
fn single_tensor(part: &Part, single: &crate::packed::Single) -> Result<ReaderTensor, Error> {
    let (container, tensor) = part.weights.at(single.place);
    let (file, at) = single.place;
    let Some(original) = &single.frame else {
        return Ok(ReaderTensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype.to_string(),
            shape: tensor.shape.clone(),
            elements: counted((container, tensor), &tensor.shape)?,
            bytes: tensor.bytes(),
            place: Place::Plain(file, at),
        });
    };
    ReaderTensor::of_original(original, (container, tensor), Place::Frame(file, at, None))
}
