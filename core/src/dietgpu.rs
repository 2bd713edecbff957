//! The archives of dietgpu, read and written on a CPU, as `spec/DIETGPU.md` describes them.
//!
//! Read from that program's sources; nothing here has been compared with what a GPU writes.
//!
//! ```
//! use df11::dietgpu::FloatArchive;
//! use df11::frame::ElementType;
//! use df11::rans::DecodeTable;
//!
//! let weights: Vec<u8> = (0..10_000u16).flat_map(|i| (0x3c00 + i % 999).to_le_bytes()).collect();
//! let bytes = df11::dietgpu::encode_floats(ElementType::Bf16, &weights, 10, true)?;
//! assert!(bytes.len() < weights.len());
//!
//! let archive = FloatArchive::new(&bytes)?;
//! let mut restored = vec![0; weights.len()];
//! archive.decode_into(&mut restored)?;
//! assert_eq!(restored, weights);
//! # Ok::<(), df11::Error>(())
//! ```

#[cfg(feature = "alloc")]
use alloc::vec;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use df11_simd::Level;

use crate::Error;
use crate::frame::ElementType;
use crate::frame::planes::in_place;
use crate::rans::{DecodeBlock, DecodeTable, Frequencies, STATES_BYTES, WORD_BYTES};
#[cfg(feature = "alloc")]
use crate::rans::{EncodeBlock, EncodeTable, words_bound};

/// Bytes of a block (G-2.1).
pub const BLOCK: usize = 4096;

/// The first four bytes of an ANS archive (G-2.2).
pub const MAGIC: u32 = 0xd00d_0001;

/// The first four bytes of a float archive (G-5.1).
pub const FLOAT_MAGIC: u32 = 0xf00f_0001;

/// The scale bits of dietgpu's Python module.
pub const SCALE_BITS: u8 = 10;

/// Scale bits of archives (G-2.4).
const SCALES: core::ops::RangeInclusive<u8> = 9..=11;

/// Offsets in an ANS archive.
const TABLE: usize = 32;
const STATES: usize = TABLE + 512;

/// Bytes of a float archive before its planes.
const FLOAT_HEADER: usize = 16;

/// The bit of the options that says that there is a checksum.
const HAS_CHECKSUM: u32 = 1 << 4;

/// A block's words are padded to this many.
const WORDS_ALIGNMENT: usize = 8;

/// Bytes of planes are padded to multiples of this.
const ALIGNMENT: usize = 16;

/// Blocks that are decoded together.
const MANY: usize = 4;

fn field(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

/// G-4.1
fn checksum(bytes: &[u8]) -> u32 {
    u32::from(bytes.iter().fold(0, |sum, byte| sum ^ byte))
}

const fn bad(clause: &'static str, field: &'static str, value: u64) -> Error {
    Error::ArchiveField { clause, field, value }
}

/// A view over the bytes of an ANS archive, of which all but the words have been checked.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    len: usize,
    /// `None` in an empty archive.
    frequencies: Option<Frequencies>,
    checksum: Option<u32>,
    states: &'a [[u8; STATES_BYTES]],
    directory: &'a [[u8; 8]],
    words: &'a [u8],
    bytes: usize,
}

impl<'a> Archive<'a> {
    /// Checks an archive at the front of these bytes; what follows it is ignored.
    ///
    /// # Errors
    ///
    /// [`Error::NotAnArchive`]; [`Error::ArchiveLength`] if bytes are missing;
    /// [`Error::ArchiveField`], [`Error::FrequencySum`] or [`Error::ScaleBits`] for what breaks a
    /// rule of section 2.
    ///
    /// ```
    /// use df11::dietgpu::{self, Archive};
    ///
    /// let bytes = dietgpu::encode(b"some bytes, of which some come again", 10, true)?;
    /// assert_eq!(Archive::new(&bytes)?.len(), 36);
    /// # Ok::<(), df11::Error>(())
    /// ```
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let missing = |expected: u64| Error::ArchiveLength { expected, found: bytes.len() as u64 };
        if field(bytes, 0).is_some_and(|magic| magic != MAGIC) {
            return Err(Error::NotAnArchive);
        }
        let (Some(header), true) = (bytes.first_chunk::<TABLE>(), bytes.len() >= STATES) else {
            return Err(missing(STATES as u64));
        };
        let [_, blocks, len, words, options, sum] =
            core::array::from_fn(|i| field(header, 4 * i).unwrap_or_default());
        let len = len as usize;
        if blocks as usize != len.div_ceil(BLOCK) {
            return Err(bad("G-2.2", "number of blocks", u64::from(blocks)));
        }
        let scale_bits = (options & 0xf) as u8;
        if !SCALES.contains(&scale_bits) {
            return Err(Error::ScaleBits { bits: scale_bits });
        }
        let frequencies = if len == 0 {
            None
        } else {
            let table = bytes[TABLE..STATES].as_chunks::<2>().0;
            Some(Frequencies::new(&core::array::from_fn(|i| u16::from_le_bytes(table[i])), scale_bits)?)
        };
        // In 64 bits, nothing overflows: there are at most 2^20 blocks and 2^32 words.
        let blocks = u64::from(blocks);
        let directory_start = STATES as u64 + STATES_BYTES as u64 * blocks;
        let words_start = directory_start + 8 * blocks.next_multiple_of(2);
        let end = words_start + WORD_BYTES as u64 * u64::from(words);
        if end > bytes.len() as u64 {
            return Err(missing(end));
        }
        let (directory_start, words_start) = (directory_start as usize, words_start as usize);
        let directory = &bytes[directory_start..directory_start + 8 * blocks as usize];
        let archive = Archive {
            len,
            frequencies,
            checksum: (options & HAS_CHECKSUM != 0).then_some(sum),
            states: bytes[STATES..directory_start].as_chunks().0,
            directory: directory.as_chunks().0,
            words: &bytes[words_start..end as usize],
            bytes: end as usize,
        };
        // In 64 bits, where no sum of lengths that are not checked yet overflows.
        let mut at = 0u64;
        for block in 0..archive.blocks() {
            let (len, words, start) = archive.entry(block);
            if len != archive.block_len(block) {
                return Err(bad("G-2.3", "number of bytes of a block", len as u64));
            }
            if start as u64 != at {
                return Err(bad("G-2.3", "start of a block's words", start as u64));
            }
            at += words.next_multiple_of(WORDS_ALIGNMENT) as u64;
        }
        if at != u64::from(words) {
            return Err(bad("G-2.2", "number of words", u64::from(words)));
        }
        Ok(archive)
    }

    /// The number of bytes that it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of bytes that it takes.
    #[must_use]
    pub const fn archive_len(&self) -> usize {
        self.bytes
    }

    /// The frequencies; `None` if it is empty.
    #[must_use]
    pub const fn frequencies(&self) -> Option<&Frequencies> {
        self.frequencies.as_ref()
    }

    const fn blocks(&self) -> usize {
        self.directory.len()
    }

    fn block_len(&self, block: usize) -> usize {
        BLOCK.min(self.len - block * BLOCK)
    }

    /// Bytes, words, and the first word of a block (G-2.3).
    fn entry(&self, block: usize) -> (usize, usize, usize) {
        let entry = &self.directory[block];
        let [sizes, start] = [0, 4].map(|at| field(entry, at).unwrap_or_default());
        ((sizes >> 16) as usize, (sizes & 0xffff) as usize, start as usize)
    }

    /// Decodes all bytes.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    ///
    /// ```
    /// use df11::dietgpu::{Archive, encode};
    ///
    /// let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 17) as u8).collect();
    /// assert_eq!(Archive::new(&encode(&bytes, 10, true)?)?.decode()?, bytes);
    /// # Ok::<(), df11::Error>(())
    /// ```
    #[cfg(feature = "alloc")]
    pub fn decode(&self) -> Result<alloc::vec::Vec<u8>, Error> {
        let mut out = alloc::vec![0; self.len()];
        self.decode_into(&mut out).map(|()| out)
    }

    /// Decodes all bytes to the caller's memory.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    #[cfg(feature = "alloc")]
    pub fn decode_into(&self, out: &mut [u8]) -> Result<(), Error> {
        self.decode_in(&mut alloc::boxed::Box::new(DecodeTable::EMPTY), out)
    }

    /// Decodes all bytes without an allocator: `table` is the caller's memory.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] unless `out` has [`len`](Self::len) bytes;
    /// [`Error::ArchiveChecksum`], or what is wrong with a block. The content of `out` is then
    /// unspecified.
    pub fn decode_in(&self, table: &mut DecodeTable, out: &mut [u8]) -> Result<(), Error> {
        let (expected, found) = (self.len as u64, out.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "out", expected, found });
        }
        let Some(frequencies) = &self.frequencies else { return self.check(&[]) };
        table.build(frequencies);
        for (i, out) in out.chunks_mut(MANY * BLOCK).enumerate() {
            let number = out.len().div_ceil(BLOCK);
            let mut parts = out.chunks_mut(BLOCK);
            let mut blocks: [DecodeBlock<'_>; MANY] = core::array::from_fn(|j| {
                let symbols = parts.next().unwrap_or_default();
                if symbols.is_empty() {
                    return DecodeBlock { states: &[0; STATES_BYTES], words: &[], words_bytes: 0, symbols };
                }
                let (_, words, start) = self.entry(MANY * i + j);
                DecodeBlock {
                    states: &self.states[MANY * i + j],
                    words: &self.words[start * WORD_BYTES..],
                    words_bytes: words * WORD_BYTES,
                    symbols,
                }
            });
            table.decode_blocks(Level::best(), &mut blocks[..number])?;
        }
        self.check(out)
    }

    fn check(&self, out: &[u8]) -> Result<(), Error> {
        compare(self.checksum, checksum(out))
    }
}

fn compare(stated: Option<u32>, found: u32) -> Result<(), Error> {
    match stated {
        Some(expected) if expected != found => Err(Error::ArchiveChecksum { expected, found }),
        _ => Ok(()),
    }
}

/// A view over the bytes of a float archive.
#[derive(Clone, Debug)]
pub struct FloatArchive<'a> {
    element_type: ElementType,
    checksum: Option<u32>,
    raw: &'a [u8],
    coded: Archive<'a>,
}

impl<'a> FloatArchive<'a> {
    /// Checks an archive at the front of these bytes; what follows it is ignored.
    ///
    /// # Errors
    ///
    /// As [`Archive::new`]; [`Error::ArchiveField`] also if the type is none of F16, BF16 and F32.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if field(bytes, 0).is_some_and(|magic| magic != FLOAT_MAGIC) {
            return Err(Error::NotAnArchive);
        }
        let missing = |expected: u64| Error::ArchiveLength { expected, found: bytes.len() as u64 };
        let [Some(len), Some(options), Some(sum)] = [4, 8, 12].map(|at| field(bytes, at)) else {
            return Err(missing(FLOAT_HEADER as u64));
        };
        let element_type = match options & 0xf {
            1 => ElementType::F16,
            2 => ElementType::Bf16,
            3 => ElementType::F32,
            other => return Err(bad("G-5.1", "float type", u64::from(other))),
        };
        let end = FLOAT_HEADER as u64 + raw_len(element_type, u64::from(len));
        let Some((raw, coded)) = usize::try_from(end).ok().and_then(|end| bytes.split_at_checked(end)) else {
            return Err(missing(end));
        };
        let coded = Archive::new(coded)?;
        if coded.len() != len as usize {
            return Err(bad("G-5.1", "number of elements", u64::from(len)));
        }
        if coded.checksum.is_some() {
            return Err(bad("G-5.1", "checksum of its own in the archive of coded bytes", 1));
        }
        let checksum = (options & HAS_CHECKSUM != 0).then_some(sum);
        Ok(FloatArchive { element_type, checksum, raw: &raw[FLOAT_HEADER..], coded })
    }

    /// What the elements are.
    #[must_use]
    pub const fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.coded.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.coded.is_empty()
    }

    /// The number of bytes that it takes.
    #[must_use]
    pub const fn archive_len(&self) -> usize {
        FLOAT_HEADER + self.raw.len() + self.coded.archive_len()
    }

    /// Decodes all elements, little-endian.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    #[cfg(feature = "alloc")]
    pub fn decode(&self) -> Result<alloc::vec::Vec<u8>, Error> {
        let mut elements = alloc::vec![0; self.len() * self.element_type.bytes()];
        self.decode_into(&mut elements).map(|()| elements)
    }

    /// Decodes all elements, little-endian, to the caller's memory.
    ///
    /// # Errors
    ///
    /// As [`decode_in`](Self::decode_in).
    #[cfg(feature = "alloc")]
    pub fn decode_into(&self, elements: &mut [u8]) -> Result<(), Error> {
        self.decode_in(&mut alloc::boxed::Box::new(DecodeTable::EMPTY), elements)
    }

    /// Decodes all elements, little-endian, without an allocator: `table` is the caller's memory.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLength`] unless `elements` has room for just all of them; otherwise as
    /// [`Archive::decode_in`].
    pub fn decode_in(&self, table: &mut DecodeTable, elements: &mut [u8]) -> Result<(), Error> {
        let (n, size) = (self.len(), self.element_type.bytes());
        let (expected, found) = ((n * size) as u64, elements.len() as u64);
        if expected != found {
            return Err(Error::BufferLength { buffer: "elements", expected, found });
        }
        // At the end of the elements, from where they are merged in place, as frames do.
        let start = (size - 1) * n;
        self.coded.decode_in(table, &mut elements[start..])?;
        match self.element_type {
            ElementType::F16 => in_place::<2, 1>(elements, [self.raw], |coded, [raw]| [raw, coded]),
            ElementType::F32 => {
                let (low, high) = self.raw.split_at(high_plane(n));
                for (i, (low, high)) in low.as_chunks::<2>().0.iter().zip(high).enumerate().take(n) {
                    let coded = u32::from(elements[start + i]);
                    let raw = u32::from(*high) << 16 | u32::from(u16::from_le_bytes(*low));
                    let to = ((raw & 1) << 31 | coded << 23 | raw >> 1).to_le_bytes();
                    elements[4 * i..4 * i + 4].copy_from_slice(&to);
                }
            }
            _ => in_place::<2, 1>(elements, [self.raw], |coded, [raw]| {
                let (coded, raw) = (u16::from(coded), u16::from(raw));
                ((raw & 1) << 15 | coded << 7 | raw >> 1).to_le_bytes()
            }),
        }
        compare(self.checksum, checksum(&elements[..n]))
    }
}

/// Where the second plane of F32 begins.
const fn high_plane(len: usize) -> usize {
    (2 * len).next_multiple_of(ALIGNMENT)
}

/// Bytes of the raw planes (G-5.1).
fn raw_len(element_type: ElementType, len: u64) -> u64 {
    let one = len.next_multiple_of(ALIGNMENT as u64);
    if element_type == ElementType::F32 { (2 * len).next_multiple_of(ALIGNMENT as u64) + one } else { one }
}

/// Normalises counts as dietgpu's encoder does (G-3.1), for archives of the same bytes.
///
/// # Errors
///
/// [`Error::ScaleBits`] unless `scale_bits` is 9 to 11, [`Error::NoSymbols`] if all counts are 0.
///
/// ```
/// use df11::dietgpu;
///
/// let mut counts = [0; 256];
/// (counts[253], counts[254], counts[255]) = (1, 1, 1);
/// let frequencies = dietgpu::normalise(&counts, 10)?;
/// // What is missing to 1024 goes to byte 0, which does not occur.
/// assert_eq!([0, 253, 254, 255].map(|byte| frequencies.of(byte)), [1, 341, 341, 341]);
/// # Ok::<(), df11::Error>(())
/// ```
pub fn normalise(counts: &[u32; 256], scale_bits: u8) -> Result<Frequencies, Error> {
    if !SCALES.contains(&scale_bits) {
        return Err(Error::ScaleBits { bits: scale_bits });
    }
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    if total == 0 {
        return Err(Error::NoSymbols);
    }
    let slots = 1u32 << scale_bits;
    let share = |count: u32| (slots as f32 * (count as f32 / total as f32)) as u32;
    let mut frequencies = counts.map(|count| if count == 0 { 0 } else { share(count).max(1) });
    let mut missing = i64::from(slots) - frequencies.iter().map(|&f| i64::from(f)).sum::<i64>();
    let mut order: [u8; 256] = core::array::from_fn(|i| i as u8);
    order.sort_unstable_by_key(|&byte| core::cmp::Reverse((frequencies[usize::from(byte)], byte)));
    while missing > 0 {
        for frequency in frequencies.iter_mut().take(missing.min(256) as usize) {
            *frequency += 1;
            missing -= 1;
        }
    }
    while missing < 0 {
        let above = frequencies.iter().filter(|frequency| **frequency > 1).count();
        let first = above.saturating_sub(missing.unsigned_abs() as usize);
        for &byte in &order[first..above] {
            frequencies[usize::from(byte)] -= 1;
            missing += 1;
        }
    }
    Frequencies::new(&frequencies.map(|frequency| frequency as u16), scale_bits)
}

/// The most bytes that an archive takes: of floats of this type, or of bytes for
/// [`U8`](ElementType::U8). `None` if they cannot be counted, or there are no such archives.
///
/// ```
/// use df11::dietgpu;
/// use df11::frame::ElementType;
///
/// let floats = vec![0x3c; 2 * 10_000];
/// let bound = dietgpu::bound(ElementType::F16, 10_000).ok_or("too many")?;
/// assert!(dietgpu::encode_floats(ElementType::F16, &floats, 10, true)?.len() <= bound);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn bound(element_type: ElementType, elements: usize) -> Option<usize> {
    let len = u32::try_from(elements).ok()?;
    let raw = match element_type {
        ElementType::U8 => 0,
        ElementType::F16 | ElementType::Bf16 | ElementType::F32 => {
            FLOAT_HEADER as u64 + raw_len(element_type, u64::from(len))
        }
        _ => return None,
    };
    // States, directory and padding of a block; its words are at most as many as its symbols.
    let each = STATES_BYTES + 8 + WORD_BYTES * WORDS_ALIGNMENT;
    let words = WORD_BYTES as u64 * u64::from(len);
    let blocks = u64::from(len).div_ceil(BLOCK as u64) * each as u64;
    usize::try_from(raw + STATES as u64 + 8 + blocks + words).ok()
}

/// Writes bytes as an ANS archive; zeros where the format leaves bytes undefined.
///
/// # Errors
///
/// [`Error::ScaleBits`] unless `scale_bits` is 9 to 11; [`Error::ArchiveField`] from 2^32 bytes on.
#[cfg(feature = "alloc")]
pub fn encode(bytes: &[u8], scale_bits: u8, with_checksum: bool) -> Result<Vec<u8>, Error> {
    let mut archive = Vec::new();
    append(&mut archive, bytes, scale_bits, with_checksum.then(|| checksum(bytes)))?;
    Ok(archive)
}

#[cfg(feature = "alloc")]
fn append(archive: &mut Vec<u8>, bytes: &[u8], scale_bits: u8, checksum: Option<u32>) -> Result<(), Error> {
    if !SCALES.contains(&scale_bits) {
        return Err(Error::ScaleBits { bits: scale_bits });
    }
    let len = u32::try_from(bytes.len()).map_err(|_| bad("G-2.1", "number of bytes", bytes.len() as u64))?;
    let mut counts = [0; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let frequencies = if len > 0 { Some(normalise(&counts, scale_bits)?) } else { None };
    let blocks = bytes.len().div_ceil(BLOCK);

    let start = archive.len();
    let options = u32::from(scale_bits) | if checksum.is_some() { HAS_CHECKSUM } else { 0 };
    for field in [MAGIC, blocks as u32, len, 0, options, checksum.unwrap_or_default(), 0, 0] {
        archive.extend(field.to_le_bytes());
    }
    for symbol in 0..=u8::MAX {
        archive.extend(frequencies.as_ref().map_or(0, |frequencies| frequencies.of(symbol)).to_le_bytes());
    }
    let Some(frequencies) = frequencies else { return Ok(()) };
    let table = EncodeTable::new(&frequencies);
    let directory = archive.len() + STATES_BYTES * blocks;
    archive.resize(directory + 8 * blocks.next_multiple_of(2), 0);
    let mut words = vec![0; MANY * words_bound(BLOCK)];
    let mut at = 0;
    for (i, some) in bytes.chunks(MANY * BLOCK).enumerate() {
        let mut states = [[0; STATES_BYTES]; MANY];
        let parts = some.chunks(BLOCK).zip(words.chunks_mut(words_bound(BLOCK))).zip(&mut states);
        let mut encoded: Vec<_> = parts
            .map(|((symbols, words), states)| EncodeBlock { symbols, states, words, words_bytes: 0 })
            .collect();
        table.encode_blocks(Level::best(), &mut encoded)?;
        for (j, block) in encoded.iter().enumerate() {
            let number = block.words_bytes / WORD_BYTES;
            let entry = directory + 8 * (MANY * i + j);
            let sizes = (block.symbols.len() << 16 | number) as u32;
            archive[entry..entry + 4].copy_from_slice(&sizes.to_le_bytes());
            archive[entry + 4..entry + 8].copy_from_slice(&(at as u32).to_le_bytes());
            let states = start + STATES + STATES_BYTES * (MANY * i + j);
            archive[states..states + STATES_BYTES].copy_from_slice(block.states);
            archive.extend_from_slice(&block.words[..block.words_bytes]);
            let padded = number.next_multiple_of(WORDS_ALIGNMENT);
            archive.resize(archive.len() + (padded - number) * WORD_BYTES, 0);
            at += padded;
        }
    }
    archive[start + 12..start + 16].copy_from_slice(&(at as u32).to_le_bytes());
    Ok(())
}

/// Writes elements as a float archive; zeros where the format leaves bytes undefined.
///
/// # Errors
///
/// [`Error::ArchiveField`] for types other than F16, BF16 and F32, a number of bytes that is none
/// of whole elements, and from 2^32 elements on; [`Error::ScaleBits`] unless `scale_bits` is 9
/// to 11.
#[cfg(feature = "alloc")]
pub fn encode_floats(
    element_type: ElementType,
    elements: &[u8],
    scale_bits: u8,
    with_checksum: bool,
) -> Result<Vec<u8>, Error> {
    let number: u32 = match element_type {
        ElementType::F16 => 1,
        ElementType::Bf16 => 2,
        ElementType::F32 => 3,
        other => return Err(bad("G-5.1", "float type", u64::from(other.number()))),
    };
    let size = element_type.bytes();
    if !elements.len().is_multiple_of(size) {
        return Err(bad("G-5.1", "number of bytes", elements.len() as u64));
    }
    let n = elements.len() / size;
    let len = u32::try_from(n).map_err(|_| bad("G-5.1", "number of elements", n as u64))?;
    let options = number | if with_checksum { HAS_CHECKSUM } else { 0 };
    let sum = if with_checksum { checksum(&elements[..n]) } else { 0 };
    let mut archive = Vec::with_capacity(elements.len());
    for field in [FLOAT_MAGIC, len, options, sum] {
        archive.extend(field.to_le_bytes());
    }
    let mut raw = vec![0; raw_len(element_type, n as u64) as usize];
    let mut coded = vec![0; n];
    for (i, (element, coded)) in elements.chunks_exact(size).zip(&mut coded).enumerate() {
        let bits = element.iter().rev().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        match element_type {
            ElementType::F16 => (*coded, raw[i]) = ((bits >> 8) as u8, bits as u8),
            ElementType::F32 => {
                let rest = (bits & 0x7f_ffff) << 1 | bits >> 31;
                *coded = (bits >> 23) as u8;
                raw[2 * i..2 * i + 2].copy_from_slice(&(rest as u16).to_le_bytes());
                raw[high_plane(n) + i] = (rest >> 16) as u8;
            }
            _ => (*coded, raw[i]) = ((bits >> 7) as u8, ((bits & 0x7f) << 1 | bits >> 15) as u8),
        }
    }
    archive.extend(raw);
    append(&mut archive, &coded, scale_bits, None)?;
    Ok(archive)
}
