//! ANS archives: any bytes.

#[cfg(feature = "alloc")]
use alloc::vec;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::{
    BLOCK, HAS_CHECKSUM, MAGIC, MANY, SCALES, STATES, TABLE, WORDS_ALIGNMENT, bad, compare, field, sum_of,
};
#[cfg(feature = "alloc")]
use super::{Checksum, normalise, wrong};
use crate::rans::{DecodeBlock, DecodeTable, Frequencies, STATES_BYTES, WORD_BYTES};
#[cfg(feature = "alloc")]
use crate::rans::{EncodeBlock, EncodeTable, words_bound};
use crate::{Error, Level};

/// A view over the bytes of an ANS archive. Everything except the words has been checked.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    len: usize,
    /// `None` in an empty archive.
    frequencies: Option<Frequencies>,
    pub(super) checksum: Option<u32>,
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
    /// [`Error::ArchiveField`] or [`Error::FrequencySum`] for what breaks a rule of section 2.
    ///
    /// ```
    /// use df11::dietgpu::{self, Archive};
    ///
    /// let bytes = dietgpu::encode(b"some bytes, of which some come again", 10, dietgpu::Checksum::Stated)?;
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
            return Err(bad("R-2.1", "number of scale bits", u64::from(scale_bits)));
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
    /// The errors of [`decode_in`](Self::decode_in).
    ///
    /// ```
    /// use df11::dietgpu::{Archive, Checksum, encode};
    ///
    /// let bytes: Vec<u8> = (0..10_000u32).map(|i| (i % 17) as u8).collect();
    /// assert_eq!(Archive::new(&encode(&bytes, 10, Checksum::Stated)?)?.decode()?, bytes);
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
        self.decode_in(&mut alloc::boxed::Box::new(DecodeTable::new()), out)
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
        compare(self.checksum, sum_of(out))
    }
}

/// Writes bytes as an ANS archive; zeros where the format leaves bytes undefined.
///
/// # Errors
///
/// [`Error::ScaleBits`] unless `scale_bits` is 9 to 11; [`Error::InvalidArgument`] from 2^32 bytes
/// on.
#[cfg(feature = "alloc")]
pub fn encode(bytes: &[u8], scale_bits: u8, checksum: Checksum) -> Result<Vec<u8>, Error> {
    let mut archive = Vec::new();
    append(&mut archive, bytes, scale_bits, checksum.is_stated().then(|| sum_of(bytes)))?;
    Ok(archive)
}

#[cfg(feature = "alloc")]
pub(super) fn append(
    archive: &mut Vec<u8>,
    bytes: &[u8],
    scale_bits: u8,
    checksum: Option<u32>,
) -> Result<(), Error> {
    if !SCALES.contains(&scale_bits) {
        return Err(Error::ScaleBits { bits: scale_bits });
    }
    let len = u32::try_from(bytes.len()).map_err(|_| wrong("number of bytes of an archive", bytes.len()))?;
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
