//! Units as they lie in safetensors files.

use std::collections::BTreeMap;
use std::ops::Range;

use df11_core::df11::{Decoder, PARTS, Tensors, Unit};
use rayon::prelude::*;
use safetensors::tensor::Dtype;

use crate::checkpoint::Checkpoint;
use crate::container::{Container, Located};
use crate::error::Error;
use crate::map::Mapped;

/// The element type of a unit's part, from its name in [`PARTS`].
pub(crate) fn dtype(name: &str) -> Dtype {
    if name == "I64" { Dtype::I64 } else { Dtype::U8 }
}

/// Position of `encoded_exponent`, by which a unit is found, among [`PARTS`].
pub(crate) const CODE: usize = 1;

/// Blocks decoded at a time, a multiple of the six that the decoder takes side by side: at most 3 MiB of weights, usually
/// a third of that.
const BLOCKS: usize = 48;

/// A unit in a checkpoint: where its tensors are.
#[derive(Debug)]
pub(crate) struct PackedUnit<'a> {
    /// The module path.
    pub(crate) path: String,
    tensors: [Located<'a>; 6],
}

/// The mapped bytes of a unit.
pub(crate) struct MappedUnit<'a> {
    packed: &'a PackedUnit<'a>,
    maps: [Mapped; 6],
}

/// A tensor name that belongs to a unit: its module path, and which of [`PARTS`] it is.
fn split_name(name: &str) -> Option<(&str, usize)> {
    let (path, key) = match name.rsplit_once('.') {
        // A unit at the root has no dot; what begins with one belongs to none.
        Some(("", _)) => return None,
        Some(parts) => parts,
        None => ("", name),
    };
    Some((path, PARTS.iter().position(|(known, _)| *known == key)?))
}

/// The name of a unit's tensor.
pub(crate) fn tensor_name(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The units of a checkpoint, by module path, and the tensors that belong to none.
pub(crate) fn units(checkpoint: &Checkpoint) -> Result<(Vec<PackedUnit<'_>>, Vec<Located<'_>>), Error> {
    type Slots<'a> = [Option<Located<'a>>; 6];
    let mut found: BTreeMap<&str, Slots<'_>> = BTreeMap::new();
    for name in checkpoint.tensors.keys() {
        if let Some((path, CODE)) = split_name(name) {
            found.insert(path, [None; 6]);
        }
    }
    let mut plain = Vec::new();
    for (container, tensor) in checkpoint.iter() {
        match split_name(&tensor.name).and_then(|(path, key)| Some((found.get_mut(path)?, key))) {
            Some((slots, key)) => slots[key] = Some((container, tensor)),
            None => plain.push((container, tensor)),
        }
    }
    let mut units = Vec::new();
    for (path, slots) in found {
        let container = slots[CODE].map_or(&checkpoint.files[0], |(container, _)| container);
        let mut tensors = Vec::with_capacity(PARTS.len());
        for (slot, (key, dtype)) in slots.into_iter().zip(PARTS) {
            let name = tensor_name(path, key);
            let (container, tensor) = slot.ok_or_else(|| {
                Error::tensor(&container.path, &name, "is missing from its unit; download the file again")
            })?;
            if tensor.dtype.to_string() != dtype {
                let problem = format!("is {}, but must be {dtype}", tensor.dtype);
                return Err(Error::tensor(&container.path, &name, problem));
            }
            tensors.push((container, tensor));
        }
        let tensors = tensors
            .try_into()
            .map_err(|_| Error::file(&container.path, format!("unit {path} is not complete")))?;
        units.push(PackedUnit { path: path.to_owned(), tensors });
    }
    units.sort_by(|a, b| crate::units::natural_order(&a.path, &b.path));
    Ok((units, plain))
}

impl<'a> PackedUnit<'a> {
    /// The file that holds the code.
    pub(crate) fn container(&self) -> &'a Container {
        self.tensors[CODE].0
    }

    /// Bytes of its six tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, tensor)| tensor.bytes()).sum()
    }

    pub(crate) fn map(&self) -> Result<MappedUnit<'_>, Error> {
        let [a, b, c, d, e, f] = self.tensors.map(|(container, tensor)| container.map(tensor));
        Ok(MappedUnit { packed: self, maps: [a?, b?, c?, d?, e?, f?] })
    }
}

impl MappedUnit<'_> {
    pub(crate) fn tensors(&self) -> Tensors<'_> {
        Tensors::from_parts(self.maps.each_ref().map(|map| &**map))
    }

    pub(crate) fn unit(&self) -> Result<Unit<'_>, Error> {
        Unit::new(self.tensors()).map_err(|error| self.error(error))
    }

    pub(crate) fn error(&self, error: df11_core::Error) -> Error {
        Error::unit(&self.packed.container().path, &self.packed.path, error)
    }
}

/// Decodes a unit from start to end, checking every rule, and gives `each` the weights of each tensor in order, in
/// pieces: the number of the tensor, the offset in it in bytes, and the bytes.
pub(crate) fn decode(
    mapped: &MappedUnit<'_>,
    unit: &Unit<'_>,
    mut each: impl FnMut(usize, usize, &[u8]) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let decoder = Decoder::new(unit);
    let ranges: Vec<_> = unit.tensor_ranges().collect();
    // While one piece is given away (and digested, which takes as long), the next is decoded.
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

/// [`decode`] on as many threads as there are, in any order.
pub(crate) fn decode_unordered(
    mapped: &MappedUnit<'_>,
    unit: &Unit<'_>,
    each: impl Fn(usize, usize, &[u8]) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let decoder = Decoder::new(unit);
    let ranges: Vec<_> = unit.tensor_ranges().collect();
    let runs: Vec<_> = runs(unit).collect();
    runs.into_par_iter().with_max_len(1).try_for_each_init(Vec::new, |buffer, blocks| {
        let element = unit.block_range(blocks.start).start;
        decode_run(mapped, &decoder, blocks, buffer)?;
        cut(&ranges, element, buffer).try_for_each(|(tensor, offset, bytes)| each(tensor, offset, bytes))
    })
}

/// The blocks of a unit, so many at a time.
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

/// Cuts weights from element `element` of a unit on into those of its tensors: the number of the tensor, the offset in
/// it in bytes, and the bytes.
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
