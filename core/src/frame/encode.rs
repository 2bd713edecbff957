//! Encoding frames.

use alloc::vec;
use alloc::vec::Vec;

use df11_simd::{Level, Operation, Simd};

use super::header::countable;
use super::{
    ALIGNMENT, BLOCK, BLOCK_HEADER, Codec, Digest, ENTRY_BYTES, ElementType, Header, MAGIC, MAX_RANK,
    SCALE_BITS, TRAILER_BYTES, VERSION, crc, padding, planes,
};
use crate::rans::{EncodeBlock, EncodeTable, Frequencies, STATES_BYTES, words_bound};
use crate::{Error, bf16};

/// Blocks that are encoded together: as many as rANS takes in turn.
const MANY: usize = 4;

/// Writes a frame, some blocks at a time.
///
/// The bytes of a frame are those of [`header`](Self::header), of each [`blocks`](Self::blocks), and of
/// [`finish`](Self::finish), one after the other.
///
/// ```
/// use df11_core::frame::{BLOCK, ElementType, Encoder, Frame, encode};
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
/// # Ok::<(), df11_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    header: Header,
    table: Option<EncodeTable>,
    level: Level,
    /// The offset of the next block.
    offset: u64,
    directory: Vec<(u64, u32)>,
    digest: Digest,
    /// The blocks that were encoded last.
    bytes: Vec<u8>,
    coded: Vec<u8>,
    words: Vec<u8>,
}

impl Encoder {
    /// Begins a frame of elements of which `counts` says how often each coded byte occurs; with counts that are all 0, or
    /// of which nothing would be gained, the elements are kept as they are.
    ///
    /// # Errors
    ///
    /// [`Error::FrameField`] if there are more than [`MAX_RANK`] dimensions, or so many elements that their bytes cannot be
    /// counted.
    pub fn new(element_type: ElementType, shape: &[u64], counts: &[u64; 256]) -> Result<Self, Error> {
        let bad = |field, value| Error::FrameField { field, value };
        let mut dimensions = [0; MAX_RANK];
        let used = dimensions.get_mut(..shape.len()).ok_or(bad("rank", shape.len() as u64))?;
        used.copy_from_slice(shape);
        let len = countable(element_type, shape).ok_or(bad("element count", u64::MAX))?;
        let mut header = Header {
            element_type,
            block: BLOCK,
            len,
            shape: dimensions,
            rank: shape.len(),
            frequencies: Frequencies::normalise(counts, SCALE_BITS).ok().filter(|_| len > 0),
        };
        if header.frequencies.as_ref().is_some_and(|frequencies| !is_worth_it(&header, frequencies, counts)) {
            header.frequencies = None;
        }
        let table = header.frequencies.as_ref().map(EncodeTable::new);
        let mut encoder = Encoder {
            header,
            table,
            level: Level::best(),
            offset: 0,
            directory: Vec::new(),
            digest: Digest::default(),
            bytes: Vec::new(),
            coded: Vec::new(),
            words: Vec::new(),
        };
        encoder.offset = encoder.header().len() as u64;
        Ok(encoder)
    }

    /// The same, with another level of instructions.
    #[must_use]
    pub const fn at_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The bytes of the header.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let Header { element_type, block, len, rank, frequencies, .. } = &self.header;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        let scale_bits = frequencies.as_ref().map_or(0, Frequencies::scale_bits);
        let model = u8::from(frequencies.is_some());
        let codec = self.header.codec().number();
        bytes.extend([VERSION, element_type.number(), codec, model, scale_bits, *rank as u8, 0, 0]);
        bytes.extend((*len as u64).to_le_bytes());
        bytes.extend((*block as u32).to_le_bytes());
        bytes.extend([0; 4]);
        self.header.shape().for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
        if let Some(frequencies) = frequencies {
            let all = frequencies.as_array();
            for eight in all.as_chunks::<8>().0 {
                bytes.push((0..8).fold(0, |bits, i| bits | u8::from(eight[i] > 0) << i));
            }
            all.iter()
                .filter(|frequency| **frequency > 0)
                .for_each(|frequency| bytes.extend(frequency.to_le_bytes()));
        }
        pad(&mut bytes, 4);
        bytes.extend(crc(0, &bytes).to_le_bytes());
        pad(&mut bytes, ALIGNMENT);
        bytes
    }

    /// Encodes the next elements: whole blocks of [`BLOCK`] elements, or what is left. Returns their bytes.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if these are no whole blocks, or more than are left; [`Error::NoFrequency`] if the counts were
    /// others. What was encoded before stays; the same elements can be tried again with no other result.
    pub fn blocks(&mut self, elements: &[u8]) -> Result<&[u8], Error> {
        let size = BLOCK * self.header.element_type.bytes();
        let first = self.directory.len();
        let all = self.header.len * self.header.element_type.bytes();
        let left = all.saturating_sub(first.saturating_mul(size));
        if elements.len() > left || (elements.len() < left && !elements.len().is_multiple_of(size)) {
            let (expected, found) = (left.min(size) as u64, elements.len() as u64);
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        self.bytes.clear();
        let (offset, digest) = (self.offset, self.digest.clone());
        for some in elements.chunks(MANY * size) {
            let level = self.level;
            if let Err(error) = level.dispatch(Blocks { encoder: self, elements: some }) {
                // As if nothing had been asked for.
                (self.offset, self.digest) = (offset, digest);
                self.directory.truncate(first);
                return Err(error);
            }
        }
        Ok(&self.bytes)
    }

    /// The bytes after the last block.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if elements are missing.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        let (expected, found) = (self.header.blocks() as u64, self.directory.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "directory of blocks", expected, found });
        }
        let mut bytes = Vec::with_capacity(ENTRY_BYTES * self.directory.len() + TRAILER_BYTES);
        for (offset, checksum) in &self.directory {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(checksum.to_le_bytes());
        }
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(found.to_le_bytes());
        bytes.extend(self.digest.finish().to_le_bytes());
        bytes.extend(crc(0, &bytes).to_le_bytes());
        Ok(bytes)
    }
}

/// Whether rANS makes the elements smaller than they are, by what the model promises.
fn is_worth_it(header: &Header, frequencies: &Frequencies, counts: &[u64; 256]) -> bool {
    /// Parts of a bit.
    const PARTS: u128 = 8 * 256;
    // A symbol of frequency f takes P - log2(f) bits. Of the logarithm of f^8, the whole part and 8 bits after it: between
    // powers of two it is taken for straight, by which it becomes 0.01 bits too small at the most.
    let log2 = |f: u16| {
        let power = u128::from(f).pow(8);
        let whole = power.ilog2();
        256 * u128::from(whole) + ((power << 8 >> whole) & 0xff)
    };
    let cost = |symbol: u8| PARTS * u128::from(SCALE_BITS) - log2(frequencies.of(symbol));
    let bits: u128 = (0..=255)
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(symbol, &count)| u128::from(count) * cost(symbol))
        .sum::<u128>()
        / PARTS;
    let blocks = header.blocks() as u128;
    let tables = 32 + 2 * frequencies.as_array().iter().filter(|frequency| **frequency > 0).count() as u128;
    bits / 8 + blocks * (STATES_BYTES as u128 + ALIGNMENT as u128) + tables < header.len as u128
}

/// Encodes a tensor whose elements are at hand, of this shape, in C order.
///
/// # Errors
///
/// As [`Encoder::new`]; [`Error::BufferLength`] or [`Error::OddBytes`] if `elements` are not as many as the shape says.
pub fn encode(element_type: ElementType, shape: &[u64], elements: &[u8]) -> Result<Vec<u8>, Error> {
    let counts = count(element_type, elements)?;
    let mut encoder = Encoder::new(element_type, shape, &counts)?;
    let mut frame = encoder.header();
    // What exponents take at most, in trained weights; others grow it.
    frame.reserve(elements.len() / 4 * 3);
    let expected = encoder.header.len * element_type.bytes();
    if elements.len() != expected {
        let (expected, found) = (expected as u64, elements.len() as u64);
        return Err(Error::BufferLength { buffer: "elements", expected, found });
    }
    for some in elements.chunks(MANY * BLOCK * element_type.bytes()) {
        frame.extend_from_slice(encoder.blocks(some)?);
    }
    frame.extend(encoder.finish()?);
    Ok(frame)
}

/// How often each coded byte occurs.
fn count(element_type: ElementType, elements: &[u8]) -> Result<[u64; 256], Error> {
    let mut counts = [0; 256];
    if element_type == ElementType::Bf16 {
        bf16::add_to_histogram(elements, &mut counts)?;
        return Ok(counts);
    }
    let (mut coded, mut raw) = (vec![0; BLOCK], vec![0; BLOCK * element_type.raw_bytes()]);
    for block in elements.chunks(BLOCK * element_type.bytes()) {
        let n = block.len() / element_type.bytes();
        let (coded, raw) = (&mut coded[..n], &mut raw[..n * element_type.raw_bytes()]);
        planes::split(element_type, &block[..n * element_type.bytes()], coded, raw);
        coded.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    }
    Ok(counts)
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len() + padding(bytes.len(), to), 0);
}

/// Encodes at most [`MANY`] blocks.
struct Blocks<'e, 'a> {
    encoder: &'e mut Encoder,
    elements: &'a [u8],
}

impl Operation for Blocks<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Result<(), Error> {
        let Blocks { encoder, elements } = self;
        let element_type = encoder.header.element_type;
        let size = BLOCK * element_type.bytes();
        let n = elements.len() / element_type.bytes();
        encoder.coded.resize(n, 0);
        let mut raws: [Vec<u8>; MANY] = [const { Vec::new() }; MANY];
        let mut states = [[0; STATES_BYTES]; MANY];
        let mut used = [0; MANY];
        if let Some(table) = &encoder.table {
            let coded = encoder.coded.chunks_mut(BLOCK);
            for ((elements, coded), raw) in elements.chunks(size).zip(coded).zip(&mut raws) {
                raw.resize(coded.len() * element_type.raw_bytes(), 0);
                planes::split(element_type, elements, coded, raw);
            }
            encoder.words.resize(words_bound(n), 0);
            let words = encoder.words.chunks_mut(words_bound(BLOCK));
            let blocks = encoder.coded.chunks(BLOCK).zip(words).zip(&mut states);
            let mut blocks: Vec<_> = blocks
                .map(|((symbols, words), states)| EncodeBlock { symbols, states, words, words_bytes: 0 })
                .collect();
            table.encode_blocks(encoder.level, &mut blocks)?;
            for (used, block) in used.iter_mut().zip(&blocks) {
                *used = block.words_bytes;
            }
        }
        let used_rans = encoder.header.codec() == Codec::Rans;
        for (i, elements) in elements.chunks(size).enumerate() {
            let bytes = &mut encoder.bytes;
            let start = bytes.len();
            encoder.digest.append(crc(0, elements), elements.len());
            let coded = if used_rans { crc(0, &encoder.coded[i * BLOCK..n.min((i + 1) * BLOCK)]) } else { 0 };
            bytes.extend([0; 4]);
            bytes.extend((used[i] as u32).to_le_bytes());
            bytes.extend(coded.to_le_bytes());
            bytes.extend([0; BLOCK_HEADER - 12]);
            match encoder.header.codec() {
                Codec::Raw => bytes.extend_from_slice(elements),
                Codec::Rans => {
                    bytes.extend(states[i]);
                    bytes.extend_from_slice(&encoder.words[i * words_bound(BLOCK)..][..used[i]]);
                    pad(bytes, ALIGNMENT);
                    bytes.extend_from_slice(&raws[i]);
                }
            }
            pad(bytes, ALIGNMENT);
            let checksum = crc(encoder.directory.len() as u32, &bytes[start + 4..]);
            bytes[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
            encoder.directory.push((encoder.offset, checksum));
            encoder.offset += (bytes.len() - start) as u64;
        }
        Ok(())
    }
}
