//! What the targets of deltas share: bases, where the parts of a delta are, checksums that are made
//! right, and the verdicts of the core and of the reference.

use df11::delta::{DecodeTable, Delta, Method};
use df11::frame::{Header, MAGIC};
use df11::hazmat::frame::crc;
use df11::{DeltaPart, Error, Level};
use df11_reference::delta as reference;

use crate::soon;

/// Bytes of the fields that all methods have.
const FRONT: usize = 36;

/// Bytes of an entry of the directory, and of the states of a block.
const ENTRY: usize = 28;
const STATES: usize = 128;

/// The most bytes of a delta that the reference decodes too, and of its elements.
const REFERENCE: usize = 1 << 14;

/// The most bytes of elements that are decoded.
pub const MOST: usize = 1 << 17;

/// A base of this many bytes: weights of any type whose exponents are near to each other.
pub fn base(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|i| if i % 2 == 0 { next() } else { 0x3a | next() & 0x85 }).collect()
}

/// Where the parts of a delta are.
#[derive(Debug, Default)]
pub struct Layout {
    /// The checksum of the header.
    pub header: usize,
    /// The entry in the directory, the start and the end of each block.
    pub blocks: Vec<(usize, usize, usize)>,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Where a table of frequencies ends.
fn table_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut sum = 0;
    while sum < 2048 {
        let first = *bytes.get(at)?;
        let second = bytes.get(at + 1).map_or(0, |byte| u32::from(*byte));
        let (len, frequency) = match first {
            0 => (2, 0),
            1..128 => (1, u32::from(first)),
            _ => (2, u32::from(first - 128) << 8 | second),
        };
        (at, sum) = (at + len, sum + frequency);
    }
    Some(at)
}

/// Finds the parts of a delta, as far as its fields say where they are.
pub fn layout(bytes: &[u8]) -> Option<Layout> {
    let [element_type, method, raw, tables, flags] = [9, 10, 11, 12, 13].map(|at| bytes.get(at).copied());
    let size = *[1usize, 2, 2, 4, 1, 1].get(usize::from(element_type?))?;
    let mut layout = Layout::default();
    layout.header = match method? {
        0 => FRONT + 4,
        1 => {
            let mut at = FRONT + 12;
            for _ in 0..number::<4>(bytes, FRONT + 8)? {
                at += bytes.get(at..)?.iter().position(|byte| *byte < 128)? + 1 + size;
            }
            at
        }
        3 => FRONT,
        _ => {
            let (tables, flags) = (usize::from(tables?), flags?);
            let mut at = FRONT + 8 + tables.checked_sub(1)?;
            for _ in 0..tables + usize::from(flags >> 1 & 1) {
                at = table_end(bytes, at)?;
            }
            at += 2 * usize::from(flags & 1);
            let blocks = number::<8>(bytes, 24)?.div_ceil(number::<4>(bytes, 32)?.max(1));
            let end = at.checked_add(usize::try_from(blocks).ok()?.checked_mul(ENTRY)?)?;
            bytes.get(..end)?;
            let mut start = (end + 4).next_multiple_of(4);
            for entry in (at..end).step_by(ENTRY) {
                let [w, v, e, k] = [0, 4, 8, 12].map(|field| number::<4>(bytes, entry + field));
                let (w, v, e, k) = (w? as usize, v? as usize, e? as usize, k? as usize);
                let coded = usize::from(flags >> 1 & 1);
                let states = if coded == 1 && e > 0 { 2 * STATES } else { STATES };
                let len = states + 2 * (w + v) + (size - coded) * e + usize::from(raw?) * k;
                let next = (start + len.next_multiple_of(4)).min(bytes.len().max(start));
                layout.blocks.push((entry, start, next));
                start = next;
            }
            end
        }
    };
    Some(layout)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = bytes.get_mut(at..at.saturating_add(4)) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}

/// Makes the checksum of the header right.
fn seal(bytes: &mut [u8], header: usize) {
    let check = crc(0, bytes.get(..header).unwrap_or_default());
    put(bytes, header, check);
}

/// Makes the checksums of the blocks and of the header right, and with `elements` those of the
/// elements of the base and of the result, too.
pub fn repair(bytes: &mut [u8], base: &[u8], elements: bool) -> Option<()> {
    let layout = layout(bytes)?;
    for (number, (entry, start, end)) in layout.blocks.iter().enumerate() {
        let stored = crc(number as u32, bytes.get(*start..*end)?);
        put(bytes, entry + 16, stored);
    }
    seal(bytes, layout.header);
    // Each round makes one right.
    for _ in 0..2 * layout.blocks.len().min(8) + 2 {
        if !elements || decoded_bytes(bytes, base)? > MOST {
            return None;
        }
        let (part, field, found) = match Delta::new(bytes).ok()?.apply(base) {
            Err(Error::DeltaBase { part, found, .. }) => (part, 0, found),
            Err(Error::DeltaResult { part, found, .. }) => (part, 4, found),
            _ => return Some(()),
        };
        let at = match part {
            DeltaPart::Block(number) => layout.blocks.get(usize::try_from(number).ok()?)?.0 + 20,
            _ => FRONT,
        };
        put(bytes, at + field, found);
        seal(bytes, layout.header);
    }
    None
}

/// The bytes of the elements of a delta that the core takes with this base.
fn decoded_bytes(bytes: &[u8], base: &[u8]) -> Option<usize> {
    let delta = Delta::new(bytes).ok()?;
    let size = delta.element_type().bytes();
    (delta.common().checked_mul(size)? <= base.len()).then(|| delta.len().saturating_mul(size))
}

/// Whether the reference soon decodes the frame of a delta, if there is one.
fn is_soon(bytes: &[u8]) -> bool {
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&MAGIC));
    let headers = starts.filter_map(|at| Header::parse(&bytes[at..]).ok());
    let mut all = headers.map(|(header, _)| match header.frequencies() {
        Some(frequencies) => header.len() <= soon(frequencies),
        None => header.len() <= REFERENCE,
    });
    all.all(|soon| soon)
}

/// Reads any bytes as a delta, in every way that there is: all give the same.
pub fn verdict(bytes: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    let delta = match Delta::new(bytes) {
        Ok(delta) => delta,
        Err(error) => {
            assert!(error.clause().is_some(), "{error:?}");
            // What the reference would make many elements of is not asked.
            let n = number::<8>(bytes, 16).unwrap_or(0);
            if bytes.len() <= REFERENCE && n <= REFERENCE as u64 && is_soon(bytes) {
                assert!(reference::decode(bytes, base).is_err(), "the core refuses: {error}");
            }
            return None;
        }
    };
    let size = delta.element_type().bytes();
    let len = delta.len().saturating_mul(size);
    if len > MOST {
        return None;
    }
    let found = by_core(&delta, base);
    if bytes.len() <= REFERENCE && len <= REFERENCE && is_soon(bytes) {
        match (&found, reference::decode(bytes, base)) {
            (Some(elements), Ok((element_type, expected))) => {
                assert!(element_type == delta.element_type().number() && *elements == expected);
            }
            (None, Err(_)) => {}
            (found, expected) => {
                panic!("core accepts: {}, reference: {:?}", found.is_some(), expected.err());
            }
        }
    }
    found
}

/// Applies a delta on every level, in place and by ranges.
fn by_core(delta: &Delta<'_>, base: &[u8]) -> Option<Vec<u8>> {
    let size = delta.element_type().bytes();
    let len = delta.len() * size;
    let common = delta.common() * size;
    let mut table = Box::new(DecodeTable::new());
    let mut whole = vec![0xa5; len];
    let expected = delta.apply_in(&mut table, base, &mut whole);
    let _ = delta.verify_stored().map_err(|_| assert!(expected.is_err(), "damage goes unnoticed"));
    for level in Level::all() {
        table.set_level(level);
        let mut out = vec![0x5a; len];
        let found = delta.apply_in(&mut table, base, &mut out);
        assert_eq!(found, expected, "{level:?}");
        assert!(found.is_err() || out == whole, "{level:?}");
        let Some(of_base) = base.get(..common) else { continue };
        out[..common].copy_from_slice(of_base);
        let before = out.clone();
        let found = delta.apply_in_place(&mut table, &mut out);
        assert_eq!(found.is_ok(), expected.is_ok(), "{level:?}, in place: {found:?}");
        assert!(found.is_err() || out == whole, "{level:?}, in place");
        if let Err(Error::DeltaBase { .. } | Error::DeltaChecksum { .. }) = found {
            let is_list = delta.method() == Method::List;
            assert!(is_list || out[..common] == before[..common], "{level:?}: the base is lost");
        }
    }
    let error = expected.err();
    assert!(error.is_none_or(|error| error.clause().is_some() || base.len() < common), "{error:?}");
    if base.len() >= common && delta.build(&mut table).is_ok() {
        let cuts = [0, 1, 63, 64, delta.len() / 3, delta.common(), delta.len() - delta.len() / 5];
        for pair in cuts.iter().zip(cuts.iter().rev()) {
            let (start, end) = (*pair.0.min(pair.1), *pair.0.max(pair.1));
            let range = start.min(delta.len())..end.min(delta.len());
            let mut part = vec![0; range.len() * size];
            let found = delta.apply_range_in(&table, base, range.clone(), &mut part);
            let is_same = part == whole[range.start * size..range.end * size];
            assert!(error.is_some() || (found.is_ok() && is_same), "{range:?}: {found:?}");
        }
    }
    error.is_none().then_some(whole)
}
