//! Decoding: whole units, blocks, ranges of elements; and the compact decoder, which needs no
//! allocator and no tables but those of the unit.
//!
//! Its algorithm: from the start bit of a block, look the next 8 bits up in table 0; take the
//! symbol, or follow jumps; move on by the symbol's code length; stop after as many symbols as the
//! output positions say.
//!
//! Where the code departs from it:
//!
//! 1. If table 0 resolves a codeword, its length is checked at once to be 1 to 8. On trained
//!    weights, this covers over 99 % of codewords. All others go to [`PrefixTables::decode`], which
//!    also finds out what is wrong.
//! 2. Code is read one machine word at a time: 64 bits serve seven look-ups, 32 bits serve three,
//!    because an eighth or fourth could lack bits. A 32-bit machine therefore shifts no 64-bit
//!    numbers. Together with merging each exponent as it comes, a Cortex-M4 takes 25.7 instructions
//!    per weight instead of 48.9.
//! 3. Nothing here can panic, and the compiler can prove it. The code does not index on the
//!    strength of an earlier validation. It uses look-ups that return a harmless value where there
//!    is nothing. An image for a microcontroller therefore contains no panic code.

use core::ops::Range;

use crate::Error;
use crate::bf16;
use crate::df11::{BLOCK_BITS, Unit, WINDOW_BITS, WINDOWS_PER_BLOCK};
use crate::huffman::{FIRST_JUMP, PrefixTables};

/// From this many weights on, tables of many symbols pay for their building.
#[cfg(feature = "alloc")]
const WORTH_TABLES: usize = 1024;

/// Bytes of a machine word.
const WORD_BYTES: usize = size_of::<usize>();

/// Codewords of 8 bits that surely are in a machine word whose first byte may be used up to its
/// last bit.
const PER_WORD: usize = WORD_BYTES - 1;

impl Unit<'_> {
    /// Decodes the whole unit into `weights`, two little-endian bytes per element.
    ///
    /// Checks that each block's codewords end where the next block's begin, and that the code ends
    /// with the last element.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] unless `weights` is `2 * self.len()` bytes long; otherwise the rule
    /// that the code breaks. The content of `weights` is then unspecified.
    ///
    /// ```
    /// let weights = [0x80, 0x3f, 0x00, 0x40];
    /// let encoded = df11::encode(&weights)?;
    /// let mut restored = [0; 4];
    /// encoded.as_unit().decode_into(&mut restored)?;
    /// assert_eq!(restored, weights);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_into(&self, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(0..self.blocks(), weights)
    }

    /// Decodes one block: the elements of [`block_range(block)`](Unit::block_range).
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into), and [`Error::RangeOutOfBounds`] for a
    /// block that does not exist.
    pub fn decode_block_into(&self, block: usize, weights: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(block..block.saturating_add(1), weights)
    }

    /// Decodes a run of blocks, from the first element of the first to the last element of the
    /// last.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into), and [`Error::RangeOutOfBounds`] for blocks
    /// that do not exist.
    pub fn decode_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if weights.len() >= bf16::BYTES * WORTH_TABLES {
            return super::Decoder::new(self).decode_blocks_into(blocks, weights);
        }
        self.decode_blocks_compact(blocks, weights)
    }

    /// [`decode_blocks_into`](Self::decode_blocks_into) by the compact decoder.
    pub(in crate::df11) fn decode_blocks_compact(
        &self,
        blocks: Range<usize>,
        weights: &mut [u8],
    ) -> Result<(), Error> {
        self.for_blocks(blocks, weights, |decoder, block, sign_mantissa, weights| {
            let reader = Reader::at(self.code, self.block_start(block));
            let reader = decoder.merge_into(reader, sign_mantissa, weights)?;
            self.check_block_end(block, reader.position())
        })
    }

    /// Checks that the blocks exist, and that `weights` has the length of their output.
    pub(in crate::df11) fn expect_blocks(&self, blocks: &Range<usize>, weights: &[u8]) -> Result<(), Error> {
        if blocks.start > blocks.end || blocks.end > self.blocks() {
            return Err(Error::RangeOutOfBounds { start: blocks.start, end: blocks.end, len: self.blocks() });
        }
        bf16::expect_len("weights", weights.len(), bf16::BYTES * self.elements_of(blocks))
    }

    /// The elements of a run of blocks that are there.
    pub(super) fn elements_of(&self, blocks: &Range<usize>) -> usize {
        // Validation has shown that positions do not fall.
        (self.position(blocks.end) - self.position(blocks.start)) as usize
    }

    /// Decodes a run of blocks like [`decode_blocks_into`](Self::decode_blocks_into), and also
    /// checks the gap of every window, on which parallel decoders rely but this one does not.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_blocks_into`](Self::decode_blocks_into), and [`Error::GapMismatch`].
    ///
    /// ```
    /// let encoded = df11::encode(&[0x80, 0x3f, 0x00, 0x40])?;
    /// let unit = encoded.as_unit();
    /// unit.verify_blocks_into(0..unit.blocks(), &mut [0; 4])?;
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn verify_blocks_into(&self, blocks: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        #[cfg(feature = "alloc")]
        if weights.len() >= bf16::BYTES * WORTH_TABLES {
            return super::Decoder::new(self).verify_blocks_into(blocks, weights);
        }
        self.verify_blocks_compact(blocks, weights)
    }

    /// [`verify_blocks_into`](Self::verify_blocks_into) by the compact decoder.
    pub(in crate::df11) fn verify_blocks_compact(
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
    /// Costs the decoding of up to one block before the range. What lies outside the range is not
    /// checked.
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if the range does not lie within the unit,
    /// [`Error::BufferLength`] unless `weights` has two bytes for each element of it; otherwise the
    /// rule that the code breaks.
    ///
    /// ```
    /// let encoded = df11::encode(&[0x80, 0x3f, 0x00, 0x40, 0x40, 0x40])?;
    /// let mut middle = [0; 2];
    /// encoded.as_unit().decode_range_into(1..2, &mut middle)?;
    /// assert_eq!(middle, [0x00, 0x40]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_range_into(&self, range: Range<usize>, weights: &mut [u8]) -> Result<(), Error> {
        self.expect_range(&range, weights)?;
        #[cfg(feature = "alloc")]
        if self.elements_of(&self.whole_blocks(&range)) >= WORTH_TABLES {
            return super::Decoder::new(self).decode_range_into(range, weights);
        }
        self.decode_range_compact(range, weights)
    }

    /// The blocks that lie within a range of elements, which may be none.
    #[cfg(feature = "alloc")]
    pub(in crate::df11) fn whole_blocks(&self, range: &Range<usize>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let (first, last) = (self.block_of(range.start), self.block_of(range.end - 1));
        let first = first + usize::from(self.block_range(first).start < range.start);
        let end = last + usize::from(self.block_range(last).end == range.end);
        first..end.max(first)
    }

    /// Checks that a range exists, and that `weights` has the length of its output.
    pub(in crate::df11) fn expect_range(&self, range: &Range<usize>, weights: &[u8]) -> Result<(), Error> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len: self.len() });
        }
        bf16::expect_len("weights", weights.len(), bf16::BYTES * range.len())
    }

    /// [`decode_range_into`](Self::decode_range_into) by the compact decoder, for a range that has
    /// been checked.
    pub(in crate::df11) fn decode_range_compact(
        &self,
        range: Range<usize>,
        weights: &mut [u8],
    ) -> Result<(), Error> {
        let decoder = Compact::new(self.tables);
        let mut weights = weights;
        let mut from = range.start;
        while from < range.end {
            let block = self.block_of(from);
            let elements = self.block_range(block);
            let to = elements.end.min(range.end);
            let reader = Reader::at(self.code, self.block_start(block));
            let reader = decoder.skip(reader, from - elements.start)?;
            let (sign_mantissa, now) = self.take_planes(from..to, &mut weights);
            let reader = decoder.merge_into(reader, sign_mantissa, now)?;
            if to == elements.end {
                self.check_block_end(block, reader.position())?;
            } else {
                self.check_within(reader.position())?;
            }
            from = to;
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
            let (sign_mantissa, now) = self.take_planes(self.block_range(block), &mut weights);
            decode(&decoder, block, sign_mantissa, now)?;
        }
        Ok(())
    }

    /// Returns the signs and mantissas of these elements, and splits this many weights off the
    /// front of `weights`. Validation and the check of the buffer guarantee that both exist.
    /// Without that guarantee, the result would be empty.
    fn take_planes<'w>(&self, range: Range<usize>, weights: &mut &'w mut [u8]) -> (&[u8], &'w mut [u8]) {
        let bytes = bf16::BYTES * range.len();
        let (now, later) = core::mem::take(weights).split_at_mut_checked(bytes).unwrap_or_default();
        *weights = later;
        (self.sign_mantissa.get(range).unwrap_or_default(), now)
    }

    /// Decodes a block window by window, so that each gap can be compared; returns the bit at which
    /// it ends.
    fn verify_block(
        &self,
        decoder: &Compact<'_>,
        block: usize,
        sign_mantissa: &[u8],
        weights: &mut [u8],
    ) -> Result<u64, Error> {
        let mut reader = Reader::at(self.code, self.block_start(block));
        let mut window_end = block as u64 * BLOCK_BITS;
        let mut window = block * WINDOWS_PER_BLOCK;
        for (weight, sign_mantissa) in weights.as_chunks_mut().0.iter_mut().zip(sign_mantissa) {
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
            let mut word = reader.word();
            let exponent = decoder.symbol(&mut reader, &mut word)?;
            *weight = bf16::from_planes(exponent, *sign_mantissa).to_le_bytes();
        }
        Ok(reader.position())
    }

    /// The rule that ties a block to the next, or to the end of the code.
    pub(in crate::df11) fn check_block_end(&self, block: usize, end: u64) -> Result<(), Error> {
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
            // No codeword starts in this (last) block; the one before it was checked against the
            // end of the code.
            return Ok(());
        }
        // The bits after the last element are not checked (D-6.3).
        self.check_within(end)?;
        if block + 1 < self.blocks() { self.check_last_start(block) } else { Ok(()) }
    }

    /// The rule that ties a block to an empty last one: its last codeword starts in it. Where that
    /// starts is found out again, since few units have an empty block.
    #[cold]
    fn check_last_start(&self, block: usize) -> Result<(), Error> {
        let before = self.block_range(block).len().saturating_sub(1);
        let reader = Reader::at(self.code, self.block_start(block));
        let found = Compact::new(self.tables).skip(reader, before)?.position();
        let expected = (block as u64 + 1) * BLOCK_BITS;
        if found < expected { Ok(()) } else { Err(Error::BlockEnd { block, expected, found }) }
    }

    fn check_within(&self, end: u64) -> Result<(), Error> {
        let bits = 8 * self.code.len() as u64;
        if end > bits { Err(Error::CodeEnded { bit: end, bits }) } else { Ok(()) }
    }
}

/// Reads code, a machine word at a time. Past the end of the code it reads zeros; its position
/// tells afterwards.
#[derive(Clone, Copy)]
struct Reader<'a> {
    code: &'a [u8],
    /// The byte at which a word was last read. A block has at most [`BLOCK_BITS`] codewords of at
    /// most 4 bytes, so this position stays close to the end of the code.
    byte: usize,
    /// Bits that were used, counted from the start of that byte.
    used: u32,
}

impl<'a> Reader<'a> {
    fn at(code: &'a [u8], bit: u64) -> Self {
        Reader { code, byte: (bit / 8) as usize, used: (bit % 8) as u32 }
    }

    /// Bits from the start of the code to the next to be used.
    #[inline(always)]
    fn position(&self) -> u64 {
        self.byte as u64 * 8 + u64::from(self.used)
    }

    /// Returns the next bits, from the top: a machine word, less at most 7 bits.
    #[inline(always)]
    fn word(&mut self) -> usize {
        self.byte += (self.used / 8) as usize;
        self.used %= 8;
        let word = match self.code.get(self.byte..).and_then(|rest| rest.first_chunk()) {
            Some(chunk) => usize::from_be_bytes(*chunk),
            None => (bytes_at_end(self.code, self.byte) >> (64 - usize::BITS)) as usize,
        };
        word << self.used
    }
}

/// Eight bytes of code as a number, the first at the top; zeros past its end.
#[cold]
#[inline(never)]
fn bytes_at_end(code: &[u8], byte: usize) -> u64 {
    let rest = code.get(byte..).unwrap_or_default();
    (0..8).map(|i| rest.get(i).copied().unwrap_or(0)).fold(0, |bytes, byte| bytes << 8 | u64::from(byte))
}

/// The tables of a unit, ready for look-ups.
struct Compact<'a> {
    /// Table 0.
    root: &'a [u8; 256],
    lengths: &'a [u8; 256],
    tables: PrefixTables<'a>,
}

impl<'a> Compact<'a> {
    fn new(tables: PrefixTables<'a>) -> Self {
        Compact { root: tables.root(), lengths: tables.code_lengths(), tables }
    }

    /// Decodes a symbol from a word of the reader with at least 8 bits left.
    #[inline(always)]
    fn symbol(&self, reader: &mut Reader<'_>, word: &mut usize) -> Result<u8, Error> {
        let symbol = self.root[*word >> (usize::BITS - 8)];
        let length = u32::from(self.lengths[usize::from(symbol)]);
        if symbol < FIRST_JUMP && (1..=8).contains(&length) {
            reader.used += length;
            *word <<= length;
            return Ok(symbol);
        }
        let (symbol, length) = self.long_symbol(reader.code, reader.position())?;
        reader.used += u32::from(length);
        *word = reader.word();
        Ok(symbol)
    }

    /// Decodes the symbol at a bit, whose codeword is longer than 8 bits, or finds out what is
    /// wrong.
    #[cold]
    #[inline(never)]
    fn long_symbol(&self, code: &[u8], bit: u64) -> Result<(u8, u8), Error> {
        // At least 57 of these bits are after those that were used.
        let bytes = bytes_at_end(code, (bit / 8) as usize) << (bit % 8);
        self.tables.decode((bytes >> 32) as u32, bit)
    }

    /// Decodes as many symbols as there are signs and mantissas, and merges them; returns the
    /// reader after them.
    fn merge_into<'c>(
        &self,
        mut reader: Reader<'c>,
        sign_mantissa: &[u8],
        weights: &mut [u8],
    ) -> Result<Reader<'c>, Error> {
        let (groups, rest) = sign_mantissa.as_chunks::<PER_WORD>();
        let (groups_weights, rest_weights) = weights.as_chunks_mut().0.as_chunks_mut::<PER_WORD>();
        for (group, weights) in groups.iter().zip(groups_weights) {
            let mut word = reader.word();
            for (sign_mantissa, weight) in group.iter().zip(weights) {
                let exponent = self.symbol(&mut reader, &mut word)?;
                *weight = bf16::from_planes(exponent, *sign_mantissa).to_le_bytes();
            }
        }
        let mut word = reader.word();
        for (sign_mantissa, weight) in rest.iter().zip(rest_weights) {
            let exponent = self.symbol(&mut reader, &mut word)?;
            *weight = bf16::from_planes(exponent, *sign_mantissa).to_le_bytes();
        }
        Ok(reader)
    }

    /// Skips this many symbols.
    fn skip<'c>(&self, mut reader: Reader<'c>, elements: usize) -> Result<Reader<'c>, Error> {
        for _ in 0..elements / PER_WORD {
            let mut word = reader.word();
            for _ in 0..PER_WORD {
                self.symbol(&mut reader, &mut word)?;
            }
        }
        let mut word = reader.word();
        for _ in 0..elements % PER_WORD {
            self.symbol(&mut reader, &mut word)?;
        }
        Ok(reader)
    }
}
