//! Encoding frames.

mod blocks;
mod header;
mod options;
#[cfg(feature = "rayon")]
mod parallel;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use self::blocks::{Blocks, EncodeChunks, EncodeSome};
use super::chunks::Sections;
use super::header::Model;
use super::{
    ALIGNMENT, BLOCK, Digest, ENTRY_BYTES, ElementType, Header, TRAILER_BYTES, crc, padding, planes,
};
use crate::rans::EncodeTable;
use crate::{Error, Level, bf16, dictionary};

pub use options::EncodeOptions;
#[cfg(feature = "rayon")]
pub use parallel::count_parallel;

/// The number of blocks that are encoded together: those that rANS interleaves.
const MANY: usize = 4;

/// Writes a frame, some blocks at a time.
///
/// The bytes of a frame are those of [`header`](Self::header), of each [`blocks`](Self::blocks),
/// and of [`finish`](Self::finish), one after the other.
///
/// ```
/// use df11::frame::{BLOCK, ElementType, Encoder, Frame, encode};
///
/// let elements: Vec<u8> = (0..200_000u32).map(|i| (i % 17) as u8).collect();
/// let mut counts = [0; 256];
/// elements.iter().for_each(|&element| counts[usize::from(element)] += 1);
///
/// let mut encoder = Encoder::new(ElementType::U8, &[200_000], &counts)?;
/// let mut frame = encoder.header();
/// for block in elements.chunks(BLOCK) {
///     frame.extend_from_slice(encoder.blocks(block)?);
/// }
/// frame.extend_from_slice(&encoder.finish()?);
/// assert_eq!(frame, encode(ElementType::U8, &[200_000], &elements)?);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    header: Header,
    coder: Coder,
    level: Level,
    /// The offset of the next block.
    offset: u64,
    directory: Vec<(u64, u32)>,
    digest: Digest,
    /// The blocks that were encoded last, in parts that threads shared.
    last: Vec<Blocks>,
    /// With a dictionary, the frame so far, whose sections are filled in as chunks come; otherwise
    /// the header.
    frame: Vec<u8>,
    /// Bytes of the header.
    header_bytes: usize,
}

/// Tables of the codec.
#[derive(Clone, Debug)]
enum Coder {
    Raw,
    Rans(Box<EncodeTable>),
    Dictionary(Box<dictionary::EncodeTable>, Box<Sections>),
}

impl Encoder {
    /// Starts a frame. `counts[b]` is how often coded byte `b` occurs (see [`count`]). If rANS
    /// would not make the tensor smaller, the frame stores it uncompressed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there are more than [`MAX_RANK`](super::MAX_RANK) dimensions,
    /// or so many elements that their bytes cannot be counted.
    pub fn new(element_type: ElementType, shape: &[u64], counts: &[u64; 256]) -> Result<Self, Error> {
        EncodeOptions::new().encoder(element_type, shape, counts)
    }

    fn with_header(header: Header, mut frame: Vec<u8>) -> Self {
        let bytes = header.to_bytes();
        let header_bytes = bytes.len();
        let mut offset = header_bytes;
        let coder = match &header.model {
            Model::None => Coder::Raw,
            Model::Frequencies(frequencies) => Coder::Rans(Box::new(EncodeTable::new(frequencies))),
            Model::Dictionary(model) => {
                let sections = Sections::new(&header, header_bytes).unwrap_or_default();
                offset = sections.codes;
                // The codes of trained weights take 3/8 of the size of the elements, and the
                // trailer is small. Zeros are only written over earlier content, and sections that
                // are overwritten later need none.
                let likely = offset + header.len / 8 * 3 + TRAILER_BYTES;
                if frame.capacity() < likely {
                    frame = vec![0; likely];
                } else if frame.len() < offset {
                    frame.resize(offset, 0);
                }
                sections.paddings(&header).into_iter().for_each(|padding| frame[padding].fill(0));
                Coder::Dictionary(Box::new(dictionary::EncodeTable::new(model)), Box::new(sections))
            }
        };
        frame.truncate(offset);
        frame.resize(offset, 0);
        frame[..header_bytes].copy_from_slice(&bytes);
        Encoder {
            header,
            coder,
            level: Level::best(),
            offset: offset as u64,
            directory: Vec::new(),
            digest: Digest::default(),
            last: Vec::new(),
            frame,
            header_bytes,
        }
    }

    /// Encodes with the instruction set of this level.
    #[must_use]
    pub const fn at_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// What the elements are.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.header.element_type
    }

    /// The bytes of the header.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        self.frame[..self.header_bytes].to_vec()
    }

    /// Encodes the next elements: whole blocks ([`BLOCK`] elements, unless [told
    /// otherwise](EncodeOptions::block_len)), or what is left. Returns their bytes as they stand in
    /// the frame; none with a dictionary, where a block has bytes in several places.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if these are not whole blocks, or more blocks than are left;
    /// [`Error::NoFrequency`] if the counts were those of other elements. What was encoded before
    /// stays; the same elements can be tried again with no other result.
    pub fn blocks(&mut self, elements: &[u8]) -> Result<&[u8], Error> {
        let mut all = core::mem::take(&mut self.last);
        let mut last = all.pop().unwrap_or_default();
        let result =
            self.encode_blocks(self.directory.len(), elements, &mut last).and_then(|()| self.append(&last));
        all.push(last);
        self.last = all;
        result.map(|()| self.last.last().map_or(&[][..], |last| &last.bytes))
    }

    /// Encodes the blocks from number `first` on into `blocks`, and reuses its memory. Several
    /// threads can do so at once. The encoded blocks must then be [appended](Self::append) in
    /// order.
    fn encode_blocks(&self, first: usize, elements: &[u8], blocks: &mut Blocks) -> Result<(), Error> {
        let size = self.header.block_len() * self.header.element_type.bytes();
        let all = self.header.len * self.header.element_type.bytes();
        let left = all.saturating_sub(first.saturating_mul(size));
        if elements.len() > left || (elements.len() < left && !elements.len().is_multiple_of(size)) {
            let (expected, found) = (left.min(size) as u64, elements.len() as u64);
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        blocks.first = first;
        blocks.bytes.clear();
        blocks.entries.clear();
        blocks.groups.clear();
        if let Coder::Dictionary(table, _) = &self.coder {
            blocks.words.clear();
            blocks.raw.resize(elements.len() - elements.len() / self.header.element_type.bytes(), 0);
            for elements in elements.chunks(size) {
                self.level.dispatch(EncodeChunks { encoder: self, table, blocks, elements })?;
            }
            return Ok(());
        }
        for elements in elements.chunks(MANY * size) {
            self.level.dispatch(EncodeSome { encoder: self, blocks, elements })?;
        }
        Ok(())
    }

    /// Records blocks whose bytes come next in the frame.
    fn append(&mut self, blocks: &Blocks) -> Result<(), Error> {
        if blocks.first != self.directory.len() || blocks.first + blocks.entries.len() > self.header.blocks()
        {
            return Err(Error::PlanMismatch { element: self.header.block_range(blocks.first).start as u64 });
        }
        if let Coder::Dictionary(_, sections) = &self.coder {
            sections.put(&self.header, &mut self.frame, blocks.first, &blocks.groups, &blocks.raw);
            self.frame.extend_from_slice(&blocks.words);
        }
        for entry in &blocks.entries {
            self.directory.push((self.offset, entry.checksum));
            self.digest.append(entry.digest, entry.elements_bytes);
            self.offset += entry.bytes as u64;
        }
        Ok(())
    }

    /// The bytes after the last block; with a dictionary, all bytes after the header.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if elements are missing.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let header_bytes = self.header_bytes;
        let mut frame = self.finish_whole()?;
        frame.drain(..header_bytes);
        Ok(frame)
    }

    /// Ends a frame whose blocks may have been passed on already.
    fn finish_whole(self) -> Result<Vec<u8>, Error> {
        let (expected, found) = (self.header.blocks() as u64, self.directory.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "directory of blocks", expected, found });
        }
        let mut bytes = self.frame;
        bytes.reserve_exact(ALIGNMENT + ENTRY_BYTES * self.directory.len() + TRAILER_BYTES);
        let offset = self.offset.next_multiple_of(ALIGNMENT as u64);
        pad(&mut bytes, ALIGNMENT);
        let start = bytes.len();
        for (offset, checksum) in &self.directory {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(checksum.to_le_bytes());
        }
        bytes.extend(offset.to_le_bytes());
        bytes.extend(found.to_le_bytes());
        bytes.extend(self.digest.finish().to_le_bytes());
        bytes.extend(crc(0, &bytes[start..]).to_le_bytes());
        Ok(bytes)
    }
}

/// Encodes a tensor whose elements are at hand, of this shape, in C order, with rANS;
/// [`EncodeOptions`] has other codecs.
///
/// # Errors
///
/// The errors of [`Encoder::new`]; [`Error::BufferLength`] or [`Error::OddBytes`] if the number of
/// elements does not match the shape.
pub fn encode(element_type: ElementType, shape: &[u64], elements: &[u8]) -> Result<Vec<u8>, Error> {
    EncodeOptions::new().encode(element_type, shape, elements)
}

/// Counts how often each coded byte occurs, for [`Encoder::new`]. The counts of parts can be added
/// up.
///
/// # Errors
///
/// [`Error::OddBytes`] or [`Error::BufferLength`] if the last element is not whole.
///
/// ```
/// use df11::frame::{ElementType, count};
///
/// let counts = count(ElementType::F16, &[0x01, 0x3c, 0x02, 0x3c])?;
/// assert_eq!(counts[0x3c], 2);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn count(element_type: ElementType, elements: &[u8]) -> Result<[u64; 256], Error> {
    let mut counts = [0; 256];
    if element_type == ElementType::Bf16 {
        bf16::add_to_histogram(elements, &mut counts)?;
        return Ok(counts);
    }
    if !elements.len().is_multiple_of(element_type.bytes()) {
        let expected = elements.len().next_multiple_of(element_type.bytes()) as u64;
        return Err(Error::BufferLength { buffer: "elements", expected, found: elements.len() as u64 });
    }
    let (mut coded, mut raw) = (vec![0; BLOCK], vec![0; BLOCK * element_type.raw_bytes()]);
    for block in elements.chunks(BLOCK * element_type.bytes()) {
        let n = block.len() / element_type.bytes();
        let (coded, raw) = (&mut coded[..n], &mut raw[..n * element_type.raw_bytes()]);
        planes::split(element_type, block, coded, raw);
        coded.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    }
    Ok(counts)
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len() + padding(bytes.len(), to), 0);
}
