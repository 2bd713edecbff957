//! Units as safetensors files store them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use df11::{Decoder, PARTS, Parts, Unit};
use safetensors::tensor::Dtype;

use crate::checkpoint::Weights;
use crate::container::Mapped;
use crate::error::Error;
use crate::names::{natural_order, tensor_name};

/// Returns the element type of a unit's part, from its name in [`PARTS`].
pub(crate) fn dtype(name: &str) -> Dtype {
    if name == "I64" { Dtype::I64 } else { Dtype::U8 }
}

/// The position of `encoded_exponent` among [`PARTS`]. Units are found by this part.
pub(crate) const CODE: usize = 1;

/// Position of `split_positions` among [`PARTS`].
const SPLITS: usize = 5;

/// The number of blocks decoded at a time, a multiple of the six that the decoder interleaves. They
/// hold at most 3 MiB of weights, usually a third of that.
const BLOCKS: usize = 48;

/// A unit in a checkpoint, with the locations of its tensors.
#[derive(Clone, Debug)]
pub(crate) struct PackedUnit {
    /// The module path.
    pub(crate) path: String,
    /// The location of each of [`PARTS`]: its file, and its position in that file.
    pub(crate) places: [(usize, usize); 6],
}

/// The mapped bytes of a unit.
pub(crate) struct MappedUnit<'a> {
    packed: &'a PackedUnit,
    /// The file that holds its code.
    file: &'a Path,
    maps: [Mapped; 6],
}

/// Splits the name of a unit's tensor into the module path and the position in [`PARTS`].
fn split_name(name: &str) -> Option<(&str, usize)> {
    let (path, key) = match name.rsplit_once('.') {
        // A unit at the root has no dot. A name that begins with a dot belongs to no unit.
        Some(("", _)) => return None,
        Some(parts) => parts,
        None => ("", name),
    };
    Some((path, PARTS.iter().position(|(known, _)| *known == key)?))
}

/// The location of a tensor: its file, and its position in that file.
pub(crate) type Place = (usize, usize);

/// Finds the units of a checkpoint, by module path, and the locations of the tensors that belong to
/// none.
pub(crate) fn units(weights: &Weights) -> Result<(Vec<PackedUnit>, Vec<Place>), Error> {
    type Slots = [Option<(usize, usize)>; 6];
    let mut found: BTreeMap<&str, Slots> = BTreeMap::new();
    for name in weights.tensors.keys() {
        // A lone tensor that happens to have such a name is a plain one.
        if let Some((path, CODE)) = split_name(name)
            && PARTS
                .iter()
                .any(|(key, _)| *key != PARTS[CODE].0 && weights.get(&tensor_name(path, key)).is_some())
        {
            found.insert(path, [None; 6]);
        }
    }
    let mut plain = Vec::new();
    for (name, &place) in &weights.tensors {
        match split_name(name).and_then(|(path, key)| Some((found.get_mut(path)?, key))) {
            Some((slots, key)) => slots[key] = Some(place),
            None => plain.push(place),
        }
    }
    let mut units = Vec::new();
    for (path, slots) in found {
        let container = slots[CODE].map(|place| weights.at(place).0);
        let file = container.map_or(weights.path.as_path(), |container| container.path.as_path());
        let mut places = [(0, 0); 6];
        for ((slot, (key, dtype)), place) in slots.into_iter().zip(PARTS).zip(&mut places) {
            let name = tensor_name(path, key);
            *place = slot.ok_or_else(|| {
                Error::tensor(file, &name, "is missing from its unit; download the file again")
            })?;
            let (container, tensor) = weights.at(*place);
            if tensor.dtype.to_string() != dtype {
                let problem = format!("is {}, but must be {dtype}", tensor.dtype);
                return Err(Error::tensor(&container.path, &name, problem));
            }
        }
        units.push(PackedUnit { path: path.to_owned(), places });
    }
    units.sort_by(|a, b| natural_order(&a.path, &b.path));
    Ok((units, plain))
}

impl PackedUnit {
    /// Returns the file that holds the code.
    pub(crate) fn file<'a>(&self, weights: &'a Weights) -> &'a Path {
        &weights.at(self.places[CODE]).0.path
    }

    /// Sums the sizes of its six tensors in bytes.
    pub(crate) fn bytes(&self, weights: &Weights) -> u64 {
        self.places.iter().map(|&place| weights.at(place).1.bytes()).sum()
    }

    /// Returns the number of its tensors, from the number of split positions (D-9.1).
    pub(crate) fn tensors(&self, weights: &Weights) -> usize {
        let splits = self.places[SPLITS];
        weights.at(splits).1.bytes() as usize / 8 + 1
    }

    pub(crate) fn map<'a>(&'a self, weights: &'a Weights) -> Result<MappedUnit<'a>, Error> {
        let map = |place| {
            let (container, tensor) = weights.at(place);
            container.map(tensor)
        };
        let [a, b, c, d, e, f] = self.places.map(map);
        Ok(MappedUnit { packed: self, file: self.file(weights), maps: [a?, b?, c?, d?, e?, f?] })
    }
}

impl MappedUnit<'_> {
    pub(crate) fn tensors(&self) -> Parts<&[u8]> {
        Parts::from_array(self.maps.each_ref().map(|map| &**map))
    }

    /// Returns the unit, checked.
    pub(crate) fn unit(&self) -> Result<Unit<'_>, Error> {
        Unit::new(self.tensors()).map_err(|error| self.error(error))
    }

    pub(crate) fn error(&self, error: df11::Error) -> Error {
        Error::unit(self.file, &self.packed.path, error)
    }
}

/// Decodes a unit from start to end, and checks every rule. Passes the weights of each tensor to
/// `each` in order, in pieces: the number of the tensor, the offset in bytes, and the bytes.
pub(crate) fn decode(
    mapped: &MappedUnit<'_>,
    unit: &Unit<'_>,
    mut each: impl FnMut(usize, usize, &[u8]) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let decoder = Decoder::new(unit);
    let ranges: Vec<_> = unit.tensor_ranges().collect();
    // The next piece is decoded while this one is passed on and hashed, which takes about the same
    // time.
    let (mut ready, mut next) = (Vec::new(), Vec::new());
    let mut element = 0;
    for blocks in runs(unit) {
        let given = || {
            cut(&ranges, element, &ready).try_for_each(|(tensor, offset, bytes)| each(tensor, offset, bytes))
        };
        let (given, decoded) = rayon::join(given, || decode_run(mapped, &decoder, blocks, &mut next));
        given.and(decoded)?;
        element += ready.len() / 2;
        std::mem::swap(&mut ready, &mut next);
    }
    cut(&ranges, element, &ready).try_for_each(|(tensor, offset, bytes)| each(tensor, offset, bytes))
}

/// Iterates over the blocks of a unit, [`BLOCKS`] at a time.
fn runs(unit: &Unit<'_>) -> impl Iterator<Item = Range<usize>> + use<> {
    let blocks = unit.blocks();
    (0..blocks).step_by(BLOCKS).map(move |first| first..blocks.min(first + BLOCKS))
}

fn decode_run(
    mapped: &MappedUnit<'_>,
    decoder: &Decoder<'_>,
    blocks: Range<usize>,
    buffer: &mut Vec<u8>,
) -> Result<(), Error> {
    let unit = decoder.unit();
    let elements = unit.block_range(blocks.end - 1).end - unit.block_range(blocks.start).start;
    buffer.resize(2 * elements, 0);
    decoder.verify_blocks_into(blocks, buffer).map_err(|error| mapped.error(error))
}

/// Cuts weights, from element `element` of a unit on, at the boundaries of its tensors. Yields the
/// number of the tensor, the offset in bytes, and the bytes.
fn cut<'a>(
    ranges: &'a [Range<usize>],
    element: usize,
    bytes: &'a [u8],
) -> impl Iterator<Item = (usize, usize, &'a [u8])> {
    let end = element + bytes.len() / 2;
    ranges.iter().enumerate().filter_map(move |(tensor, range)| {
        let (from, to) = (range.start.max(element), range.end.min(end));
        let bytes = (from < to).then(|| &bytes[2 * (from - element)..2 * (to - element)])?;
        Some((tensor, 2 * (from - range.start), bytes))
    })
}
