//! Decoding: whole units, blocks, ranges of elements; and the compact decoder, which needs neither an allocator nor more
//! than 2 KiB of stack.
//!
//! Its algorithm: from the start bit of a block, look the next 8 bits up in table 0; take the symbol, or follow jumps;
//! move on by the symbol's code length; stop after as many symbols as the output positions say.
//!
//! Where the code departs from it:
//!
//! 1. Table 0 and the code lengths are fused into one table of 256 entries (symbol and length side by side), so that a
//!    codeword of up to 8 bits takes one look-up instead of two that wait for each other. On trained weights that is
//!    over 99 % of codewords. An entry of 0 sends the rest to [`PrefixTables::decode`].
//! 2. One refill of the bit reader serves seven look-ups, since 7 × 8 ≤ 56.
//! 3. Exponents go to a buffer of 1 KiB first and are merged from there: the merge loop has no look-ups and is compiled
//!    to vector instructions.

use core::ops::Range;

use super::{BLOCK_BITS, Unit, WINDOW_BITS, WINDOWS_PER_BLOCK};
use crate::Error;
use crate::bf16;
use crate::bits::BitReader;
use crate::huffman::{FIRST_JUMP, PrefixTables};

/// Exponents that are decoded before they are merged with their signs and mantissas.
const STAGE: usize = 1024;

/// From this many weights on, tables of many symbols pay for their building.
#[cfg(feature = "alloc")]
const WORTH_TABLES: usize = 1024;

/// Look-ups for each refill: as many codewords of 8 bits as 56 bits surely hold.
const PER_REFILL: usize = 7;

impl Unit<'_> {
    /// Decodes the whole unit into `weights`, two little-endian bytes per element.
    ///
    /// Checks that each block's codewords end where the next block's begin, and that the code ends with the last element.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] unless `weights` is `2 * self.len()` bytes long; otherwise the rule that the code
    /// breaks. The content of `weights` is then unspecified.
    ///
    /// ```
    /// use df11_core::df11::{self, Options};
    ///
    /// let weights = [0x80, 0x3f, 0x00, 0x40];
    /// let encoded = df11::encode(&[&weights], &Options::default())?;
    /// let mut restored = [0; 4];
    /// encoded.as_unit().decode_into(&mut restored)?;
    /// assert_eq!(restored, weights);
    /// # Ok::<(), df11_core::Error>(())
    /// ```
    pub fn decode_into(&self, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(0..self.blocks(), weights)
    }

    /// Decodes one block: the elements of [`block_range(block)`](Unit::block_range).
    ///
    /// # Errors
    ///
    /// As [`decode_into`](Self::decode_into); [`Error::RangeOutOfBounds`] for a block that is not there.
    pub fn decode_block_into(&self, block: usize, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(block..block.saturating_add(1), weights)
    }

    /// Decodes a run of blocks, from the first element of the first to the last element of the last.
    ///
    /// # Errors
    ///
    /// As [`decode_into`](Self::decode_into); [`Error::RangeOutOfBounds`] for blocks that are not there.
    pub fn decode_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if weights.len() >= bf16::BYTES * WORTH_TABLES {
            return super::Decoder::new(self).decode_blocks_into(blocks, weights);
        }
        self.decode_blocks_compact(blocks, weights)
    }

    /// [`decode_blocks_into`](Self::decode_blocks_into) by the compact decoder.
    pub(super) fn decode_blocks_compact(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
    ) -> Result<(), Error> {
        self.for_blocks(blocks, weights, |decoder, block, sign_mantissa, weights| {
            let mut reader = BitReader::at(self.code, self.block_start(block));
            decoder.merge_into(&mut reader, sign_mantissa, weights)?;
            self.check_block_end(block, reader.position())
        })
    }

    /// Checks that the blocks are there, and that `weights` is as long as they ask for.
    pub(super) fn expect_blocks(&self, blocks: &Range<usize>, weights: &[u8]) -> Result<(), Error> {
        if blocks.start > blocks.end || blocks.end > self.blocks() {
            return Err(Error::RangeOutOfBounds { start: blocks.start, end: blocks.end, len: self.blocks() });
        }
        // Validation has shown that positions do not fall.
        let elements = (self.position(blocks.end) - self.position(blocks.start)) as usize;
        bf16::expect_len("weights", weights.len(), bf16::BYTES * elements)
    }

    /// Decodes a run of blocks like [`decode_blocks_into`](Self::decode_blocks_into), and also checks the gap of every
    /// window, on which parallel decoders rely but this one does not.
    ///
    /// # Errors
    ///
    /// As [`decode_blocks_into`](Self::decode_blocks_into), and [`Error::GapMismatch`].
    ///
    /// ```
    /// use df11_core::df11::{self, Options};
    ///
    /// let encoded = df11::encode(&[&[0x80, 0x3f, 0x00, 0x40]], &Options::default())?;
    /// let unit = encoded.as_unit();
    /// unit.verify_blocks_into(0..unit.blocks(), &mut [0; 4])?;
    /// # Ok::<(), df11_core::Error>(())
    /// ```
    pub fn verify_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if weights.len() >= bf16::BYTES * WORTH_TABLES {
            return super::Decoder::new(self).verify_blocks_into(blocks, weights);
        }
        self.verify_blocks_compact(blocks, weights)
    }

    /// [`verify_blocks_into`](Self::verify_blocks_into) by the compact decoder.
    pub(super) fn verify_blocks_compact(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
    ) -> Result<(), Error> {
        self.for_blocks(blocks, weights, |decoder, block, sign_mantissa, weights| {
            let end = self.verify_block(decoder, block, sign_mantissa, weights)?;
            self.check_block_end(block, end)
        })
    }

    /// Decodes the elements of any range, beginning at the block that holds the first.
    ///
    /// Costs the decoding of up to one block before the range. What lies outside the range is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if the range does not lie within the unit, [`Error::BufferLength`] unless `weights`
    /// has two bytes for each element of it; otherwise the rule that the code breaks.
    ///
    /// ```
    /// use df11_core::df11::{self, Options};
    ///
    /// let encoded = df11::encode(&[&[0x80, 0x3f, 0x00, 0x40, 0x40, 0x40]], &Options::default())?;
    /// let mut middle = [0; 2];
    /// encoded.as_unit().decode_range_into(1..2, &mut middle)?;
    /// assert_eq!(middle, [0x00, 0x40]);
    /// # Ok::<(), df11_core::Error>(())
    /// ```
    pub fn decode_range_into(&self, range: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if weights.len() >= bf16::BYTES * WORTH_TABLES {
            return super::Decoder::new(self).decode_range_into(range, weights);
        }
        self.decode_range_compact(range, weights)
    }

    /// Checks that a range is there, and that `weights` is as long as it asks for.
    pub(super) fn expect_range(&self, range: &Range<usize>, weights: &[u8]) -> Result<(), Error> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len: self.len() });
        }
        bf16::expect_len("weights", weights.len(), bf16::BYTES * range.len())
    }

    /// [`decode_range_into`](Self::decode_range_into) by the compact decoder.
    pub(super) fn decode_range_compact(&self, range: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.expect_range(&range, weights)?;
        let decoder = Compact::new(self.tables);
        let mut weights = weights;
        let mut from = range.start;
        while from < range.end {
            let block = self.block_of(from);
            let elements = self.block_range(block);
            let to = elements.end.min(range.end);
            let mut reader = BitReader::at(self.code, self.block_start(block));
            decoder.skip(&mut reader, from - elements.start)?;
            let (now, later) = weights.split_at_mut(bf16::BYTES * (to - from));
            decoder.merge_into(&mut reader, &self.sign_mantissa[from..to], now)?;
            if to == elements.end {
                self.check_block_end(block, reader.position())?;
            } else {
                self.check_within(reader.position())?;
            }
            (weights, from) = (later, to);
        }
        Ok(())
    }

    /// Runs `decode` over each block with its share of the planes and of `weights`.
    fn for_blocks(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
        mut decode: impl FnMut(&Compact<'_>, usize, &[u8], &mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.expect_blocks(&blocks, weights)?;
        let decoder = Compact::new(self.tables);
        let mut weights = weights;
        for block in blocks {
            let range = self.block_range(block);
            let (now, later) = weights.split_at_mut(bf16::BYTES * range.len());
            decode(&decoder, block, &self.sign_mantissa[range], now)?;
            weights = later;
        }
        Ok(())
    }

    /// Decodes a block window by window, so that each gap can be compared; returns the bit at which it ends.
    fn verify_block(
        &self,
        decoder: &Compact<'_>,
        block: usize,
        sign_mantissa: &[u8],
        weights: &mut [u8],
    ) -> Result<u64, Error> {
        let mut reader = BitReader::at(self.code, self.block_start(block));
        let mut stage = [0; STAGE];
        let mut window_end = block as u64 * BLOCK_BITS;
        let mut window = block * WINDOWS_PER_BLOCK;
        for (sign_mantissa, weights) in
            sign_mantissa.chunks(STAGE).zip(weights.chunks_mut(bf16::BYTES * STAGE))
        {
            let stage = &mut stage[..sign_mantissa.len()];
            for exponent in &mut *stage {
                let start = reader.position();
                if start >= window_end {
                    let expected = start - window_end;
                    let found = self.gap(window);
                    // A codeword is at most 32 bits long, so no window is passed over.
                    if expected != u64::from(found) {
                        let expected = expected.min(255) as u8;
                        return Err(Error::GapMismatch { window: window as u64, expected, found });
                    }
                    window += 1;
                    window_end += WINDOW_BITS;
                }
                reader.refill();
                *exponent = decoder.symbol(&mut reader)?;
            }
            bf16::merge(stage, sign_mantissa, weights)?;
        }
        Ok(reader.position())
    }

    /// The rule that ties a block to the next, or to the end of the code.
    pub(super) fn check_block_end(&self, block: usize, end: u64) -> Result<(), Error> {
        let range = self.block_range(block);
        if range.end < self.len() {
            let expected = self.block_start(block + 1);
            return if end == expected {
                Ok(())
            } else {
                Err(Error::BlockEnd { block, expected, found: end })
            };
        }
        if range.is_empty() {
            // No codeword starts in this (last) block; the one before it was checked against the end of the code.
            return Ok(());
        }
        self.check_within(end)?;
        let bits = 8 * self.code.len() as u64;
        if bits - end >= 8 { Err(Error::TrailingCode { bit: end, bits }) } else { Ok(()) }
    }

    fn check_within(&self, end: u64) -> Result<(), Error> {
        let bits = 8 * self.code.len() as u64;
        if end > bits { Err(Error::CodeEnded { bit: end, bits }) } else { Ok(()) }
    }
}

/// Table 0 with the code lengths fused into it, and the tables for longer codewords.
struct Compact<'a> {
    /// Symbol in the high byte, length (1 to 8) in the low; 0 where [`PrefixTables::decode`] has to look.
    fused: [u16; 256],
    tables: PrefixTables<'a>,
}

impl<'a> Compact<'a> {
    fn new(tables: PrefixTables<'a>) -> Self {
        let (root, lengths) = (&tables.tables()[0], tables.code_lengths());
        let fused = root.map(|symbol| match lengths[usize::from(symbol)] {
            length @ 1..=8 if symbol < FIRST_JUMP => u16::from_be_bytes([symbol, length]),
            _ => 0,
        });
        Compact { fused, tables }
    }

    /// Decodes a symbol; the reader must hold 32 bits.
    #[inline(always)]
    fn symbol(&self, reader: &mut BitReader<'_>) -> Result<u8, Error> {
        let entry = self.fused[reader.peek(8) as usize];
        if entry == 0 {
            return self.long_symbol(reader);
        }
        let [symbol, length] = entry.to_be_bytes();
        reader.consume(u32::from(length));
        Ok(symbol)
    }

    /// Decodes a symbol whose codeword is longer than 8 bits, or finds out what is wrong. Leaves the reader refilled,
    /// so that the caller's count of look-ups still holds.
    #[cold]
    fn long_symbol(&self, reader: &mut BitReader<'_>) -> Result<u8, Error> {
        reader.refill();
        let (symbol, length) = self.tables.decode(reader.peek(32), reader.position())?;
        reader.consume(u32::from(length));
        reader.refill();
        Ok(symbol)
    }

    fn exponents_into(&self, reader: &mut BitReader<'_>, exponents: &mut [u8]) -> Result<(), Error> {
        let (groups, rest) = exponents.as_chunks_mut::<PER_REFILL>();
        for group in groups {
            reader.refill();
            for exponent in group {
                *exponent = self.symbol(reader)?;
            }
        }
        reader.refill();
        for exponent in rest {
            *exponent = self.symbol(reader)?;
        }
        Ok(())
    }

    fn merge_into(
        &self,
        reader: &mut BitReader<'_>,
        sign_mantissa: &[u8],
        weights: &mut [u8],
    ) -> Result<(), Error> {
        let mut stage = [0; STAGE];
        for (sign_mantissa, weights) in
            sign_mantissa.chunks(STAGE).zip(weights.chunks_mut(bf16::BYTES * STAGE))
        {
            let stage = &mut stage[..sign_mantissa.len()];
            self.exponents_into(reader, stage)?;
            bf16::merge(stage, sign_mantissa, weights)?;
        }
        Ok(())
    }

    fn skip(&self, reader: &mut BitReader<'_>, elements: usize) -> Result<(), Error> {
        let mut stage = [0; STAGE];
        let mut left = elements;
        while left > 0 {
            let now = left.min(STAGE);
            self.exponents_into(reader, &mut stage[..now])?;
            left -= now;
        }
        Ok(())
    }
}
