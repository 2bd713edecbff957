//! Decoding frames.

use core::ops::Range;

use df11_simd::{Operation, Simd};
#[cfg(feature = "alloc")]
use df11_simd::{Write, Writer};

#[cfg(feature = "alloc")]
use super::ElementType;
use super::chunks::Sections;
use super::header::Parts;
use super::table::Table;
use super::{ALIGNMENT, BLOCK_HEADER, Codec, ENTRY_BYTES, Header, TRAILER_BYTES, crc, planes};
use crate::dictionary::CHUNK;
use crate::error::impossible;
use crate::rans::{DecodeBlock, DecodeTable, MANY, STATES_BYTES};
use crate::{Error, FramePart, Level, bf16};

/// Elements of more bytes than this go past the caches: a second-level cache could not keep them
/// for the reader.
#[cfg(feature = "alloc")]
pub(super) const STREAM_BYTES: usize = 4 << 20;

/// A view over the bytes of a whole frame. Its header, directory and trailer have been checked.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) header: Header,
    /// Where the sections of codec dictionary are.
    pub(super) sections: Sections,
    /// The offset of each block, and its checksum.
    directory: &'a [[u8; ENTRY_BYTES]],
    digest: u32,
    pub(super) level: Level,
}

/// Where the parts of a block are, in bytes from the start of the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockLayout {
    /// Where the states begin: [`STATES_BYTES`] of them.
    pub states: usize,
    /// The words.
    pub words: Range<usize>,
    /// The planes of the raw part.
    pub raw: Range<usize>,
    /// The checksum of the block's coded bytes.
    pub coded_checksum: u32,
}

/// A block whose checksum is right.
struct Block<'a> {
    states: &'a [u8; STATES_BYTES],
    /// The words and what follows them.
    words: &'a [u8],
    words_bytes: usize,
    raw: &'a [u8],
    /// The checksum of its coded bytes.
    coded: u32,
}

impl<'a> Frame<'a> {
    /// Checks header, directory and trailer. Time and memory depend on the number of blocks alone.
    ///
    /// # Errors
    ///
    /// The errors of [`Header::parse`]; [`Error::FrameLength`], [`Error::FrameChecksum`] or
    /// [`Error::FrameField`] for a broken rule of section 6.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut frame = Frame {
            bytes,
            header: Header::UNREAD,
            sections: Sections::default(),
            directory: &[],
            digest: 0,
            level: Level::best(),
        };
        let start = frame.header.read(bytes)?;
        let blocks = frame.header.blocks();
        // Where the first block is, and how many bytes each has at least: its header, or the codes
        // of a chunk.
        let (first, of_block) = match frame.header.dictionary() {
            None => (start as u64, BLOCK_HEADER as u64),
            Some(model) => {
                let sections = Sections::new(&frame.header, start);
                frame.sections = sections.unwrap_or_default();
                (
                    sections.map_or(u64::MAX, |sections| sections.codes as u64),
                    model.width().group_bytes() as u64,
                )
            }
        };
        // And so no product of lengths can be too large.
        let least = (blocks as u64).saturating_mul(of_block + ENTRY_BYTES as u64);
        let least = least.saturating_add(first).saturating_add(TRAILER_BYTES as u64);
        let too_short =
            Error::FrameLength { part: FramePart::Frame, expected: least, found: bytes.len() as u64 };
        if (bytes.len() as u64) < least {
            return Err(too_short);
        }
        let (rest, trailer) = bytes.split_last_chunk::<TRAILER_BYTES>().ok_or(too_short)?;
        let directory_start = rest.len().wrapping_sub(ENTRY_BYTES * blocks);
        let (_, directory) = rest.split_at_checked(directory_start).ok_or(too_short)?;
        let [offset, number, last] = read_fields(trailer);
        let [digest, checksum] = [last as u32, (last >> 32) as u32];
        let (checked, _) = trailer.split_at(TRAILER_BYTES - 4);
        if crc(crc(0, directory), checked) != checksum {
            return Err(Error::FrameChecksum { part: FramePart::Trailer });
        }
        if number != blocks as u64 {
            return Err(Error::FrameField { clause: "F-6.2", field: "number of blocks", value: number });
        }
        if offset != directory_start as u64 {
            return Err(Error::FrameField {
                clause: "F-6.2",
                field: "offset of the directory",
                value: offset,
            });
        }
        let directory = directory.as_chunks().0;
        // From block to block, to the directory.
        let alignment = if frame.header.codec() == Codec::Dictionary { 1 } else { ALIGNMENT as u64 };
        let mut least = first;
        for (i, entry) in directory.iter().enumerate() {
            let (entry, _) = read_entry(entry);
            let fits = if i == 0 { entry == least } else { entry >= least };
            if !fits || !entry.is_multiple_of(alignment) {
                return Err(Error::FrameField { clause: "F-6.1", field: "offset of a block", value: entry });
            }
            least = entry.saturating_add(of_block);
        }
        let reached = if blocks == 0 { offset == least } else { least <= offset };
        if !reached {
            return Err(Error::FrameField {
                clause: "F-6.2",
                field: "offset of the directory",
                value: offset,
            });
        }
        (frame.directory, frame.digest) = (directory, digest);
        if frame.header.codec() == Codec::Dictionary {
            frame.check_paddings()?;
        }
        Ok(frame)
    }

    /// Returns the same frame, to be decoded with the instruction set of this level.
    #[must_use]
    pub const fn at_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Returns the bytes of the frame.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the header of the frame.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// CRC-32 of all elements as they were.
    #[must_use]
    pub const fn digest(&self) -> u32 {
        self.digest
    }

    /// The bytes of its elements.
    #[must_use]
    pub const fn elements_bytes(&self) -> usize {
        self.header.len * self.header.element_type.bytes()
    }

    /// Where the parts of a block of codec rANS are, for decoders elsewhere, GPUs among them. Its
    /// checksum is compared first.
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Frame};
    ///
    /// let elements: Vec<u8> = (0..100_000u32).map(|i| (i % 17) as u8).collect();
    /// let bytes = frame::encode(ElementType::U8, &[100_000], &elements)?;
    /// let layout = Frame::new(&bytes)?.block_layout(1)?;
    /// assert_eq!((layout.words.start - layout.states) as usize, df11::hazmat::rans::STATES_BYTES);
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if there is no such block, or what is wrong with it, short of
    /// decoding it.
    pub fn block_layout(&self, block: usize) -> Result<BlockLayout, Error> {
        let len = self.header.blocks();
        if block >= len {
            return Err(Error::RangeOutOfBounds { start: block, end: block.saturating_add(1), len });
        }
        let found = self.block(block)?;
        let start = self.directory.get(block).map_or(0, |entry| read_entry(entry).0 as usize);
        let parts = self.header.parts(block, found.words_bytes as u32)?;
        Ok(BlockLayout {
            states: start + BLOCK_HEADER,
            words: start + parts.words_start..start + parts.words_end,
            raw: start + parts.raw_start..start + parts.raw_end,
            coded_checksum: found.coded,
        })
    }

    /// Builds the table for [`decode_block_into`](Self::decode_block_into).
    pub fn build(&self, table: &mut impl Table) {
        table.build(&self.header);
    }

    /// Decodes one block with the [table](Self::build) of this frame, to its
    /// [elements](Header::block_range).
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if there is no such block, [`Error::BufferLength`] if `elements`
    /// has another length, or what is wrong with the block. The content of `elements` is then
    /// unspecified.
    ///
    /// ```
    /// use df11::frame::{self, ElementType, Frame, RansTable};
    ///
    /// let elements: Vec<u8> = (0..100_000u32).map(|i| (i % 17) as u8).collect();
    /// let bytes = frame::encode(ElementType::F8E4M3, &[100_000], &elements)?;
    /// let frame = Frame::new(&bytes)?;
    /// let mut table = RansTable::new();
    /// frame.build(&mut table);
    /// let range = frame.header().block_range(1);
    /// let mut block = vec![0; range.len()];
    /// frame.decode_block_into(&table, 1, &mut block)?;
    /// assert_eq!(block, elements[range]);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn decode_block_into(
        &self,
        table: &impl Table,
        block: usize,
        elements: &mut [u8],
    ) -> Result<(), Error> {
        self.decode_blocks_into(table, block..block.saturating_add(1), elements)
    }

    /// Decodes a run of blocks with the [table](Self::build) of this frame.
    ///
    /// # Errors
    ///
    /// [`Error::RangeOutOfBounds`] if there are no such blocks; otherwise as
    /// [`decode_block_into`](Self::decode_block_into).
    pub fn decode_blocks_into(
        &self,
        table: &impl Table,
        blocks: Range<usize>,
        elements: &mut [u8],
    ) -> Result<(), Error> {
        let number = self.expect_blocks(&blocks, elements)?;
        self.decode_blocks(table, blocks.start, elements, number)
    }

    /// Checks that the blocks are there, and that `elements` is as long as they are; gives their
    /// number of elements.
    pub(super) fn expect_blocks(&self, blocks: &Range<usize>, elements: &[u8]) -> Result<usize, Error> {
        let len = self.header.blocks();
        if blocks.start > blocks.end || blocks.end > len {
            return Err(Error::RangeOutOfBounds { start: blocks.start, end: blocks.end, len });
        }
        let start = self.header.block_range(blocks.start).start;
        let number = self.header.block_range(blocks.end).start - start;
        self.expect_elements(number, elements)?;
        Ok(number)
    }

    fn expect_elements(&self, number: usize, elements: &[u8]) -> Result<(), Error> {
        bf16::expect_len("elements", elements.len(), number * self.header.element_type.bytes())
    }

    /// Decodes all elements without an allocator: `table` is the caller's memory.
    ///
    /// Every checksum of a block is compared, the [digest](Self::digest) of all elements is not: it
    /// follows from them.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if `elements` has another length than
    /// [`elements_bytes`](Self::elements_bytes), or what is wrong with a block. The content of
    /// `elements` is then unspecified.
    pub fn decode_in(&self, table: &mut impl Table, elements: &mut [u8]) -> Result<(), Error> {
        self.build(table);
        self.expect_elements(self.header.len, elements)?;
        self.decode_blocks(&*table, 0, elements, self.header.len)
    }

    /// Decodes so many elements, which there is just room for, from a block on.
    fn decode_blocks(
        &self,
        table: &impl Table,
        first: usize,
        elements: &mut [u8],
        len: usize,
    ) -> Result<(), Error> {
        if self.header.codec() == Codec::Raw {
            for (i, part) in elements.chunks_mut(self.header.block_bytes_of_elements()).enumerate() {
                copy(part, self.block(first + i)?.raw)?;
            }
            return Ok(());
        }
        self.decode_coded_blocks(table, first, elements, len)
    }

    /// [`decode_blocks`](Self::decode_blocks) of a codec with a table. What decodes a codec that
    /// the table is not for is not compiled.
    fn decode_coded_blocks<T: Table>(
        &self,
        table: &T,
        first: usize,
        elements: &mut [u8],
        len: usize,
    ) -> Result<(), Error> {
        if T::DICTIONARY && self.header.codec() == Codec::Dictionary {
            let start = self.header.block_range(first).start;
            let chunks = start / CHUNK..(start + len).div_ceil(CHUNK);
            return self.decode_chunks(table.tables().dictionary, chunks, elements);
        }
        if !T::RANS || self.header.codec() != Codec::Rans {
            return Err(Error::OtherTable);
        }
        let table = table.tables().rans.ok_or(Error::OtherTable)?;
        #[cfg(feature = "alloc")]
        if self.header.element_type == ElementType::Bf16 && elements.len() > STREAM_BYTES {
            return self.level.dispatch(DecodePast { frame: self, table, first, elements });
        }
        self.level.dispatch(DecodeInPlace { frame: self, table, first, elements })
    }

    /// Decodes the coded bytes of some blocks to where they are wanted; returns their raw parts.
    #[inline(always)]
    fn decode_coded<'c>(
        &self,
        table: &DecodeTable,
        first: usize,
        parts: impl Iterator<Item = &'c mut [u8]>,
    ) -> Result<[&'a [u8]; MANY], Error> {
        let mut raws: [&[u8]; MANY] = [&[]; MANY];
        let mut checksums = [0; MANY];
        let mut coded: [DecodeBlock<'_>; MANY] = core::array::from_fn(|_| DecodeBlock {
            states: &[0; STATES_BYTES],
            words: &[],
            words_bytes: 0,
            symbols: &mut [],
        });
        let mut number = 0;
        let places = raws.iter_mut().zip(&mut checksums).zip(&mut coded);
        for (((raw, checksum), place), symbols) in places.zip(parts) {
            let block = self.block(first + number)?;
            (*raw, *checksum) = (block.raw, block.coded);
            let Block { states, words, words_bytes, .. } = block;
            *place = DecodeBlock { states, words, words_bytes, symbols };
            number += 1;
        }
        let coded = coded.get_mut(..number).unwrap_or_default();
        table.decode_blocks(self.level, coded)?;
        for (j, (block, checksum)) in coded.iter().zip(checksums).enumerate() {
            let found = crc(0, block.symbols);
            if found != checksum {
                return Err(Error::FrameDigest { block: (first + j) as u64, expected: checksum, found });
            }
        }
        Ok(raws)
    }

    /// The offset and the checksum of a block; after the last one, the offset of the directory.
    pub(super) fn entry(&self, block: usize) -> (u64, u32) {
        let directory = self.bytes.len().wrapping_sub(TRAILER_BYTES + ENTRY_BYTES * self.directory.len());
        self.directory.get(block).map_or((directory as u64, 0), read_entry)
    }

    /// Finds a block and checks it.
    fn block(&self, block: usize) -> Result<Block<'a>, Error> {
        let ((start, checksum), (end, _)) = (self.entry(block), self.entry(block + 1));
        let bytes = self.bytes.get(start as usize..end as usize).unwrap_or(&[]);
        if bytes.first_chunk() != Some(&checksum.to_le_bytes()) {
            return Err(Error::FrameChecksum { part: FramePart::Block(block as u64) });
        }
        self.header.check_block(block, bytes)
    }
}

/// Copies bytes to a place that is as long.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) -> Result<(), Error> {
    if to.len() != from.len() {
        return Err(impossible("a block of a frame has as many bytes as its elements"));
    }
    to.copy_from_slice(from);
    Ok(())
}

/// The fields of a trailer, of 8 bytes each; the last are two of 4.
fn read_fields(trailer: &[u8; TRAILER_BYTES]) -> [u64; 3] {
    let fields = trailer.as_chunks().0;
    core::array::from_fn(|i| fields.get(i).map_or(0, |field| u64::from_le_bytes(*field)))
}

/// The offset and the checksum of a block.
fn read_entry(entry: &[u8; ENTRY_BYTES]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, checksum @ ..] = *entry;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(checksum))
}

impl Header {
    /// Checks the bytes of a block.
    fn check_block<'a>(&self, block: usize, bytes: &'a [u8]) -> Result<Block<'a>, Error> {
        let length = |expected: usize| Error::FrameLength {
            part: FramePart::Block(block as u64),
            expected: expected as u64,
            found: bytes.len() as u64,
        };
        let Some((head, rest)) = bytes.split_at_checked(4) else { return Err(length(BLOCK_HEADER)) };
        if head != crc(block as u32, rest).to_le_bytes() {
            return Err(Error::FrameChecksum { part: FramePart::Block(block as u64) });
        }
        let Some([words, coded, reserved]) = rest.as_chunks::<4>().0.first_chunk() else {
            return Err(length(BLOCK_HEADER));
        };
        let words = u32::from_le_bytes(*words);
        let Parts { words_start, words_end, raw_start, raw_end, end } = self.parts(block, words)?;
        if bytes.len() != end {
            return Err(length(end));
        }
        let coded = u32::from_le_bytes(*coded);
        if self.codec() == Codec::Raw && coded != 0 {
            return Err(Error::FrameField {
                clause: "F-5.2",
                field: "checksum of coded bytes",
                value: u64::from(coded),
            });
        }
        // All parts exist, because the block has the length that they say.
        let part = |range: Range<usize>| bytes.get(range).unwrap_or_default();
        let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        if !is_zero(reserved) || !is_zero(part(words_end..raw_start)) || !is_zero(part(raw_end..end)) {
            return Err(Error::FrameReserved { part: FramePart::Block(block as u64) });
        }
        Ok(Block {
            states: part(BLOCK_HEADER..end).first_chunk().unwrap_or(&[0; STATES_BYTES]),
            words: part(words_start..end),
            words_bytes: words_end - words_start,
            raw: part(raw_start..raw_end),
            coded,
        })
    }
}

/// Decodes blocks from `first` on with no memory but that of their elements: coded bytes go where
/// they can be merged in place.
struct DecodeInPlace<'d, 'a> {
    frame: &'d Frame<'a>,
    table: &'d DecodeTable,
    first: usize,
    elements: &'d mut [u8],
}

impl Operation for DecodeInPlace<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Result<(), Error> {
        let DecodeInPlace { frame, table, first, elements } = self;
        let (element_type, size) = (frame.header.element_type, frame.header.block_bytes_of_elements());
        for (i, elements) in elements.chunks_mut(MANY * size).enumerate() {
            let coded = elements.chunks_mut(size).map(|part| planes::coded_part(element_type, part));
            let raws = frame.decode_coded(table, first + MANY * i, coded)?;
            for (part, raw) in elements.chunks_mut(size).zip(raws) {
                let n = part.len() / element_type.bytes();
                planes::merge(element_type, part, planes::planes(raw, n));
            }
        }
        Ok(())
    }
}

/// Decodes blocks of BF16 from `first` on: coded bytes go to memory of their own that stays in the
/// second-level cache, and what is merged goes past the caches.
#[cfg(feature = "alloc")]
struct DecodePast<'d, 'a> {
    frame: &'d Frame<'a>,
    table: &'d DecodeTable,
    first: usize,
    elements: &'d mut [u8],
}

#[cfg(feature = "alloc")]
impl Operation for DecodePast<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Result<(), Error> {
        let DecodePast { frame, table, first, elements } = self;
        let len = elements.len() / ElementType::Bf16.bytes();
        Writer::lend(simd, elements, true, MergePast { frame, table, first, len })
    }
}

#[cfg(feature = "alloc")]
struct MergePast<'d, 'a> {
    frame: &'d Frame<'a>,
    table: &'d DecodeTable,
    first: usize,
    len: usize,
}

#[cfg(feature = "alloc")]
impl Write for MergePast<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S, writer: &mut Writer<'_, S>) -> Result<(), Error> {
        let MergePast { frame, table, first, len } = self;
        let block = frame.header.block_len();
        let mut memory = alloc::vec![0; MANY * block];
        for (i, at) in (0..len).step_by(MANY * block).enumerate() {
            let coded = &mut memory[..(len - at).min(MANY * block)];
            let raws = frame.decode_coded(table, first + MANY * i, coded.chunks_mut(block))?;
            for (j, (coded, raw)) in coded.chunks(block).zip(raws).enumerate() {
                writer.merge(at + j * block, coded, raw);
            }
        }
        Ok(())
    }
}
