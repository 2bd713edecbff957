//! Encoding frames.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use df11_simd::{Level, Operation, Simd};

use super::chunks::Sections;
use super::header::{Model, checked_block_len, countable};
use super::{
    ALIGNMENT, BLOCK, BLOCK_HEADER, Codec, Digest, ENTRY_BYTES, ElementType, Header, MAGIC, MAX_RANK,
    SCALE_BITS, SMALL, TRAILER_BYTES, VERSION, crc, padding, planes,
};
use crate::dictionary::{self, CHUNK, Width};
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
    /// The blocks that were encoded last.
    last: Blocks,
    /// With a dictionary, the frame so far, whose sections are filled in as chunks come; otherwise the header.
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

/// How a frame is to be written.
///
/// ```
/// use df11::frame::{self, Codec, ElementType, EncodeOptions, Frame};
///
/// let elements: Vec<u8> = (0..100_000u32).map(|i| (i % 17) as u8).collect();
/// let options = EncodeOptions::new().codec(Codec::Dictionary);
/// let bytes = options.encode(ElementType::U8, &[100_000], &elements)?;
/// assert_eq!(Frame::new(&bytes)?.header().codec(), Codec::Dictionary);
/// # Ok::<(), df11::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    codec: Codec,
    block_len: usize,
}

impl EncodeOptions {
    /// Codec rANS, blocks of [`BLOCK`] elements.
    #[must_use]
    pub const fn new() -> Self {
        EncodeOptions { codec: Codec::Rans, block_len: BLOCK }
    }

    /// How elements are coded, unless that would not make them smaller: then they are kept as they are.
    #[must_use]
    pub const fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The elements of a block, a multiple of 64 (with a dictionary, of 4,096) from 4,096 to 65,536: the smaller, the less memory
    /// a decoder of single blocks needs, as on a microcontroller, and the larger the frame.
    #[must_use]
    pub const fn block_len(mut self, elements: usize) -> Self {
        self.block_len = elements;
        self
    }

    /// Begins a frame of elements whose coded bytes occur this often, as [`Encoder::new`].
    ///
    /// # Errors
    ///
    /// As [`Encoder::new`]; [`Error::FrameField`] for a number of elements that blocks cannot have.
    pub fn encoder(
        &self,
        element_type: ElementType,
        shape: &[u64],
        counts: &[u64; 256],
    ) -> Result<Encoder, Error> {
        self.header(element_type, shape, counts).map(|header| Encoder::with_header(header, Vec::new()))
    }

    fn header(&self, element_type: ElementType, shape: &[u64], counts: &[u64; 256]) -> Result<Header, Error> {
        let bad = |clause, field, value| Error::FrameField { clause, field, value };
        let mut dimensions = [0; MAX_RANK];
        let used = dimensions.get_mut(..shape.len()).ok_or(bad("F-3.1", "rank", shape.len() as u64))?;
        used.copy_from_slice(shape);
        let len = countable(element_type, shape).ok_or(bad("F-3.2", "element count", u64::MAX))?;
        let block = self.block_len as u64;
        let mut header = Header {
            element_type,
            block: checked_block_len(block).ok_or(bad("F-3.1", "block size", block))?,
            len,
            shape: dimensions,
            rank: shape.len(),
            model: Model::None,
        };
        if self.codec == Codec::Dictionary && !self.block_len.is_multiple_of(CHUNK) {
            return Err(bad("F-3.3", "block size", block));
        }
        if len > 0 && counts.iter().any(|count| *count > 0) {
            header.model = self.model(&header, counts)?;
        }
        Ok(header)
    }

    /// The model of these counts, if the elements become smaller by it.
    fn model(&self, header: &Header, counts: &[u64; 256]) -> Result<Model, Error> {
        Ok(match self.codec {
            Codec::Raw => Model::None,
            Codec::Rans => {
                let frequencies = Frequencies::normalise(counts, SCALE_BITS)?;
                if is_worth_it(header, &frequencies, counts) {
                    Model::Frequencies(frequencies)
                } else {
                    Model::None
                }
            }
            Codec::Dictionary => {
                let width = if header.len < SMALL { Width::Eight } else { Width::Twelve };
                let (model, mean) = dictionary::Model::with_mean(counts, width)?;
                if gains(header, &model, mean) { Model::Dictionary(model) } else { Model::None }
            }
        })
    }

    /// Encodes a tensor whose elements are at hand, of this shape, in C order.
    ///
    /// # Errors
    ///
    /// As [`encode_into`](Self::encode_into).
    pub fn encode(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut frame = Vec::new();
        self.encode_into(element_type, shape, elements, &mut frame).map(|()| frame)
    }

    /// [`encode`](Self::encode) to memory that has been used for something else before.
    ///
    /// # Errors
    ///
    /// As [`encoder`](Self::encoder); [`Error::BufferLength`] or [`Error::OddBytes`] if `elements` are not as many as the shape
    /// says. What `frame` holds is then unspecified.
    pub fn encode_into(
        &self,
        element_type: ElementType,
        shape: &[u64],
        elements: &[u8],
        frame: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let counts = count(element_type, elements)?;
        let header = self.header(element_type, shape, &counts)?;
        let (codec, expected) = (header.codec(), header.len * element_type.bytes());
        if elements.len() != expected {
            let (expected, found) = (expected as u64, elements.len() as u64);
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        let parts = elements.chunks(MANY * self.block_len * element_type.bytes());
        if codec == Codec::Dictionary {
            let mut encoder = Encoder::with_header(header, core::mem::take(frame));
            for some in parts {
                encoder.blocks(some)?;
            }
            *frame = encoder.finish_whole()?;
            return Ok(());
        }
        let mut encoder = Encoder::with_header(header, Vec::new());
        frame.clear();
        frame.extend(encoder.header());
        // What exponents take at most, in trained weights; others grow it.
        frame.reserve(elements.len() / 4 * 3);
        for some in parts {
            frame.extend_from_slice(encoder.blocks(some)?);
        }
        frame.extend(encoder.finish()?);
        Ok(())
    }
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Blocks that were encoded one after the other, and the memory that it took: to be used again.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    /// The number of the first.
    first: usize,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    coded: Vec<u8>,
    /// With a dictionary, the codes.
    words: Vec<u8>,
    /// The planes of each block.
    raw: Vec<u8>,
    /// With a dictionary, the numbers of groups.
    groups: Vec<[u8; 2]>,
}

/// What the directory and the digest need to know of a block.
#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: usize,
    checksum: u32,
    elements_bytes: usize,
    /// The checksum of its elements.
    digest: u32,
}

impl Blocks {
    /// Their bytes, as they stand in the frame; none with a dictionary, where a block has bytes in several places.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
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
                // The codes of trained weights take 3/8 of their number, and the trailer is small. Zeros are only written where
                // there was something else, and sections that are overwritten later need none.
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
            last: Blocks::default(),
            frame,
            header_bytes,
        }
    }

    /// The same, with another level of instructions.
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

    /// Encodes the next elements: whole blocks ([`BLOCK`] elements, unless
    /// [told otherwise](EncodeOptions::block_len)), or what is left. Returns their [bytes](Blocks::as_bytes).
    ///
    /// # Errors
    ///
    /// As [`encode_blocks`](Self::encode_blocks). What was encoded before stays; the same elements can be tried again with no
    /// other result.
    pub fn blocks(&mut self, elements: &[u8]) -> Result<&[u8], Error> {
        let mut last = core::mem::take(&mut self.last);
        let result =
            self.encode_blocks(self.directory.len(), elements, &mut last).and_then(|()| self.append(&last));
        self.last = last;
        result.map(|()| self.last.as_bytes())
    }

    /// Encodes blocks from the `first`-th on, to `blocks`, whose memory is used again. Many threads can do so at once; what
    /// they have encoded is then [appended](Self::append) in order.
    ///
    /// ```
    /// use df11::frame::{BLOCK, Blocks, ElementType, Encoder, encode};
    ///
    /// let elements: Vec<u8> = (0..200_000u32).map(|i| (i % 17) as u8).collect();
    /// let mut counts = [0; 256];
    /// elements.iter().for_each(|&element| counts[usize::from(element)] += 1);
    ///
    /// let mut encoder = Encoder::new(ElementType::U8, &[200_000], &counts)?;
    /// let (mut first, mut last) = (Blocks::default(), Blocks::default());
    /// encoder.encode_blocks(2, &elements[2 * BLOCK..], &mut last)?;
    /// encoder.encode_blocks(0, &elements[..2 * BLOCK], &mut first)?;
    /// let mut frame = encoder.header();
    /// for blocks in [first, last] {
    ///     encoder.append(&blocks)?;
    ///     frame.extend_from_slice(blocks.as_bytes());
    /// }
    /// frame.extend_from_slice(&encoder.finish()?);
    /// assert_eq!(frame, encode(ElementType::U8, &[200_000], &elements)?);
    /// # Ok::<(), df11::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] if these are no whole blocks, or more than are left; [`Error::NoFrequency`] if the counts were
    /// others.
    pub fn encode_blocks(&self, first: usize, elements: &[u8], blocks: &mut Blocks) -> Result<(), Error> {
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

    /// Notes blocks whose bytes come next.
    ///
    /// # Errors
    ///
    /// [`Error::PlanMismatch`] if other blocks come next.
    pub fn append(&mut self, blocks: &Blocks) -> Result<(), Error> {
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

    /// Ends the frame, of which the bytes of blocks may have been given away.
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

impl Header {
    /// The bytes of the header.
    fn to_bytes(&self) -> Vec<u8> {
        let Header { element_type, block, len, rank, model, .. } = self;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        let (codec, number, bits) = model.numbers();
        bytes.extend([VERSION, element_type.number(), codec.number(), number, bits, *rank as u8, 0, 0]);
        bytes.extend((*len as u64).to_le_bytes());
        bytes.extend((block.get() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        self.shape().for_each(|dimension| bytes.extend(dimension.to_le_bytes()));
        match model {
            Model::None => {}
            Model::Frequencies(frequencies) => {
                let all = frequencies.as_array();
                bytes.extend(alphabet(|symbol| all[symbol] > 0));
                let used = all.iter().filter(|frequency| **frequency > 0);
                used.for_each(|frequency| bytes.extend(frequency.to_le_bytes()));
            }
            Model::Dictionary(model) => {
                let costs = [model.first_costs(), model.following_costs()];
                bytes.extend(alphabet(|symbol| costs[0][symbol] > 0));
                bytes.extend(costs.into_iter().flatten().filter(|cost| **cost > 0));
                bytes.extend(model.limit().to_le_bytes());
                bytes.extend(model.remainder().to_le_bytes());
            }
        }
        pad(&mut bytes, 4);
        bytes.extend(crc(0, &bytes).to_le_bytes());
        pad(&mut bytes, ALIGNMENT);
        bytes
    }
}

/// The marks of symbols (F-3.1).
fn alphabet(is_in: impl Fn(usize) -> bool) -> [u8; 32] {
    core::array::from_fn(|byte| (0..8).fold(0, |bits, i| bits | u8::from(is_in(8 * byte + i)) << i))
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

/// Whether a dictionary makes the elements smaller than they are, by how many symbols a code is expected to have, times
/// 2 to the power of 30.
fn gains(header: &Header, model: &dictionary::Model, mean: u64) -> bool {
    let (width, n) = (u128::from(model.width().bits()), header.len as u128);
    let codes = (n << 30) / u128::from(mean.max(1)) * width / 8;
    // Half a group, its number, and part of an entry of the directory.
    let chunks = n.div_ceil(CHUNK as u128) * (width / 2 + 2 + 1);
    let sections = Sections::new(header, 0).unwrap_or_default();
    let symbols = model.first_costs().iter().filter(|cost| **cost > 0).count();
    let rest = 32 + 2 * symbols + 4 + sections.padding + 2 * ALIGNMENT + ENTRY_BYTES;
    codes + chunks + (rest as u128) < n
}

/// Encodes a tensor whose elements are at hand, of this shape, in C order, with rANS; [`EncodeOptions`] has other codecs.
///
/// # Errors
///
/// As [`Encoder::new`]; [`Error::BufferLength`] or [`Error::OddBytes`] if `elements` are not as many as the shape says.
pub fn encode(element_type: ElementType, shape: &[u64], elements: &[u8]) -> Result<Vec<u8>, Error> {
    EncodeOptions::new().encode(element_type, shape, elements)
}

/// How often each coded byte occurs, for [`Encoder::new`]; counts of parts can be added up.
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

/// Encodes at most [`MANY`] blocks, after those that are there.
struct EncodeSome<'e, 'a> {
    encoder: &'e Encoder,
    blocks: &'e mut Blocks,
    elements: &'a [u8],
}

impl Operation for EncodeSome<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Result<(), Error> {
        let EncodeSome { encoder, blocks, elements } = self;
        let Blocks { first, bytes, entries, coded, words, raw, .. } = blocks;
        let element_type = encoder.header.element_type;
        let block_len = encoder.header.block_len();
        let size = block_len * element_type.bytes();
        let n = elements.len() / element_type.bytes();
        let raw_size = block_len * element_type.raw_bytes();
        let mut states = [[0; STATES_BYTES]; MANY];
        let mut used = [0; MANY];
        if let Coder::Rans(table) = &encoder.coder {
            coded.resize(n, 0);
            raw.resize(n * element_type.raw_bytes(), 0);
            words.resize(words_bound(n), 0);
            for (i, (elements, coded)) in elements.chunks(size).zip(coded.chunks_mut(block_len)).enumerate() {
                let raw = &mut raw[i * raw_size..][..coded.len() * element_type.raw_bytes()];
                planes::split(element_type, elements, coded, raw);
            }
            let parts =
                coded.chunks(block_len).zip(words.chunks_mut(words_bound(block_len))).zip(&mut states);
            let mut encoded: Vec<_> = parts
                .map(|((symbols, words), states)| EncodeBlock { symbols, states, words, words_bytes: 0 })
                .collect();
            table.encode_blocks(encoder.level, &mut encoded)?;
            for (used, block) in used.iter_mut().zip(&encoded) {
                *used = block.words_bytes;
            }
        }
        for (i, elements) in elements.chunks(size).enumerate() {
            let start = bytes.len();
            bytes.extend([0; 4]);
            bytes.extend((used[i] as u32).to_le_bytes());
            if let Coder::Rans(_) = &encoder.coder {
                let coded = &coded[i * block_len..n.min((i + 1) * block_len)];
                bytes.extend(crc(0, coded).to_le_bytes());
                bytes.extend([0; BLOCK_HEADER - 12]);
                bytes.extend(states[i]);
                bytes.extend_from_slice(&words[i * words_bound(block_len)..][..used[i]]);
                pad(bytes, ALIGNMENT);
                bytes.extend_from_slice(&raw[i * raw_size..][..coded.len() * element_type.raw_bytes()]);
            } else {
                bytes.extend([0; BLOCK_HEADER - 8]);
                bytes.extend_from_slice(elements);
            }
            pad(bytes, ALIGNMENT);
            let checksum = crc((*first + entries.len()) as u32, &bytes[start + 4..]);
            bytes[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
            entries.push(Entry {
                bytes: bytes.len() - start,
                checksum,
                elements_bytes: elements.len(),
                digest: crc(0, elements),
            });
        }
        Ok(())
    }
}

/// Encodes a block with a dictionary, after those that are there.
struct EncodeChunks<'e, 'a> {
    encoder: &'e Encoder,
    table: &'e dictionary::EncodeTable,
    blocks: &'e mut Blocks,
    elements: &'a [u8],
}

impl Operation for EncodeChunks<'_, '_> {
    type Output = Result<(), Error>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Result<(), Error> {
        let EncodeChunks { encoder, table, blocks, elements } = self;
        let Blocks { first, entries, coded, words, raw, groups, .. } = blocks;
        let element_type = encoder.header.element_type;
        let n = elements.len() / element_type.bytes();
        let (words_start, groups_start) = (words.len(), groups.len());
        coded.resize(n, 0);
        let raw_start = entries.len() * encoder.header.block_len() * element_type.raw_bytes();
        let raw = &mut raw[raw_start..][..n * element_type.raw_bytes()];
        planes::split(element_type, elements, coded, raw);
        table.encode_chunks(coded, words, |number| groups.push(number.to_le_bytes()))?;
        let codes = &words[words_start..];
        let checksum = crc((*first + entries.len()) as u32, groups[groups_start..].as_flattened());
        let checksum = crc(crc(checksum, codes), raw);
        let (bytes, elements_bytes) = (codes.len(), elements.len());
        entries.push(Entry { bytes, checksum, elements_bytes, digest: crc(0, elements) });
        Ok(())
    }
}
