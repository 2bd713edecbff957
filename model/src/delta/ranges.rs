//! Deltas that are decoded into the memory of a caller: whole, or a range of them with the blocks
//! of the base that it needs.

use std::ops::Range;

use df11::delta::{DecodeTable, Delta, Method};

use super::Bases;
use crate::container::Located;
use crate::error::Error;
use crate::names::digest;
use crate::packed::metadata::TensorMetadata;

/// Decodes a tensor that is stored as a delta, `stored`, and compares its digest (B-8.2).
pub(crate) fn decode_whole(
    bases: &Bases,
    (container, tensor): Located<'_>,
    stored: &[u8],
    original: &TensorMetadata,
    out: &mut [u8],
) -> Result<(), Error> {
    let Some(base) = &original.delta else { return Ok(()) };
    let base = bases.read(&base.sha256)?;
    let mut table = Box::new(DecodeTable::new());
    let applied = Delta::new(stored).and_then(|delta| delta.apply_in(&mut table, &base, out));
    applied.map_err(|error| Error::frame(&container.path, &tensor.name, error))?;
    let found = digest(out);
    if found != original.sha256 {
        let problem =
            format!("has SHA-256 {found}, but {} is recorded; the file is damaged", original.sha256);
        return Err(Error::tensor(&container.path, &tensor.name, problem));
    }
    Ok(())
}

/// Decodes a range of bytes of a tensor that is stored as a delta, `stored`, against the tensor
/// with the digest `base`. The range begins and ends at element boundaries. Of the base, it decodes
/// the blocks that the range needs. A list of entries needs all of it.
pub(crate) fn decode_range(
    bases: &Bases,
    (container, tensor): Located<'_>,
    stored: &[u8],
    base: &str,
    bytes: Range<usize>,
    out: &mut [u8],
) -> Result<(), Error> {
    let refused = |error: df11::Error| Error::frame(&container.path, &tensor.name, error);
    let delta = Delta::new(stored).map_err(refused)?;
    let size = delta.element_type().bytes();
    let range = bytes.start / size..bytes.end / size;
    let is_whole = bytes.start.is_multiple_of(size) && bytes.end.is_multiple_of(size);
    if !is_whole || bytes.len() != out.len() || range.end > delta.len() {
        let problem = "holds a delta of another type or length than is recorded; the file is damaged";
        return Err(Error::tensor(&container.path, &tensor.name, problem));
    }
    let common = range.start.min(delta.common())..range.end.min(delta.common());
    // Memory that nothing is written to is not taken. The length of the base bounds it.
    let mut elements = vec![0; (delta.common() * size).min(bases.bytes(base)?)];
    let needed = match delta.method() {
        _ if common.is_empty() => 0..0,
        // The digest of the base vouches for what its checksum would.
        Method::Same => {
            let (of_base, rest) = out.split_at_mut(common.len() * size);
            bases.read_range(base, common.start * size..common.end * size, of_base)?;
            return apply(&delta, &elements, common.end..range.end, rest).map_err(refused);
        }
        Method::Coded => {
            let block = delta.block_range(0).len();
            let last = delta.block_range((common.end - 1) / block);
            delta.block_range(common.start / block).start..last.end
        }
        _ => 0..delta.common(),
    };
    if let Some(of_base) = elements.get_mut(needed.start * size..needed.end * size) {
        bases.read_range(base, needed.start * size..needed.end * size, of_base)?;
    }
    // A base that is too short is noticed here.
    apply(&delta, &elements, range, out).map_err(refused)
}

/// Restores a range of elements.
fn apply(delta: &Delta<'_>, base: &[u8], range: Range<usize>, out: &mut [u8]) -> Result<(), df11::Error> {
    let mut table = Box::new(DecodeTable::new());
    delta.build(&mut table)?;
    delta.apply_range_in(&table, base, range, out)
}
