//! The codewords of a unit in the forms in which they are looked up.

#[cfg(feature = "alloc")]
use alloc::{boxed::Box, vec};

use df11_simd::{CodeTable, Codeword};

use crate::df11::WINDOW_BITS;
use crate::huffman::Codewords;

/// One codeword, or two consecutive ones: the bits, with the first at the top, and their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) bits: u64,
    pub(super) length: u32,
}

/// The length of a missing codeword. It exceeds any window, so no separate comparison is needed.
pub(super) const NO_CODEWORD: u32 = 255;

/// The codewords by exponent.
fn entries(code: &Codewords) -> [Entry; 256] {
    core::array::from_fn(|symbol| match u32::from(code.len(symbol as u8)) {
        0 => Entry { bits: 0, length: NO_CODEWORD },
        length => Entry { bits: u64::from(code.bits(symbol as u8)) << (WINDOW_BITS as u32 - length), length },
    })
}

/// The codewords of two exponents.
#[inline(always)]
pub(super) fn pair(first: Entry, second: Entry) -> Entry {
    if first.length == NO_CODEWORD || second.length == NO_CODEWORD {
        return Entry { bits: 0, length: NO_CODEWORD };
    }
    Entry { bits: first.bits | second.bits >> first.length, length: first.length + second.length }
}

/// The codewords in the forms in which they are looked up.
#[derive(Clone, Debug)]
pub(super) struct Codebook {
    pub(super) entries: [Entry; 256],
    pub(super) groups: CodeTable,
}

impl Codebook {
    pub(super) fn of(code: &Codewords) -> Self {
        let has_codeword = |symbol: &u8| code.len(*symbol) > 0;
        let groups = CodeTable::new((0..=u8::MAX).filter(has_codeword).map(|symbol| Codeword {
            bits: code.bits(symbol),
            length: code.len(symbol),
            symbol,
        }));
        Codebook { entries: entries(code), groups }
    }

    /// The codewords of two exponents, the first in the low byte.
    #[inline(always)]
    pub(super) fn pair(&self, both: u16) -> Entry {
        let [first, second] = both.to_le_bytes().map(usize::from);
        pair(self.entries[first], self.entries[second])
    }
}

/// The codewords of all pairs of exponents; the first exponent is the low byte of the index.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    bits: Box<[u64; 1 << 16]>,
    lengths: Box<[u8; 1 << 16]>,
}

#[cfg(feature = "alloc")]
impl Pairs {
    pub(super) fn of(codewords: &[Entry; 256]) -> Self {
        let mut lengths = boxed(NO_CODEWORD as u8);
        // From the allocator as zeros, so that rows of exponents without a codeword are never
        // touched.
        let mut bits = boxed(0);
        let has_codeword = |entry: &Entry| entry.length != NO_CODEWORD;
        for (high, second) in codewords.iter().enumerate().filter(|(_, entry)| has_codeword(entry)) {
            for (low, first) in codewords.iter().enumerate().filter(|(_, entry)| has_codeword(entry)) {
                let both = pair(*first, *second);
                (bits[high << 8 | low], lengths[high << 8 | low]) = (both.bits, both.length as u8);
            }
        }
        Pairs { bits, lengths }
    }

    #[inline(always)]
    pub(super) fn look_up(&self) -> impl Fn(u16) -> Entry + Copy {
        let (bits, lengths): (&[u64; 1 << 16], &[u8; 1 << 16]) = (&self.bits, &self.lengths);
        move |both| {
            let index = usize::from(both);
            Entry { bits: bits[index], length: u32::from(lengths[index]) }
        }
    }
}

#[cfg(feature = "alloc")]
fn boxed<T: Copy>(value: T) -> Box<[T; 1 << 16]> {
    let boxed = vec![value; 1 << 16].into_boxed_slice();
    boxed.try_into().unwrap_or_else(|_| Box::new([value; 1 << 16]))
}
