//! A delta of method 2 in its parts, to be changed in one place: what is made of it again has all
//! lengths and checksums right.

use df11_reference::frame::crc;

/// Bytes of an element, by type (F-4.1).
pub(crate) const BYTES: [usize; 6] = [1, 2, 2, 4, 1, 1];

/// Bytes of the fields before the thresholds.
const FRONT: usize = 44;

/// Bytes of the states of 32 lanes.
const STATES: usize = 128;

/// A block in its parts (B-5.6).
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// How many escapes there are, and how many coded elements.
    pub(crate) escapes: u32,
    pub(crate) coded: u32,
    /// The seed of its checksum: its number.
    pub(crate) seed: u32,
    /// The checksums of its elements of the base and of the result.
    pub(crate) base: u32,
    pub(crate) result: u32,
    pub(crate) states: Vec<u8>,
    pub(crate) escape_states: Vec<u8>,
    pub(crate) words: Vec<u8>,
    pub(crate) escape_words: Vec<u8>,
    pub(crate) escape_bytes: Vec<u8>,
    pub(crate) raw: Vec<u8>,
}

impl Block {
    fn bytes(&self, padding: u8) -> Vec<u8> {
        let parts = [&self.states, &self.escape_states, &self.words, &self.escape_words];
        let mut bytes: Vec<u8> = parts.into_iter().flatten().copied().collect();
        bytes.extend(self.escape_bytes.iter().chain(&self.raw));
        bytes.resize(bytes.len().next_multiple_of(4), padding);
        bytes
    }
}

/// A delta in its parts.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The fields up to the number of elements that differ.
    pub(crate) front: Vec<u8>,
    pub(crate) thresholds: Vec<u8>,
    /// Tables, that of escapes last, in their items (B-5.4).
    pub(crate) tables: Vec<Vec<Vec<u8>>>,
    pub(crate) map: Option<u16>,
    pub(crate) blocks: Vec<Block>,
    /// What padding after the header and after each block consists of.
    pub(crate) header_padding: u8,
    pub(crate) block_padding: u8,
    /// A frame, or nothing.
    pub(crate) rest: Vec<u8>,
}

/// Takes bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(len);
    *bytes = rest;
    front
}

/// Takes a table off the front, in its items.
fn table(bytes: &mut &[u8]) -> Vec<Vec<u8>> {
    let (mut items, mut sum) = (Vec::new(), 0);
    while sum < 2048 {
        let first = usize::from(bytes[0]);
        let item = take(bytes, if (1..128).contains(&first) { 1 } else { 2 }).to_vec();
        sum += match first {
            0 => 0,
            1..128 => first,
            _ => 256 * (first - 128) + usize::from(item[1]),
        };
        items.push(item);
    }
    items
}

impl Sample {
    /// Takes a sound delta of method 2 apart.
    pub(crate) fn new(delta: &[u8]) -> Sample {
        let mut bytes = delta;
        let front = take(&mut bytes, FRONT).to_vec();
        let [size, raw, tables, flags] = [9, 11, 12, 13].map(|at| usize::from(front[at]));
        let (size, of_escapes) = (BYTES[size], flags >> 1);
        let common = u64::from_le_bytes(front[24..32].try_into().unwrap()) as usize;
        let block_len = u32::from_le_bytes(front[32..36].try_into().unwrap()) as usize;
        let thresholds = take(&mut bytes, tables - 1).to_vec();
        let tables = (0..tables + of_escapes).map(|_| table(&mut bytes)).collect();
        let map = (flags & 1 == 1).then(|| take(&mut bytes, 2));
        let map = map.map(|bytes| u16::from_le_bytes(bytes.try_into().unwrap()));
        let directory = take(&mut bytes, 28 * common.div_ceil(block_len));
        take(&mut bytes, 4);
        let align = |bytes: &mut &[u8]| {
            take(bytes, (delta.len() - bytes.len()).wrapping_neg() % 4);
        };
        align(&mut bytes);
        let block = |(seed, entry): (u32, &[u8])| {
            let field = |i: usize| u32::from_le_bytes(entry[4 * i..4 * i + 4].try_into().unwrap());
            let [w, v, e, k] = [0, 1, 2, 3].map(|i| field(i) as usize);
            let mut part = |len| take(&mut bytes, len).to_vec();
            let states = part(STATES);
            let escape_states = part(if of_escapes > 0 && e > 0 { STATES } else { 0 });
            let (words, escape_words) = (part(2 * w), part(2 * v));
            let (escape_bytes, raw) = (part((size - of_escapes) * e), part(raw * k));
            align(&mut bytes);
            let (escapes, coded, base, result) = (field(2), field(3), field(5), field(6));
            Block {
                escapes,
                coded,
                seed,
                base,
                result,
                states,
                escape_states,
                words,
                escape_words,
                escape_bytes,
                raw,
            }
        };
        let blocks = (0..).zip(directory.chunks(28)).map(block).collect();
        let (header_padding, block_padding, rest) = (0, 0, bytes.to_vec());
        let sample = Sample { front, thresholds, tables, map, blocks, header_padding, block_padding, rest };
        assert!(sample.bytes() == delta, "a sample is what it was made of");
        sample
    }

    /// The number of bytes of padding after the header.
    pub(crate) fn padded(&self) -> usize {
        self.header().len().wrapping_neg() % 4
    }

    /// The header, with its checksum.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut header = [&self.front[..], &self.thresholds].concat();
        header.extend(self.tables.iter().flatten().flatten());
        header.extend(self.map.iter().flat_map(|frequency| frequency.to_le_bytes()));
        for block in &self.blocks {
            let [w, v] = [&block.words, &block.escape_words].map(|words| words.len() as u32 / 2);
            let stored = crc(block.seed, &block.bytes(self.block_padding));
            let fields = [w, v, block.escapes, block.coded, stored, block.base, block.result];
            header.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        }
        let check = crc(0, &header);
        header.extend(check.to_le_bytes());
        header
    }

    /// The delta.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        bytes.resize(bytes.len().next_multiple_of(4), self.header_padding);
        bytes.extend(self.blocks.iter().flat_map(|block| block.bytes(self.block_padding)));
        bytes.extend(&self.rest);
        bytes
    }
}
