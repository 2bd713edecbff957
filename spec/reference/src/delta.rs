//! [`DELTA.md`](../../DELTA.md) as a program.

mod block;
mod encode;

pub use encode::{encode, lg, tables};

use crate::frame::{self, crc};
use crate::rans::Frequencies;
use crate::{Violation, rule};
use block::{Block, Shared};

/// B-3.1: the first bytes.
const MAGIC: [u8; 8] = [0x89, 0x44, 0x46, 0x31, 0x31, 0x64, 0x0a, 0x1a];

/// F-4.1: the bytes of an element, by type.
const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// the start state.
const START: u64 = 1 << 15;

/// What a writer chooses (B-7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Method 0.
    Same,
    /// Method 1.
    List,
    /// Method 2.
    Coded {
        /// Bytes of the low part.
        m: usize,
        /// Elements of a block.
        block: usize,
        /// Whether there is a map.
        map: bool,
        /// Whether escapes are coded.
        escapes: bool,
    },
    /// Method 3, with this codec.
    Frame(u8),
}

/// An element as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// B-5.1: the ordinal, as a number modulo `2^(8 E)`; it is its own inverse.
fn ordinal(element_type: u8, u: u64) -> u64 {
    let top = 1 << (8 * BYTES[usize::from(element_type)] - 1);
    if element_type != 0 && u & top != 0 { u ^ (top - 1) } else { u }
}

/// B-5.1: `z`.
fn zigzag(element_type: u8, new: u64, base: u64) -> u64 {
    let size = 1u64 << (8 * BYTES[usize::from(element_type)]);
    let d = (ordinal(element_type, new) + size - ordinal(element_type, base)) % size;
    if d < size / 2 { 2 * d } else { 2 * (size - d) - 1 }
}

/// B-5.1: the element of the result.
fn restored(element_type: u8, z: u64, base: u64) -> u64 {
    let size = 1u64 << (8 * BYTES[usize::from(element_type)]);
    let d = if z.is_multiple_of(2) { z / 2 } else { size - z.div_ceil(2) };
    ordinal(element_type, (ordinal(element_type, base) + d) % size)
}

/// B-5.3: the exponent field.
fn exponent(element_type: u8, u: u64) -> usize {
    let (low, bits) = [(0, 0), (7, 8), (10, 5), (23, 8), (3, 4), (2, 5)][usize::from(element_type)];
    (u >> low) as usize & ((1 << bits) - 1)
}

/// Takes fields off the front of a delta.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, clause: &'static str, n: usize) -> Result<&'a [u8], Violation> {
        let left = self.bytes.len() - self.at;
        rule(clause, n <= left, || format!("{n} bytes are wanted at {}, but there are {left}", self.at))?;
        self.at += n;
        Ok(&self.bytes[self.at - n..self.at])
    }

    fn integer(&mut self, clause: &'static str, n: usize) -> Result<u64, Violation> {
        self.bytes(clause, n).map(number)
    }

    fn zeros(&mut self, clause: &'static str, n: usize) -> Result<(), Violation> {
        let zeros = self.bytes(clause, n)?.iter().all(|byte| *byte == 0);
        rule("B-1.2", zeros, || format!("bytes before {} are not 0", self.at))
    }

    /// B-2.3
    fn variable(&mut self) -> Result<u64, Violation> {
        let mut value = 0;
        for i in 0..5 {
            let byte = self.integer("B-2.3", 1)?;
            value |= (byte & 127) << (7 * i);
            if byte < 128 {
                rule("B-2.3", byte > 0 || i == 0, || "a number ends in 0".to_owned())?;
                rule("B-2.3", value < 1 << 32, || format!("the number {value}"))?;
                return Ok(value);
            }
        }
        Err(Violation { clause: "B-2.3", found: "a number of more than 5 bytes".to_owned() })
    }

    /// B-5.4
    fn table(&mut self) -> Result<Frequencies, Violation> {
        let mut f = [0; 256];
        let (mut s, mut sum, mut after_run) = (0, 0, false);
        while sum < 2048 {
            let byte = self.integer("B-5.4", 1)?;
            let run = if byte == 0 { 1 + self.integer("B-5.4", 1)? as usize } else { 0 };
            rule("B-5.4", run == 0 || !after_run, || "a run after a run".to_owned())?;
            (s, after_run) = (s + run, run > 0);
            rule("B-5.4", s < 256, || "a table of more than 256 symbols".to_owned())?;
            if run == 0 {
                f[s] = if byte < 128 { byte } else { (byte - 128) << 8 | self.integer("B-5.4", 1)? };
                rule("B-5.4", byte < 128 || f[s] > 127, || format!("{} in two bytes", f[s]))?;
                sum += f[s];
                s += 1;
            }
        }
        rule("B-5.4", sum == 2048, || format!("frequencies of {sum}"))?;
        Ok(Frequencies { scale_bits: 11, f })
    }
}

/// What a delta gives with this base: its element type, and the elements.
///
/// # Errors
///
/// The first rule that is broken.
pub fn decode(delta: &[u8], base: &[u8]) -> Result<(u8, Vec<u8>), Violation> {
    let mut fields = Fields { bytes: delta, at: 0 };
    rule("B-3.1", fields.bytes("B-3.1", 8)? == MAGIC, || "another magic".to_owned())?;
    let version = fields.integer("B-3.1", 1)?;
    rule("B-1.3", version == 1, || format!("version {version}"))?;
    let element_type = fields.integer("B-3.1", 1)? as u8;
    rule("B-1.3", element_type < 6, || format!("element type {element_type}"))?;
    let method = fields.integer("B-3.1", 1)?;
    rule("B-1.3", method < 4, || format!("method {method}"))?;
    let size = BYTES[usize::from(element_type)];
    let m = fields.integer("B-3.1", 1)? as usize;
    let tables = fields.integer("B-3.1", 1)? as usize;
    let map = fields.integer("B-3.1", 1)?;
    fields.zeros("B-3.1", 2)?;
    let (n, c) = (fields.integer("B-3.1", 8)?, fields.integer("B-3.1", 8)?);
    let block = fields.integer("B-3.1", 4)?;
    let good = match method {
        2 => {
            m < size
                && (1..9 - map as usize / 2).contains(&tables)
                && map < 4
                && block % 64 == 0
                && (4096..=1 << 20).contains(&block)
        }
        _ => m == 0 && tables == 0 && map == 0 && block == 0,
    };
    rule("B-3.1", good && c <= n, || format!("m {m}, K {tables}, map {map}, B {block}, c {c}"))?;
    rule("B-3.2", n.checked_mul(size as u64).is_some(), || format!("{n} elements"))?;
    rule("B-3.2", (c == 0) == (method == 3), || format!("{c} common elements"))?;
    rule("B-1.1", c * size as u64 <= base.len() as u64, || "the base is too short".to_owned())?;
    let base = &base[..c as usize * size];
    let header = |fields: &mut Fields<'_>| {
        let found = crc(0, &delta[..fields.at]);
        let stated = fields.integer("B-3.1", 4)?;
        rule("B-3.1", stated == u64::from(found), || "the header's checksum differs".to_owned())
    };
    let mut new = base.to_vec();
    let is_base = |clause, stated, bytes: &[u8]| {
        rule(clause, stated == u64::from(crc(0, bytes)), || "another base".to_owned())
    };
    match method {
        0 => {
            let stated = fields.integer("B-4.1", 4)?;
            header(&mut fields)?;
            is_base("B-4.1", stated, base)?;
        }
        1 => {
            let (of_base, of_new) = (fields.integer("B-4.2", 4)?, fields.integer("B-4.2", 4)?);
            let entries = fields.integer("B-4.2", 4)?;
            let mut i = 0;
            for _ in 0..entries {
                i += fields.variable()?;
                rule("B-4.2", i < c, || format!("an entry of element {i}"))?;
                new[i as usize * size..][..size].copy_from_slice(fields.bytes("B-4.2", size)?);
                i += 1;
            }
            header(&mut fields)?;
            is_base("B-4.2", of_base, base)?;
            rule("B-4.2", of_new == u64::from(crc(0, &new)), || "another result".to_owned())?;
        }
        2 => new = coded(&mut fields, base, element_type, [m, tables, map as usize, block as usize], header)?,
        _ => header(&mut fields)?,
    }
    if c < n || method == 3 {
        // Byte 10 of a frame is its codec (F-3.1).
        let codec = delta[fields.at..].get(10).copied().unwrap_or(0);
        rule("B-3.2", codec != 3, || format!("a frame of codec {codec}"))?;
        let tensor = frame::decode(&delta[fields.at..])?;
        let fits = tensor.element_type == element_type && tensor.shape == [n - c];
        rule("B-3.2", fits, || format!("a frame of {:?}", tensor.shape))?;
        new.extend(tensor.elements);
    } else {
        rule("B-3.3", fields.at == delta.len(), || "bytes follow".to_owned())?;
    }
    Ok((element_type, new))
}

/// Section 5, after the fields that all methods have.
fn coded(
    fields: &mut Fields<'_>,
    base: &[u8],
    element_type: u8,
    [m, tables, map, block]: [usize; 4],
    header: impl Fn(&mut Fields<'_>) -> Result<(), Violation>,
) -> Result<Vec<u8>, Violation> {
    let size = BYTES[usize::from(element_type)];
    fields.integer("B-5.4", 8)?;
    let thresholds = fields.bytes("B-5.4", tables - 1)?;
    let ascending = [&[0], thresholds].concat().windows(2).all(|pair| pair[0] < pair[1]);
    rule("B-5.4", ascending, || format!("thresholds {thresholds:?}"))?;
    let tables = (0..tables).map(|_| fields.table()).collect::<Result<Vec<_>, _>>()?;
    let of_escapes = if map / 2 == 1 { Some(fields.table()?) } else { None };
    let of_map = match map % 2 {
        1 => {
            let f1 = fields.integer("B-5.4", 2)?;
            rule("B-5.4", (1..2048).contains(&f1), || format!("frequency {f1} of the map"))?;
            let mut f = [0; 256];
            (f[0], f[1]) = (2048 - f1, f1);
            Some(Frequencies { scale_bits: 11, f })
        }
        _ => None,
    };
    let blocks = base.len().div_ceil(block * size);
    let directory = fields.bytes("B-5.4", 28 * blocks)?;
    header(fields)?;
    fields.zeros("B-5.6", fields.at.next_multiple_of(4) - fields.at)?;
    let (tables, map, escapes) = (&tables[..], of_map.as_ref(), of_escapes.as_ref());
    let shared = Shared { element_type, m, thresholds, tables, limits: &[], map, escapes };
    let mut new = Vec::new();
    for (j, (entry, base)) in directory.chunks(28).zip(base.chunks(block * size)).enumerate() {
        let entry: Vec<u64> = entry.chunks(4).map(number).collect();
        let [w, v, e, k] = [0, 1, 2, 3].map(|i| entry[i] as usize);
        let start = fields.at;
        rule("B-5.5", v == 0 || (e > 0 && escapes.is_some()), || format!("{v} words of escapes"))?;
        let len = match escapes.filter(|_| e > 0) {
            Some(_) => 256 + 2 * w + 2 * v + (size - 1) * e + m * k,
            None => 128 + 2 * w + 2 * v + size * e + m * k,
        };
        let bytes = fields.bytes("B-5.6", len)?.to_vec();
        fields.zeros("B-5.6", fields.at.next_multiple_of(4) - fields.at)?;
        let stored = crc(j as u32, &fields.bytes[start..fields.at]);
        rule("B-5.5", entry[4] == u64::from(stored), || format!("the checksum of block {j} differs"))?;
        rule("B-5.5", entry[5] == u64::from(crc(0, base)), || format!("another base in block {j}"))?;
        let base: Vec<u64> = base.chunks(size).map(number).collect();
        let elements = shared.unblock(&base, &Block { w, v, e, k, bytes })?;
        let elements: Vec<u8> =
            elements.iter().flat_map(|element| element.to_le_bytes()[..size].to_vec()).collect();
        rule("B-5.5", entry[6] == u64::from(crc(0, &elements)), || format!("another result in block {j}"))?;
        new.extend(elements);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements that are near to others, in part.
    fn pair(element_type: u8, n: usize) -> (Vec<u8>, Vec<u8>) {
        let size = BYTES[usize::from(element_type)];
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let (mut base, mut new) = (Vec::new(), Vec::new());
        for i in 0..n {
            let b = random() * random() % (1 << (8 * size));
            let far = if random() % 50 == 0 { 100_000 } else { 3 };
            let z = if i / 64 % 3 == 0 { 0 } else { random() % far % (1 << (8 * size)) };
            base.extend(&b.to_le_bytes()[..size]);
            new.extend(&restored(element_type, z, b).to_le_bytes()[..size]);
        }
        (base, new)
    }

    #[test]
    fn what_every_method_encodes_of_every_type_decodes_to_the_same() {
        for element_type in 0..6 {
            let size = BYTES[usize::from(element_type)];
            let (base, new) = pair(element_type, 9000);
            for (method, result) in [
                (Method::Same, &base),
                (Method::List, &new),
                (Method::Coded { m: 0, block: 4096, map: false, escapes: false }, &new),
                (Method::Coded { m: 0, block: 4096, map: true, escapes: true }, &new),
                (Method::Coded { m: size - 1, block: 8192, map: true, escapes: false }, &new),
                (Method::Frame(1), &new),
            ] {
                for common in [9000, 8999, 128] {
                    let delta = encode(element_type, result, &base, common, method).unwrap();
                    assert_eq!(&decode(&delta, &base).unwrap(), &(element_type, result.clone()));
                }
            }
        }
    }

    #[test]
    fn every_number_is_restored_from_its_ordinal_difference() {
        for element_type in [0, 1, 4] {
            for base in [0, 1, 0x7f, 0x80, 0xff, 0x7f80, 0x8000, 0xffff] {
                for new in (0..1u64 << (8 * BYTES[usize::from(element_type)])).step_by(7) {
                    let base = base % (1 << (8 * BYTES[usize::from(element_type)]));
                    assert_eq!(restored(element_type, zigzag(element_type, new, base), base), new);
                }
            }
        }
    }
}
