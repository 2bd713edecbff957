//! A second decoder, written from the description of the layout and sharing no code with `df11`:
//! one bit at a time, one table at a time, slow and obvious.

use bitvec::prelude::*;
use df11::Parts;

/// The result of a walk through a unit's code.
#[derive(Debug, PartialEq, Eq)]
pub struct Walk {
    /// BF16 bit patterns.
    pub weights: Vec<u16>,
    /// For each 8-byte window in which an element's codeword starts, the offset of the first.
    pub gaps: Vec<u8>,
    /// For each 4096-byte block in which an element's codeword starts, the index of the first.
    pub positions: Vec<u32>,
    /// The number of bits up to the end of the last codeword.
    pub bits: usize,
}

impl Walk {
    /// The gaps that a writer puts for this many windows: in one where no codeword starts, where
    /// the last one ends, unless it ends with a byte (D-11.4).
    #[must_use]
    pub fn written_gaps(&self, windows: usize) -> Vec<u8> {
        let mut gaps = self.gaps.clone();
        gaps.resize(windows, if self.bits.is_multiple_of(8) { 0 } else { (self.bits % 64) as u8 });
        gaps
    }
}

/// Walks through a unit from the first bit to the last element, looking at nothing but `luts`,
/// `encoded_exponent` and `sign_mantissa`.
///
/// # Panics
///
/// If the unit is not valid.
#[must_use]
pub fn walk(unit: &Parts<&[u8]>) -> Walk {
    let code = unit.encoded_exponent.view_bits::<Msb0>();
    let rows: Vec<&[u8]> = unit.luts.chunks(256).collect();
    let (lengths, tables) = rows.split_last().unwrap();
    let mut walk = Walk { weights: Vec::new(), gaps: Vec::new(), positions: Vec::new(), bits: 0 };
    for (element, &sign_mantissa) in unit.sign_mantissa.iter().enumerate() {
        if walk.bits / 64 == walk.gaps.len() {
            walk.gaps.push((walk.bits % 64) as u8);
        }
        if walk.bits / 32768 == walk.positions.len() {
            walk.positions.push(element as u32);
        }
        let byte = |n: usize| {
            (0..8).fold(0usize, |byte, i| {
                let bit = code.get(walk.bits + 8 * n + i).as_deref().copied().unwrap_or(false);
                2 * byte + usize::from(bit)
            })
        };
        let mut value = tables[0][byte(0)];
        for depth in 1.. {
            if value < 240 {
                break;
            }
            assert!(depth < 4, "jumps after 32 bits at bit {}", walk.bits);
            value = tables[256 - usize::from(value)][byte(depth)];
        }
        let length = usize::from(lengths[usize::from(value)]);
        assert!((1..=32).contains(&length), "length {length} at bit {}", walk.bits);
        walk.bits += length;
        assert!(walk.bits <= code.len(), "the code ends before element {element}");
        let sign = u16::from(sign_mantissa >> 7) << 15;
        walk.weights.push(sign | u16::from(value) << 7 | u16::from(sign_mantissa & 0x7f));
    }
    walk
}

/// Returns the gaps that a unit states, one for each window of code.
#[must_use]
pub fn stated_gaps(unit: &Parts<&[u8]>) -> Vec<u8> {
    let windows = unit.encoded_exponent.len().div_ceil(8);
    let bits = unit.gaps.view_bits::<Msb0>();
    bits.chunks(5)
        .take(windows)
        .map(|gap| gap.iter().fold(0, |value, bit| 2 * value + u8::from(*bit)))
        .collect()
}

/// Returns the output positions that a unit states.
#[must_use]
pub fn stated_positions(unit: &Parts<&[u8]>) -> Vec<u32> {
    unit.output_positions.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}
