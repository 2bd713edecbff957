//! Writes units with features of published encoders that this project's encoder does not use: codes
//! that are not canonical, an end-of-stream codeword, junk in unreached table entries,
//! `output_positions` without its last entry.

use bitvec::prelude::*;
use df11::Parts;

/// The tensors of a unit.
#[derive(Clone, Debug, Default)]
pub struct ForeignUnit {
    /// Prefix tables and code lengths.
    pub luts: Vec<u8>,
    /// Codewords.
    pub encoded_exponent: Vec<u8>,
    /// Signs and mantissas.
    pub sign_mantissa: Vec<u8>,
    /// Output positions.
    pub output_positions: Vec<u8>,
    /// Gaps.
    pub gaps: Vec<u8>,
}

impl ForeignUnit {
    /// Returns the bytes of the tensors.
    #[must_use]
    pub fn tensors(&self) -> Parts<&[u8]> {
        Parts {
            luts: &self.luts,
            encoded_exponent: &self.encoded_exponent,
            sign_mantissa: &self.sign_mantissa,
            output_positions: &self.output_positions,
            gaps: &self.gaps,
            split_positions: &[],
        }
    }
}

/// A codeword: the symbol (256 for the end of the stream) and its bits.
pub type Codeword = (u16, BitVec<u8, Msb0>);

/// The symbol that ends a stream.
pub const END: u16 = 256;

/// Makes a Huffman code for these exponents and the end of the stream, which counts once. The bits
/// of `swaps` swap the children of nodes, so that the code can be made non-canonical.
///
/// # Panics
///
/// If there are no exponents.
#[must_use]
pub fn huffman(exponents: &[u8], swaps: u64) -> Vec<Codeword> {
    let mut counts = [0usize; 257];
    counts[usize::from(END)] = 1;
    for &e in exponents {
        counts[usize::from(e)] += 1;
    }
    type Node = (usize, Vec<Codeword>);
    let leaf = |(symbol, &count): (usize, &usize)| (count, vec![(symbol as u16, BitVec::new())]);
    let mut nodes: Vec<Node> = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(leaf).collect();
    let mut random = crate::weights::Random(swaps);
    while nodes.len() > 1 {
        nodes.sort_by_key(|node| std::cmp::Reverse(node.0));
        let (a, b) = (nodes.pop().unwrap(), nodes.pop().unwrap());
        let swap = random.below(2) == 1;
        let mut all = Vec::new();
        for (bit, (_, codewords)) in [(swap, &a), (!swap, &b)] {
            all.extend(codewords.iter().map(|(symbol, bits)| {
                let mut longer: BitVec<u8, Msb0> = BitVec::from_iter([bit]);
                longer.extend_from_bitslice(bits);
                (*symbol, longer)
            }));
        }
        nodes.push((a.0 + b.0, all));
    }
    nodes.remove(0).1
}

/// Writes a unit in the way of published encoders. Codewords must be at most 32 bits long.
///
/// # Panics
///
/// If a weight's exponent has no codeword, or the code needs more than 17 tables.
#[must_use]
pub fn write(weights: &[u16], code: &[Codeword]) -> ForeignUnit {
    let mut unit = ForeignUnit { luts: tables(code), ..ForeignUnit::default() };
    let codeword = |symbol: u16| &code.iter().find(|(s, _)| *s == symbol).unwrap().1;
    let mut bits: BitVec<u8, Msb0> = BitVec::new();
    let (mut gaps, mut positions) = (Vec::new(), Vec::new());
    let mut start = |at: usize, element: usize| {
        if at / 64 + 1 > gaps.len() {
            gaps.push(at % 64);
        }
        if at / 32768 + 1 > positions.len() {
            positions.push(element as u32);
        }
    };
    for (element, &weight) in weights.iter().enumerate() {
        start(bits.len(), element);
        bits.extend_from_bitslice(codeword(weight >> 7 & 0xff));
        unit.sign_mantissa.push((weight >> 8 & 0x80) as u8 | (weight & 0x7f) as u8);
    }
    if !bits.len().is_multiple_of(8) {
        start(bits.len(), weights.len());
        let whole = bits.len().next_multiple_of(8);
        bits.extend_from_bitslice(codeword(END));
        // The prefix is truncated to the byte, or padded with zeros where the codeword is shorter.
        bits.resize(whole, false);
    }
    positions.push(weights.len() as u32);
    unit.encoded_exponent = bits.into_vec();

    let blocks = unit.encoded_exponent.len().div_ceil(4096);
    let mut packed: BitVec<u8, Msb0> = BitVec::new();
    for gap in gaps {
        packed.extend((0..5).map(|i| gap >> (4 - i) & 1 == 1));
    }
    packed.resize(blocks * 512 * 5, false);
    unit.gaps = packed.into_vec();
    unit.output_positions = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
    unit
}

/// Makes tables in which every unreached entry copies the entry before it, also across tables.
fn tables(code: &[Codeword]) -> Vec<u8> {
    let symbols = || code.iter().filter(|(symbol, _)| *symbol != END);
    let mut prefixes: Vec<&BitSlice<u8, Msb0>> = vec![BitSlice::empty()];
    for (_, bits) in symbols() {
        let prefix = &bits[..(bits.len() - 1) / 8 * 8];
        for depth in 0..=prefix.len() / 8 {
            if !prefixes.contains(&&prefix[..8 * depth]) {
                prefixes.push(&prefix[..8 * depth]);
            }
        }
    }
    prefixes.sort_by_key(|prefix| prefix.len());
    assert!(prefixes.len() <= 17);

    let mut luts = Vec::new();
    let mut carried = symbols().next().unwrap().0 as u8;
    for prefix in &prefixes {
        let mut known = [None; 256];
        for (symbol, bits) in symbols().filter(|(_, bits)| bits.starts_with(prefix)) {
            let rest = &bits[prefix.len()..];
            let byte = (0..8).fold(0, |byte, i| 2 * byte + usize::from(rest.get(i).is_some_and(|bit| *bit)));
            known[byte] = Some(if rest.len() <= 8 {
                *symbol as u8
            } else {
                let target = prefixes.iter().position(|p| **p == bits[..prefix.len() + 8]).unwrap();
                (256 - target) as u8
            });
        }
        for entry in known {
            carried = entry.unwrap_or(carried);
            luts.push(carried);
        }
    }
    let mut lengths = [0; 256];
    for (symbol, bits) in symbols() {
        lengths[usize::from(*symbol)] = bits.len() as u8;
    }
    luts.extend(lengths);
    luts
}
