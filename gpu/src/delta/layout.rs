//! Where the parts of a delta are: its bytes, checked by the host, taken apart for the kernels.

use df11::delta::{Delta, Method};
use df11::frame::{ElementType, Frame};
use df11::hazmat::rans::STATES_BYTES;
use df11::{DeltaPart, Error};

use super::tail::Tail;

/// Bytes of the header before the fields that the method adds (B-3.1).
const HEADER: usize = 36;

/// Bytes of an entry of the directory (B-5.5).
const ENTRY: usize = 28;

/// The sum of the frequencies of a table (B-5.3).
const SUM: usize = 1 << 11;

/// Bytes of a table of the kernel: `TABLE_BYTES` of `delta_block.cuh`.
const TABLE_BYTES: usize = SUM + 4 * 256;

/// A delta whose header, tables, blocks and frame the host has checked: everything that can be
/// without the base.
#[derive(Clone, Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) element_type: ElementType,
    /// The number of elements of the result, and how many are given against the base.
    pub(crate) len: usize,
    pub(crate) common: usize,
    pub(crate) body: Body<'a>,
    pub(crate) tail: Option<Tail<'a>>,
}

/// The common elements, as the method has them.
#[derive(Clone, Debug)]
pub(crate) enum Body<'a> {
    /// They are those of the base, which has this checksum.
    Same {
        base: u32,
    },
    /// Some are others: which, and their bytes, one after the other.
    List {
        base: u32,
        result: u32,
        positions: Vec<u64>,
        values: Vec<u8>,
    },
    Coded(Coded<'a>),
    /// There are none.
    Frame,
}

/// What the blocks of method 2 share, and the blocks.
#[derive(Clone, Debug)]
pub(crate) struct Coded<'a> {
    pub(crate) low: u8,
    pub(crate) elements_of_block: usize,
    /// The offset of the table for each exponent, then of each table the symbol of each slot, and
    /// what comes before each symbol and its frequency, as `load_tables` reads them.
    pub(crate) tables: Vec<u8>,
    /// The number of tables, that of escapes included.
    pub(crate) n_tables: usize,
    pub(crate) codes_escapes: bool,
    /// The frequency of symbol 1 of the map; 0 without a map.
    pub(crate) map_one: u16,
    pub(crate) blocks: Vec<Block>,
    pub(crate) data: &'a [u8],
}

/// A block: its offset in the bytes of the blocks, and its entry in the directory (B-5.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) at: usize,
    pub(crate) words: u32,
    pub(crate) escape_words: u32,
    pub(crate) escapes: u32,
    pub(crate) coded: u32,
    pub(crate) base: u32,
    pub(crate) result: u32,
}

/// Takes fields off the front of bytes that were checked: fields that are missing are 0.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = &rest[..len.min(rest.len())];
        self.at += taken.len();
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u32 {
        self.bytes(4).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// A number of variable length (B-2.3).
    fn gap(&mut self) -> u64 {
        let mut gap = 0;
        for i in 0..5 {
            let byte = self.byte();
            gap |= u64::from(byte & 127) << (7 * i);
            if byte < 128 {
                break;
            }
        }
        gap
    }

    /// The frequencies of a table (B-5.4), up to their sum.
    fn frequencies(&mut self) -> [u16; 256] {
        let (mut frequencies, mut symbol, mut sum) = ([0; 256], 0, 0);
        while sum < SUM && symbol < 256 && self.at < self.bytes.len() {
            let first = self.byte();
            let frequency = match first {
                0 => {
                    symbol += 1 + usize::from(self.byte());
                    continue;
                }
                1..=127 => u16::from(first),
                _ => u16::from(first - 128) << 8 | u16::from(self.byte()),
            };
            frequencies[symbol] = frequency;
            sum += usize::from(frequency);
            symbol += 1;
        }
        frequencies
    }
}

impl<'a> Layout<'a> {
    /// Checks a delta, its blocks' own checksums and its frame, and takes it apart.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let delta = Delta::new(bytes)?;
        delta.verify_stored()?;
        let element_type = delta.element_type();
        let mut fields = Fields { bytes, at: HEADER };
        let body = match delta.method() {
            Method::Same => Body::Same { base: fields.number() },
            Method::List => list(&mut fields, element_type.bytes()),
            Method::Frame => Body::Frame,
            Method::Coded => Body::Coded(Coded::new(&mut fields, &delta)?),
            other => return Err(Error::DeltaUnsupported { field: "method", number: other.number() }),
        };
        let mut tail = None;
        if delta.len() > delta.common() {
            if !matches!(body, Body::Coded(_)) {
                // The checksum of the header, which comes before the blocks.
                fields.number();
            }
            let rest = bytes.get(fields.at..).unwrap_or_default();
            tail = Some(Tail::new(&Frame::new(rest)?, rest)?);
        }
        Ok(Layout { element_type, len: delta.len(), common: delta.common(), body, tail })
    }
}

/// The entries of method 1.
fn list<'a>(fields: &mut Fields<'a>, size: usize) -> Body<'a> {
    let (base, result, number) = (fields.number(), fields.number(), fields.number());
    let (mut positions, mut values, mut next) = (Vec::new(), Vec::new(), 0);
    for _ in 0..number {
        next += fields.gap();
        positions.push(next);
        values.extend(fields.bytes(size));
        next += 1;
    }
    Body::List { base, result, positions, values }
}

impl<'a> Coded<'a> {
    fn new(fields: &mut Fields<'a>, delta: &Delta<'_>) -> Result<Self, Error> {
        let header: [u8; 3] = fields.bytes.get(11..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; 3]);
        let [low, n_tables, flags] = header;
        let (has_map, codes_escapes) = (flags & 1 == 1, flags >> 1 == 1);
        // How many elements differ.
        fields.bytes(8);
        let thresholds = fields.bytes(usize::from(n_tables).saturating_sub(1));
        let n_tables = usize::from(n_tables) + usize::from(codes_escapes);
        let frequencies: Vec<_> = (0..n_tables).map(|_| fields.frequencies()).collect();
        let map_one = if has_map { u16::from(fields.byte()) | u16::from(fields.byte()) << 8 } else { 0 };
        let directory = fields.bytes(ENTRY * delta.blocks());
        // The checksum of the header, and padding.
        fields.number();
        fields.bytes(fields.at.wrapping_neg() % 4);
        let mut coded = Coded {
            low,
            elements_of_block: delta.block_range(0).len(),
            tables: kernel_tables(thresholds, &frequencies),
            n_tables,
            codes_escapes,
            map_one,
            blocks: Vec::with_capacity(delta.blocks()),
            data: fields.bytes.get(fields.at..).unwrap_or_default(),
        };
        let (mut at, size) = (0, delta.element_type().bytes());
        for (number, entry) in directory.as_chunks::<ENTRY>().0.iter().enumerate() {
            let field =
                |i: usize| entry.as_chunks::<4>().0.get(i).map_or(0, |field| u32::from_le_bytes(*field));
            let block = Block {
                at,
                words: field(0),
                escape_words: field(1),
                escapes: field(2),
                coded: field(3),
                base: field(5),
                result: field(6),
            };
            let bytes = coded.check(number, &block, delta.block_range(number).len(), size)?;
            coded.blocks.push(block);
            at += bytes;
        }
        coded.data = fields.bytes(at);
        Ok(coded)
    }

    /// Checks the numbers of a block and its padding; returns its bytes.
    fn check(&self, number: usize, block: &Block, elements: usize, size: usize) -> Result<usize, Error> {
        let Block { words, escape_words, escapes, coded, .. } = *block;
        if escape_words > 0 && (!self.codes_escapes || escapes == 0) {
            return Err(Error::DeltaCount { what: "words of escapes", expected: u64::from(escape_words) });
        }
        let most = elements as u64;
        if u64::from(coded) > most || (self.map_one == 0 && u64::from(coded) < most) {
            return Err(Error::DeltaCount { what: "coded elements", expected: u64::from(coded) });
        }
        if escapes > coded {
            return Err(Error::DeltaCount { what: "escapes", expected: u64::from(escapes) });
        }
        // A step of 32 lanes takes at most 32 words; kernels count them with a sign.
        let longest = most + most.div_ceil(64);
        if u64::from(words) > longest || escape_words > escapes {
            return Err(Error::WordsLeft { words: words as usize });
        }
        let states = if self.codes_escapes && escapes > 0 { 2 * STATES_BYTES } else { STATES_BYTES };
        let [words, escape_words, escapes, coded] =
            [words, escape_words, escapes, coded].map(|number| number as usize);
        let each = size - usize::from(self.codes_escapes);
        let len = states + 2 * (words + escape_words) + each * escapes + usize::from(self.low) * coded;
        let end = len.next_multiple_of(4);
        let short = Error::DeltaChecksum { part: DeltaPart::Block(number as u64) };
        let padding = self.data.get(block.at + len..block.at + end).ok_or(short)?;
        if padding.iter().any(|byte| *byte != 0) { Err(Error::DeltaReserved) } else { Ok(end) }
    }
}

/// The tables in the form of the kernel: see `DeltaShared` in `delta_block.cuh`.
fn kernel_tables(thresholds: &[u8], frequencies: &[[u16; 256]]) -> Vec<u8> {
    let table = |exponent| thresholds.iter().filter(|threshold| **threshold <= exponent).count();
    let mut tables: Vec<u8> =
        (0..=u8::MAX).flat_map(|exponent| ((table(exponent) * TABLE_BYTES) as u16).to_le_bytes()).collect();
    for frequencies in frequencies {
        let slots = (0..=u8::MAX).zip(frequencies);
        let slots = slots.flat_map(|(symbol, n)| std::iter::repeat_n(symbol, usize::from(*n)));
        let end = tables.len() + SUM;
        tables.extend(slots.take(SUM));
        tables.resize(end, 0);
        let mut before = 0;
        for frequency in frequencies {
            tables.extend((before | u32::from(*frequency) << 16).to_le_bytes());
            before += u32::from(*frequency);
        }
    }
    tables
}
