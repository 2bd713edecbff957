//! Blocks of each codec.

use alloc::vec::Vec;

use df11_simd::{Operation, Simd};

use super::{Coder, Encoder, MANY, pad};
use crate::frame::{ALIGNMENT, BLOCK_HEADER, crc, planes};
use crate::rans::{EncodeBlock, STATES_BYTES, words_bound};
use crate::{Error, dictionary};

/// Blocks that were encoded one after the other, and the memory that it took: to be used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// The number of the first.
    pub(super) first: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    coded: Vec<u8>,
    /// With a dictionary, the codes.
    pub(super) words: Vec<u8>,
    /// The planes of each block.
    pub(super) raw: Vec<u8>,
    /// With a dictionary, the numbers of groups.
    pub(super) groups: Vec<[u8; 2]>,
}

/// What the directory and the digest need to know of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) bytes: usize,
    pub(super) checksum: u32,
    pub(super) elements_bytes: usize,
    /// The checksum of its elements.
    pub(super) digest: u32,
}

/// Encodes at most [`MANY`] blocks, after those that are there.
pub(super) struct EncodeSome<'e, 'a> {
    pub(super) encoder: &'e Encoder,
    pub(super) blocks: &'e mut Blocks,
    pub(super) elements: &'a [u8],
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
pub(super) struct EncodeChunks<'e, 'a> {
    pub(super) encoder: &'e Encoder,
    pub(super) table: &'e dictionary::EncodeTable,
    pub(super) blocks: &'e mut Blocks,
    pub(super) elements: &'a [u8],
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
