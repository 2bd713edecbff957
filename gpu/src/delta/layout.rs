//! Where the parts of a delta are: its bytes, checked by the host, taken apart for the kernels.

use df11::Error;
use df11::delta::Delta;
use df11::frame::{ElementType, Frame};
use df11::hazmat::delta;

use super::tail::Tail;

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

impl<'a> Layout<'a> {
    /// Checks a delta, its blocks' own checksums and its frame, and takes it apart.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let delta = Delta::new(bytes)?;
        delta.verify_stored()?;
        let element_type = delta.element_type();
        let body = match delta.body() {
            delta::Body::Same { elements } => Body::Same { base: elements },
            delta::Body::List { base, result, entries } => {
                let (mut positions, mut values) = (Vec::new(), Vec::new());
                for (position, element) in entries {
                    positions.push(position as u64);
                    values.extend(element);
                }
                Body::List { base, result, positions, values }
            }
            delta::Body::Coded(coded) => Body::Coded(Coded::new(&coded, &delta)?),
            delta::Body::Frame => Body::Frame,
            _ => return Err(Error::DeltaUnsupported { field: "method", number: delta.method().number() }),
        };
        // The frame of a tensor without elements has nothing for kernels to do.
        let frame = delta.frame().filter(|_| delta.len() > delta.common());
        let tail = frame.map(|frame| Tail::new(&Frame::new(frame)?, frame)).transpose()?;
        Ok(Layout { element_type, len: delta.len(), common: delta.common(), body, tail })
    }
}

impl<'a> Coded<'a> {
    fn new(parts: &delta::Coded<'a>, delta: &Delta<'_>) -> Result<Self, Error> {
        let frequencies: Vec<_> = parts.frequencies().collect();
        let mut coded = Coded {
            low: parts.low as u8,
            elements_of_block: delta.block_range(0).len(),
            tables: kernel_tables(parts.thresholds, &frequencies),
            n_tables: frequencies.len(),
            codes_escapes: parts.codes_escapes,
            map_one: parts.map.map_or(0, |one| one as u16),
            blocks: Vec::with_capacity(delta.blocks()),
            data: parts.bytes,
        };
        let mut at = 0;
        for (number, block) in parts.blocks().enumerate() {
            check(parts, &block, delta.block_range(number).len())?;
            coded.blocks.push(Block {
                at,
                words: block.words as u32,
                escape_words: block.escape_words as u32,
                escapes: block.escapes as u32,
                coded: block.coded as u32,
                base: block.base_crc,
                result: block.result_crc,
            });
            at += block.bytes.len();
        }
        Ok(coded)
    }
}

/// Checks the numbers of a block of this many elements, and its padding.
fn check(parts: &delta::Coded<'_>, block: &delta::Block<'_>, elements: usize) -> Result<(), Error> {
    let delta::Block { words, escape_words, escapes, coded, .. } = *block;
    let wrong = |what, expected: usize| Err(Error::DeltaCount { what, expected: expected as u64 });
    if escape_words > 0 && (!parts.codes_escapes || escapes == 0) {
        return wrong("words of escapes", escape_words);
    }
    if coded > elements || (parts.map.is_none() && coded < elements) {
        return wrong("coded elements", coded);
    }
    if escapes > coded {
        return wrong("escapes", escapes);
    }
    // A step of 32 lanes takes at most 32 words; kernels count them with a sign.
    if words > elements + elements.div_ceil(64) || escape_words > escapes {
        return Err(Error::WordsLeft { words });
    }
    let padding = block.bytes.iter().rev().take(block.padding);
    if padding.into_iter().any(|byte| *byte != 0) { Err(Error::DeltaReserved) } else { Ok(()) }
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
