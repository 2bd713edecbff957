//! What the targets share.

use df11_core::df11::{Tensors, Unit};

/// A unit as fuzzers see it: for each of the six parts, four bytes of length, then the bytes; what is missing is empty. Seeds
/// in this form are made from the vectors (`df11_tests::vectors::seeds`).
pub struct Parts<'a>([&'a [u8]; 6]);

impl<'a> Parts<'a> {
    /// Cuts any bytes into six parts.
    pub fn parse(mut data: &'a [u8]) -> Self {
        Parts(std::array::from_fn(|_| {
            let (length, rest) = data.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
            let (part, rest) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
            data = rest;
            part
        }))
    }

    /// The parts for `df11-core`.
    pub fn tensors(&self) -> Tensors<'a> {
        let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] = self.0;
        Tensors { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions }
    }

    /// The parts for the reference.
    pub fn reference(&self) -> df11_reference::Unit {
        let [luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions] = self.0.map(<[u8]>::to_vec);
        df11_reference::Unit { luts, encoded_exponent, sign_mantissa, output_positions, gaps, split_positions }
    }
}

/// The strict verdict of `df11-core`: the weights as little-endian bytes, or nothing.
pub fn verdict(tensors: Tensors<'_>) -> Option<Vec<u8>> {
    let unit = Unit::new(tensors).ok()?;
    let mut weights = vec![0; 2 * unit.len()];
    unit.verify_blocks_into(0..unit.blocks(), &mut weights).ok()?;
    Some(weights)
}

/// Uses a unit in every way that takes any range.
pub fn exercise(unit: &Unit<'_>, start: u32, end: u32) {
    let mut weights = vec![0; 2 * unit.len()];
    let whole = unit.decode_into(&mut weights).is_ok();
    for block in 0..unit.blocks() {
        let range = unit.block_range(block);
        let mut part = vec![0; 2 * range.len()];
        let decoded = unit.decode_block_into(block, &mut part);
        assert!(!whole || (decoded.is_ok() && part == weights[2 * range.start..2 * range.end]));
    }
    let (a, b) = (start as usize % (unit.len() + 1), end as usize % (unit.len() + 1));
    let range = a.min(b)..a.max(b);
    let mut part = vec![0; 2 * range.len()];
    let decoded = unit.decode_range_into(range.clone(), &mut part);
    assert!(!whole || (decoded.is_ok() && part == weights[2 * range.start..2 * range.end]));
    assert_eq!(unit.tensor_ranges().map(|range| range.len()).sum::<usize>(), unit.len());
    let _ = df11_core::huffman::Codewords::from_tables(&unit.tables());
}

/// Weights as little-endian bytes, with exponents that a unit can hold.
pub fn representable(weights: &[u16]) -> Vec<u8> {
    weights.iter().flat_map(|w| if (w >> 7) as u8 >= 240 { w & !0x4000 } else { *w }.to_le_bytes()).collect()
}
