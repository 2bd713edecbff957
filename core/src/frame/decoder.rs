//! Decoding with a table that is kept.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::{DecodeTable, Frame};
use crate::Error;

/// A frame with its table of 50 KiB, to decode from it more than once, in part, or on several
/// threads at once.
///
/// ```
/// use df11::frame::{self, ElementType, Frame};
///
/// let elements: Vec<u8> = (0..200_000u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
/// let bytes = frame::encode(ElementType::F32, &[200, 1000], &elements)?;
/// let frame = Frame::new(&bytes)?;
/// let decoder = frame.decoder();
/// // Row 3 of 200.
/// let mut row = vec![0; 4 * 1000];
/// decoder.decode_range_into(3000..4000, &mut row)?;
/// assert_eq!(row, elements[4 * 3000..4 * 4000]);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) table: Box<DecodeTable>,
}

impl<'a> Frame<'a> {
    /// Decodes all elements, little-endian.
    ///
    /// Allocates what the header says: of a frame of a stranger, look at
    /// [`elements_bytes`](Self::elements_bytes) first.
    ///
    /// # Errors
    ///
    /// The errors of [`decode_into`](Self::decode_into).
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Frame};
    ///
    /// let elements = [7; 1000];
    /// let bytes = frame::encode(ElementType::U8, &[1000], &elements)?;
    /// assert_eq!(Frame::new(&bytes)?.decode()?, elements);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode(&self) -> Result<Vec<u8>, Error> {
        let mut elements = vec![0; self.elements_bytes()];
        self.decode_into(&mut elements).map(|()| elements)
    }

    /// Decodes all elements, little-endian, to the caller's memory.
    ///
    /// Every checksum of a block is compared, the [digest](Self::digest) of all elements is not: it
    /// follows from them.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if `elements` has another length than
    /// [`elements_bytes`](Self::elements_bytes), or what is wrong with a block. The content of
    /// `elements` is then unspecified.
    pub fn decode_into(&self, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_in(&mut Box::new(DecodeTable::new()), elements)
    }

    /// The frame with its table.
    #[must_use]
    pub fn decoder(&self) -> Decoder<'a> {
        let mut table = Box::new(DecodeTable::new());
        self.build(&mut table);
        Decoder { frame: self.clone(), table }
    }
}

impl<'a> Decoder<'a> {
    /// The frame.
    #[must_use]
    pub const fn frame(&self) -> &Frame<'a> {
        &self.frame
    }

    /// Decodes all elements: see [`Frame::decode_into`].
    ///
    /// # Errors
    ///
    /// The errors of [`Frame::decode_into`].
    pub fn decode_into(&self, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_blocks_into(0..self.frame.header.blocks(), elements)
    }

    /// Decodes a run of blocks: see [`Frame::decode_blocks_into`].
    ///
    /// # Errors
    ///
    /// The errors of [`Frame::decode_blocks_into`].
    pub fn decode_blocks_into(&self, blocks: Range<usize>, elements: &mut [u8]) -> Result<(), Error> {
        self.frame.decode_blocks_into(&self.table, blocks, elements)
    }

    /// Decodes any range of the elements. Blocks inside the range are decoded straight into place.
    /// At most two blocks lie partly outside it, and these are decoded whole.
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if the range does not lie within the frame,
    /// [`Error::BufferLength`] unless `elements` has room for just these; otherwise what is wrong
    /// with a block. The content of `elements` is then unspecified.
    pub fn decode_range_into(&self, range: Range<usize>, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_range_with(range, elements, |blocks, elements| self.decode_blocks_into(blocks, elements))
    }

    /// Decodes any range, runs of blocks by `decode`.
    pub(super) fn decode_range_with(
        &self,
        range: Range<usize>,
        elements: &mut [u8],
        decode: impl Fn(Range<usize>, &mut [u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let header = &self.frame.header;
        let (len, size) = (header.len(), header.element_type().bytes());
        if range.start > range.end || range.end > len {
            return Err(Error::RangeOutOfBounds { start: range.start, end: range.end, len });
        }
        let (expected, found) = ((range.len() * size) as u64, elements.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        // Blocks before this one end within the range.
        let whole = if range.end == len { header.blocks() } else { range.end / header.block_len() };
        let (mut side, mut out) = (Vec::new(), elements);
        let mut at = range.start;
        while at < range.end {
            let block = at / header.block_len();
            let of = header.block_range(block);
            let (until, now);
            if at == of.start && whole > block {
                until = header.block_range(whole - 1).end;
                (now, out) = out.split_at_mut((until - at) * size);
                decode(block..whole, now)?;
            } else {
                until = of.end.min(range.end);
                (now, out) = out.split_at_mut((until - at) * size);
                side.resize(of.len() * size, 0);
                decode(block..block + 1, &mut side)?;
                now.copy_from_slice(&side[(at - of.start) * size..(until - of.start) * size]);
            }
            at = until;
        }
        Ok(())
    }
}
