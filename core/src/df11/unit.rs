//! The borrowed, validated view of a unit.

use core::ops::Range;

use super::{
    BLOCK_BITS, BLOCK_BYTES, GAP_BYTES_PER_BLOCK, MAX_ELEMENTS, Parts, WINDOWS_PER_BLOCK, shared_memory_bytes,
};
use crate::Error;
use crate::huffman::PrefixTables;

/// One unit: a view over its six tensors that has passed validation.
///
/// [`new`](Self::new) checks every rule that can be checked without decoding; the decoding
/// functions check the rest as they go, so that a corrupted unit gives an error or (where the
/// layout has no redundancy) other weights, but never a panic or an access out of bounds. The
/// layout has no checksum: only a digest of the original tells whether the weights are the right
/// ones.
///
/// ```
/// // 20,000 weights, four exponents: two bits each, so 16,384 to a block.
/// let weights: Vec<u8> = (0..20_000u16).flat_map(|i| ((100 + i % 4) << 7).to_le_bytes()).collect();
/// let encoded = df11::encode(&weights)?;
/// let unit = encoded.as_unit();
/// assert_eq!((unit.len(), unit.tensors(), unit.code_bytes(), unit.blocks()), (20_000, 1, 5000, 2));
/// assert_eq!((unit.block_range(0), unit.block_range(1)), (0..16_384, 16_384..20_000));
/// assert_eq!((unit.largest_block(), unit.gap(1)), (16_384, 0));
///
/// let mut block = vec![0; 2 * unit.block_range(1).len()];
/// unit.decode_block_into(1, &mut block)?;
/// assert_eq!(block, weights[2 * 16_384..]);
/// # Ok::<(), df11::Error>(())
/// ```
///
/// Units of other writers are read as they are: with non-canonical codes, with junk in table
/// entries that no codeword reaches, and with either length of `output_positions` (the official
/// encoder drops the last entry where no codeword starts in the last block).
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    pub(super) tables: PrefixTables<'a>,
    pub(super) code: &'a [u8],
    pub(super) sign_mantissa: &'a [u8],
    /// One per block, then, in the long form, the number of elements.
    positions: &'a [[u8; 4]],
    pub(super) gaps: &'a [u8],
    splits: &'a [[u8; 8]],
}

impl<'a> Unit<'a> {
    /// Checks the tensors of a unit and views them.
    ///
    /// Takes time proportional to the tables and the output positions, not to the code.
    ///
    /// # Errors
    ///
    /// An [`Error`] that names the first rule broken: lengths that do not fit together, jumps to
    /// missing tables, output or split positions out of order.
    ///
    /// ```
    /// use df11::{Error, Parts, Unit};
    ///
    /// assert_eq!(Unit::new(Parts::default()).unwrap_err(), Error::EmptyUnit);
    /// ```
    pub fn new(tensors: Parts<&'a [u8]>) -> Result<Self, Error> {
        let elements = tensors.sign_mantissa.len();
        let code = tensors.encoded_exponent;
        if elements == 0 {
            return Err(Error::EmptyUnit);
        }
        if elements > MAX_ELEMENTS {
            return Err(Error::TooManyElements { elements: elements as u64 });
        }
        if code.len() > MAX_ELEMENTS {
            return Err(Error::TooManyCodeBytes { bytes: code.len() as u64 });
        }
        let tables = PrefixTables::new(tensors.luts)?;
        if code.len() < elements.div_ceil(8) {
            return Err(Error::CodeTooShort { bytes: code.len(), elements });
        }

        let blocks = code.len().div_ceil(BLOCK_BYTES);
        let expected = blocks * GAP_BYTES_PER_BLOCK;
        if tensors.gaps.len() != expected {
            return Err(Error::GapsLength { expected, found: tensors.gaps.len() });
        }
        let positions = match tensors.output_positions.as_chunks::<4>() {
            (positions, []) if positions.len() == blocks || positions.len() == blocks + 1 => positions,
            _ => {
                let found = tensors.output_positions.len();
                return Err(Error::PositionsLength { expected: 4 * (blocks + 1), found });
            }
        };
        let splits = match tensors.split_positions.as_chunks::<8>() {
            (splits, []) => splits,
            _ => return Err(Error::SplitsLength { bytes: tensors.split_positions.len() }),
        };

        let unit = Unit {
            tables,
            code,
            sign_mantissa: tensors.sign_mantissa,
            positions,
            gaps: tensors.gaps,
            splits,
        };
        unit.check_positions()?;
        unit.check_splits()?;
        Ok(unit)
    }

    fn check_positions(&self) -> Result<(), Error> {
        let first = self.position(0);
        if first != 0 {
            return Err(Error::FirstPosition { found: first });
        }
        // The first codeword starts with the code. Of other blocks' first gaps, the end of the
        // block before them tells.
        let gap = self.gap(0);
        if gap != 0 {
            return Err(Error::GapMismatch { window: 0, expected: 0, found: gap });
        }
        // In the short form, the last entry is the last block's own position, and the elements end
        // there as well.
        let last = self.positions.last().map_or(0, |last| u32::from_le_bytes(*last));
        if last as usize != self.len() {
            return Err(Error::LastPosition { expected: self.len(), found: last });
        }
        let bits = 8 * self.code.len() as u64;
        for block in 0..self.blocks() {
            let (position, next) = (self.position(block), self.position(block + 1));
            // A codeword of at most 32 bits starts in every block but, where one straddles into it,
            // the last.
            if next < position || (next == position && block + 1 < self.blocks()) {
                return Err(Error::PositionOrder { block, position, next });
            }
            let end = bits.min((block as u64 + 1) * BLOCK_BITS);
            if u64::from(next - position) > end.saturating_sub(self.block_start(block)) {
                return Err(Error::BlockOverfull { block, elements: next - position });
            }
        }
        Ok(())
    }

    fn check_splits(&self) -> Result<(), Error> {
        let greatest = self.len() as i64;
        let mut least = 0;
        for (index, split) in self.splits.iter().enumerate() {
            let position = i64::from_le_bytes(*split);
            if !(least..=greatest).contains(&position) {
                return Err(Error::SplitOrder { index, position, least, greatest });
            }
            least = position;
        }
        Ok(())
    }

    /// Number of elements (weights); at least 1.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a unit is never empty")]
    pub const fn len(&self) -> usize {
        self.sign_mantissa.len()
    }

    /// Returns the number of blocks of 4096 bytes of code. The last one may be shorter.
    #[inline]
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.code.len().div_ceil(BLOCK_BYTES)
    }

    /// Bytes of code.
    #[inline]
    #[must_use]
    pub const fn code_bytes(&self) -> usize {
        self.code.len()
    }

    /// Number of tensors in the unit.
    #[inline]
    #[must_use]
    pub const fn tensors(&self) -> usize {
        self.splits.len() + 1
    }

    /// The elements of each tensor, in order.
    ///
    /// ```
    /// use df11::EncodeOptions;
    ///
    /// let encoded = EncodeOptions::new().encode(&[&[0x80, 0x3f], &[0x80, 0x3f, 0x00, 0x40]])?;
    /// assert!(encoded.as_unit().tensor_ranges().eq([0..1, 1..3]));
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn tensor_ranges(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let unit = *self;
        (0..self.tensors()).filter_map(move |tensor| unit.tensor_range(tensor))
    }

    /// The elements of one tensor, by its number; `None` for one that is not there.
    ///
    /// ```
    /// use df11::EncodeOptions;
    ///
    /// let encoded = EncodeOptions::new().encode(&[&[0x80, 0x3f], &[0x80, 0x3f, 0x00, 0x40]])?;
    /// assert_eq!([1, 2].map(|tensor| encoded.as_unit().tensor_range(tensor)), [Some(1..3), None]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[must_use]
    pub fn tensor_range(&self, tensor: usize) -> Option<Range<usize>> {
        // Validation has shown that each split lies between 0 and the number of elements.
        let at =
            |i: usize| self.splits.get(i).map_or(self.len(), |split| i64::from_le_bytes(*split) as usize);
        let start = if tensor == 0 { 0 } else { at(tensor - 1) };
        (tensor < self.tensors()).then(|| start..at(tensor))
    }

    /// The elements whose codewords start in this block; empty for a block that is not there.
    #[must_use]
    pub fn block_range(&self, block: usize) -> Range<usize> {
        if block < self.blocks() {
            self.position(block) as usize..self.position(block + 1) as usize
        } else {
            self.len()..self.len()
        }
    }

    /// The elements of each block, in order.
    pub fn block_ranges(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let unit = *self;
        (0..self.blocks()).map(move |block| unit.block_range(block))
    }

    /// The largest number of elements in any block.
    #[must_use]
    pub fn largest_block(&self) -> u32 {
        self.block_ranges().map(|range| range.len() as u32).max().unwrap_or(0)
    }

    /// Shared memory, in bytes, that the published kernel asks for when it decodes this unit.
    /// Published loaders cannot launch it above
    /// [`PUBLISHED_SHARED_MEMORY`](super::PUBLISHED_SHARED_MEMORY).
    #[must_use]
    pub fn shared_memory_bytes(&self) -> u64 {
        shared_memory_bytes(self.largest_block())
    }

    /// The prefix tables and code lengths.
    #[inline]
    #[must_use]
    pub const fn tables(&self) -> PrefixTables<'a> {
        self.tables
    }

    /// Whether `output_positions` lacks its last entry, as the official encoder leaves it where no
    /// codeword starts in the last block.
    #[must_use]
    pub const fn has_short_positions(&self) -> bool {
        self.positions.len() == self.blocks()
    }

    /// The output position of a block, the number of elements for the one after the last.
    #[inline]
    pub(super) fn position(&self, block: usize) -> u32 {
        self.positions.get(block).map_or(self.len() as u32, |position| u32::from_le_bytes(*position))
    }

    /// The block that holds the codeword of this element, which must be in the unit.
    pub(super) fn block_of(&self, element: usize) -> usize {
        // The first position is 0, so at least one is counted.
        self.positions.partition_point(|p| u32::from_le_bytes(*p) as usize <= element).saturating_sub(1)
    }

    /// Bit offset of the first codeword that starts in a block.
    #[inline]
    pub(super) fn block_start(&self, block: usize) -> u64 {
        block as u64 * BLOCK_BITS + u64::from(self.gap(block * WINDOWS_PER_BLOCK))
    }
}
