//! What the quick targets share: units written short, so that a few hundred bytes are a whole one.
//!
//! Tables and gaps are mostly runs of the same byte; they are written as pairs of a count and a
//! byte.

use df11::Parts;

use crate::cut;

/// The most bytes of a part that runs make.
const MOST: usize = 1 << 13;

/// Writes bytes as pairs of a count, 1 to 255, and a byte.
pub fn shorten(bytes: &[u8]) -> Vec<u8> {
    let mut short = Vec::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        for part in run.chunks(255) {
            short.extend([part.len() as u8, part[0]]);
        }
    }
    short
}

/// What pairs of a count and a byte stand for.
pub fn lengthen(pairs: &[u8], to: &mut Vec<u8>) {
    to.clear();
    for [count, byte] in pairs.as_chunks::<2>().0 {
        if to.len() < MOST {
            to.resize(to.len() + usize::from(*count), *byte);
        }
    }
}

/// The parts of a unit in a short form; `memory` holds the two that runs make.
pub fn unit<'a>(data: &'a [u8], memory: &'a mut [Vec<u8>; 2]) -> Parts<&'a [u8]> {
    let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] = cut(data);
    let [tables, windows] = memory;
    lengthen(luts, tables);
    lengthen(gaps, windows);
    Parts { luts: tables, encoded_exponent, sign_mantissa, output_positions, gaps: windows, split_positions }
}

/// The short form of the parts.
pub fn short_unit(parts: [&[u8]; 6]) -> Vec<u8> {
    let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] = parts;
    let (luts, gaps) = (shorten(luts), shorten(gaps));
    let parts = [&luts, encoded_exponent, sign_mantissa, output_positions, &gaps, split_positions];
    parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes(), *part].concat()).collect()
}
