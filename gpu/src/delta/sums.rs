//! Checksums in pieces: what `delta_check` computes, and what `delta_compare` expects.

use std::ops::Range;

use crate::crc::{ONE, product, table, x_to};

/// The number of bytes of a piece, but for the last of a checksum. A multiple of [`ROUND`].
pub(super) const PIECE: usize = 32 << 10;

/// Bytes that a warp takes at once: `ROUND` of `delta_apply.cu`.
const ROUND: usize = 512;

/// The constants of `delta_check`: `DeltaPowers` of `delta_apply.cu`.
pub(super) fn powers() -> Vec<u8> {
    let from_end = (0..32).map(|lane| x_to(32 * (125 - 4 * lane)));
    table(x_to(8 * ROUND as u64)).chain(from_end).flat_map(u32::to_le_bytes).collect()
}

/// When a checksum is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before: the elements stay as they are.
    Before,
    Both,
    /// After: there is no base.
    After,
}

/// A checksum of elements, as a delta has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    pub(super) when: When,
    /// The first byte, from that of the tensor on, and how many there are.
    pub(super) start: u64,
    pub(super) bytes: usize,
    pub(super) base: u32,
    pub(super) result: u32,
    /// The block, for messages.
    pub(super) block: u32,
}

/// What depends on the number of bytes of a checksum alone.
struct Length {
    bytes: usize,
    /// The bytes of each piece, and x to the number of bits after it.
    pieces: Vec<(usize, u32)>,
    /// What takes the start and the end of CRC-32 out of a checksum, and appends zeros.
    factor: u32,
    term: u32,
}

impl Length {
    fn new(bytes: usize) -> Self {
        let padded = bytes.next_multiple_of(ROUND);
        let last = (padded - 1) / PIECE * PIECE;
        let mut pieces = vec![(bytes - last, ONE)];
        let (mut power, whole) = (x_to(8 * (padded - last) as u64), x_to(8 * PIECE as u64));
        for _ in 0..last / PIECE {
            pieces.push((PIECE, power));
            power = product(power, whole);
        }
        pieces.reverse();
        let factor = x_to(8 * (padded - bytes) as u64);
        let term = product(u32::MAX, x_to(8 * padded as u64));
        Length { bytes, pieces, factor, term }
    }

    fn expected(&self, checksum: u32) -> u32 {
        product(!checksum, self.factor) ^ self.term
    }
}

/// The pieces and sums of a launch.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) pieces: Vec<u8>,
    pub(super) sums: Vec<u8>,
    /// Which of them belong to the base, and which to the result.
    pub(super) pieces_of: [Range<usize>; 2],
    pub(super) sums_of: [Range<usize>; 2],
}

/// Bytes of `struct Piece` and of `struct Expected`.
const PIECE_BYTES: usize = 24;
const SUM_BYTES: usize = 16;

impl Described {
    /// Describes the sums of tensors, each with its number and the offset of its elements.
    pub(super) fn new<'a>(tensors: impl Iterator<Item = (u32, u64, &'a [Sum])> + Clone) -> Self {
        let mut described = Described::default();
        let mut starts = Vec::new();
        for when in [When::Before, When::Both, When::After] {
            starts.push((described.pieces.len() / PIECE_BYTES, described.sums.len() / SUM_BYTES));
            let mut length = Length::new(1);
            for (number, offset, sums) in tensors.clone() {
                for sum in sums.iter().filter(|sum| sum.when == when) {
                    if length.bytes != sum.bytes {
                        length = Length::new(sum.bytes);
                    }
                    described.add(&length, number, offset, sum);
                }
            }
        }
        let (pieces, sums) = (described.pieces.len() / PIECE_BYTES, described.sums.len() / SUM_BYTES);
        if let [_, both, after] = starts[..] {
            described.pieces_of = [0..after.0, both.0..pieces];
            described.sums_of = [0..after.1, both.1..sums];
        }
        described
    }

    fn add(&mut self, length: &Length, number: u32, offset: u64, sum: &Sum) {
        let at = (self.sums.len() / SUM_BYTES) as u32;
        let mut start = offset + sum.start;
        for &(bytes, power) in &length.pieces {
            self.pieces.extend(start.to_le_bytes());
            self.pieces.extend([bytes as u32, power, at, 0].into_iter().flat_map(u32::to_le_bytes));
            start += bytes as u64;
        }
        let expected = [sum.base, sum.result].map(|checksum| length.expected(checksum));
        let fields = [expected[0], expected[1], number, sum.block];
        self.sums.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    }
}

#[cfg(test)]
mod tests {
    use df11::hazmat::frame::crc;

    use super::*;

    /// What the kernel computes of a piece: its words times powers of x.
    fn sum_of(bytes: &[u8], power: u32) -> u32 {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().next_multiple_of(ROUND), 0);
        let word = |sum, word: &[u8; 4]| product(sum ^ u32::from_le_bytes(*word), x_to(32));
        product(padded.as_chunks().0.iter().fold(0, word), power)
    }

    #[test]
    fn pieces_add_up_to_the_checksum_that_is_expected() {
        let bytes: Vec<u8> = (0..3 * PIECE as u32 + 5).map(|i| (i.wrapping_mul(i) >> 3) as u8).collect();
        for len in [1, 2, 511, 512, 513, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5] {
            let length = Length::new(len);
            let (mut found, mut rest) = (0, &bytes[..len]);
            for (bytes, power) in &length.pieces {
                let (piece, after) = rest.split_at(*bytes);
                found ^= sum_of(piece, *power);
                rest = after;
            }
            assert!(rest.is_empty());
            assert_eq!(found, length.expected(crc(0, &bytes[..len])), "{len}");
        }
    }
}
